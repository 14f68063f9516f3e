"""Digests by the batch generator beside a plain loop of transformers' `generate`: documents per second, same answers.

    OMP_NUM_THREADS=2 python -m benchmarks.digest --model DIR --documents 32 --loop-every 4 data/sample/drops/*.jsonl

One process, one model in memory, the same prompts, grammar, caps and budget for both:

- `loop`: `model.generate(do_sample=False)` for one document after the other, transformers' own attention and cache,
  with a LogitsProcessor that lets the same AnswerWriter allow, force and read tokens
- `batch`: `Digester.digest_batch`, all documents at once

`--loop-every K` gives the loop every K-th document by length (its cost per document varies little, and it takes
minutes); the answers of those are compared, and its rate is over those. Answers are equal if the digests are, all but
the processing time. Processor time is counted beside wall time: on a machine that does other things it is the steadier.

`--dtype bfloat16` loads the model so for both. `--skip N` leaves out the first documents, so that several sittings
compare others.
"""

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.environment import environment_lines
from smartdevdigest_ops.contracts import CrawlRecord, Digest
from smartdevdigest_ops.digesting.answer import compose_digest, read_answer
from smartdevdigest_ops.digesting.model import DigestConfig, Digester, digester_of, load_digester
from smartdevdigest_ops.digesting.prompt import build_prompt
from smartdevdigest_ops.digesting.writer import AnswerGuide, AnswerWriter
from smartdevdigest_ops.drops.files import read_drop
from smartdevdigest_ops.settings import DigestingSettings


class GuidedLoop:
    """One document at a time through `generate`."""

    def __init__(self, model: Any, digester: Digester, attention: str) -> None:
        self.model = model
        self.tokenizer = digester.tokenizer
        self.settings = digester.settings
        self.guide = AnswerGuide(self.tokenizer, self.model.config.vocab_size, self.settings)
        self.max_prompt_tokens = digester.max_prompt_tokens
        self.attention = attention

    def digest(self, document: CrawlRecord) -> Digest:
        """The document's digest."""
        import torch
        from transformers import LogitsProcessorList, StoppingCriteriaList

        prompt = build_prompt(
            self.tokenizer,
            title=document.title,
            content=document.content,
            language=document.language,
            max_tokens=self.max_prompt_tokens,
        )
        writer = AnswerWriter(self.guide, prompt.form)
        input_ids = torch.tensor([prompt.token_ids])
        self.model.set_attn_implementation(self.attention)
        with torch.inference_mode():
            self.model.generate(
                input_ids=input_ids,
                attention_mask=torch.ones_like(input_ids),
                max_new_tokens=self.settings.max_new_tokens,
                do_sample=False,
                pad_token_id=0,
                logits_processor=LogitsProcessorList([processor(writer, self.guide)]),
                stopping_criteria=StoppingCriteriaList([criterion(writer)]),
            )
        reading = read_answer(writer.answer(), self.settings)
        digest, _ = compose_digest(
            reading, title=document.title, content=document.content, settings=self.settings, seconds=0.0
        )
        return digest


def processor(writer: AnswerWriter, guide: AnswerGuide) -> Any:
    """A LogitsProcessor that leaves what the writer allows."""
    import numpy as np
    import torch
    from transformers import LogitsProcessor

    mask = np.zeros((1, (guide.vocab_size + 31) // 32), dtype=np.int32)
    digit_ids = torch.tensor(guide.digit_ids)

    class Grammar(LogitsProcessor):
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            forced = writer.forced_token()
            if forced is not None:
                return only(scores, torch.tensor([forced]))
            if writer.at_digit:
                writer.note_digit([round(p, 6) for p in scores[0, digit_ids].softmax(-1).tolist()])
                return only(scores, digit_ids)
            writer.fill_mask(mask, 0)
            allowed = torch.from_numpy(np.unpackbits(mask.view(np.uint8), bitorder="little")[: guide.vocab_size])
            return scores.masked_fill(~allowed.bool(), float("-inf"))

    return Grammar()


def only(scores: Any, ids: Any) -> Any:
    """The scores of `ids`, -inf for all others."""
    import torch

    left = torch.full_like(scores, float("-inf"))
    left[0, ids] = scores[0, ids]
    return left


def criterion(writer: AnswerWriter) -> Any:
    """A StoppingCriteria that tells the writer each token and stops behind the last."""
    import torch
    from transformers import StoppingCriteria

    class Complete(StoppingCriteria):
        def __call__(self, input_ids: torch.Tensor, scores: Any, **options: Any) -> torch.Tensor:
            writer.accept(int(input_ids[0, -1]))
            return torch.tensor([writer.complete])

    return Complete()


def read_documents(drops: Sequence[Path], count: int, skip: int) -> list[CrawlRecord]:
    """`count` documents after the first `skip`, Korean and English in turn."""
    records = [record for drop in drops for _, record in read_drop(drop) if isinstance(record, CrawlRecord)]
    by_language = [[r for r in records if r.language == language] for language in ("ko", "en")]
    mixed = [record for pair in zip(*by_language, strict=False) for record in pair]
    return mixed[skip : skip + count]


def untimed(digest: Digest | None) -> dict[str, Any] | None:
    """What two digests are compared by."""
    return digest.model_dump(exclude={"processing_time"}) if digest else None


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--documents", type=int, default=32)
    parser.add_argument("--skip", type=int, default=0)
    parser.add_argument("--loop-every", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=DigestingSettings().batch_size)
    parser.add_argument("--max-new-tokens", type=int, default=DigestingSettings().max_new_tokens)
    parser.add_argument("--max-length", type=int, default=1024)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("drops", type=Path, nargs="+")
    arguments = parser.parse_args()
    print("\n".join(environment_lines(("torch", "transformers", "llguidance"))), flush=True)

    threads = int(os.environ.get("OMP_NUM_THREADS", "0"))
    loaded = load_digester(arguments.model, device="cpu", precision=arguments.dtype, threads=threads)
    model = loaded.generator.model  # type: ignore[attr-defined]  # on a CPU it is the project's own
    settings = DigestingSettings(batch_size=arguments.batch_size, max_new_tokens=arguments.max_new_tokens)
    batched = model.config._attn_implementation
    digester = digester_of(model, loaded.tokenizer, DigestConfig(arguments.max_length, settings))
    documents = read_documents(arguments.drops, arguments.documents, arguments.skip)
    by_length = sorted(range(len(documents)), key=lambda index: len(documents[index].content.encode()))
    loop = GuidedLoop(model, digester, "sdpa")
    looped = by_length[arguments.loop_every // 2 :: arguments.loop_every]

    loop.digest(documents[looped[0]])  # warm both up: threads, allocator, kernels' first calls
    model.set_attn_implementation(batched)
    list(digester.digest_batch(documents, looped[:1]))

    start, processor_start = time.perf_counter(), time.process_time()
    outcomes = {outcome.index: outcome for outcome in digester.digest_batch(documents, by_length)}
    batch_wall, batch_processor = time.perf_counter() - start, time.process_time() - processor_start
    start, processor_start = time.perf_counter(), time.process_time()
    answers = {index: loop.digest(documents[index]) for index in looped}
    loop_wall, loop_processor = time.perf_counter() - start, time.process_time() - processor_start

    equal = sum(untimed(outcomes[index].digest) == untimed(answer) for index, answer in answers.items())
    tokens = sum(outcome.num_new_tokens for outcome in outcomes.values())
    print(f"- {threads} threads, {arguments.dtype}; load average at the end {os.getloadavg()[0]:.2f}\n")
    print("| | documents | s per document | processor s per document | tokens/s |\n|---|---|---|---|---|")
    n, m = len(documents), len(looped)
    loop_tokens = sum(outcomes[index].num_new_tokens for index in looped)
    for name, count, wall, processor_time, written in (
        (f"batch of {settings.batch_size}", n, batch_wall, batch_processor, tokens),
        ("loop", m, loop_wall, loop_processor, loop_tokens),
    ):
        print(f"| {name} | {count} | {wall / count:.2f} | {processor_time / count:.2f} | {written / wall:.0f} |")
    print()
    print(
        f"{loop_wall / m / (batch_wall / n):.2f} times the documents per second "
        f"({loop_processor / m / (batch_processor / n):.2f} times per second of processor time); "
        f"{equal} of {m} digests equal."
    )


if __name__ == "__main__":
    main()
