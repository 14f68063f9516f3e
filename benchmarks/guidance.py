"""Libraries that guide generation: what the mask of allowed tokens costs per token, on a real vocabulary.

    OMP_NUM_THREADS=1 python -m benchmarks.guidance --tokenizer DIR --libraries guidance-libs data/sample/labels.*.jsonl

The same answers (labels, as M2 is taught to write them) are walked token by token; for each token the mask is filled,
then the token accepted. llguidance reads the project's grammar, with its caps on lengths and lists and without white
space; xgrammar and outlines-core read the JSON Schema of the same caps, xgrammar without white space too. Only the
library's own calls are timed. A library that refuses a token of an answer is reported with where it stopped.

`--libraries` is where the other two lie:

    pip install --no-deps --target guidance-libs xgrammar apache-tvm-ffi outlines-core
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.environment import environment_lines
from smartdevdigest_ops.contracts import Label
from smartdevdigest_ops.contracts.label import FACTOR_NAMES
from smartdevdigest_ops.corpus.language import is_korean
from smartdevdigest_ops.digesting.grammar import AnswerForm
from smartdevdigest_ops.digesting.prompt import answer_text
from smartdevdigest_ops.digesting.writer import AnswerGuide
from smartdevdigest_ops.settings import DigestingSettings
from smartdevdigest_ops.training.m2.answers import cap_answer


def answer_schema(settings: DigestingSettings) -> str:
    """JSON Schema of an answer in a document with code, keys in order."""

    def string(most: int) -> dict[str, Any]:
        return {"type": "string", "minLength": 1, "maxLength": most}

    def array(items: dict[str, Any], most: int, least: int = 1) -> dict[str, Any]:
        return {"type": "array", "items": items, "minItems": least, "maxItems": most}

    def record(properties: dict[str, Any]) -> dict[str, Any]:
        fixed = {"required": list(properties), "additionalProperties": False}
        return {"type": "object", "properties": properties} | fixed

    keyword = string(settings.max_keyword_characters)
    term = record({"term": keyword, "explanation": string(settings.max_explanation_characters)})
    fields = {
        "summary": string(settings.max_summary_characters),
        "keywords": array(keyword, settings.max_keywords),
        "difficulty_factors": record({name: {"enum": [1, 2, 3, 4, 5]} for name in FACTOR_NAMES}),
        "prerequisites": array(string(settings.max_prerequisite_characters), settings.max_prerequisites, 0),
        "technical_terms": array(term, settings.max_terms),
    }
    return json.dumps(record(fields))


def llguidance_walk(tokenizer: Any, settings: DigestingSettings) -> Callable[[Sequence[int]], list[float]]:
    """Walks answers with llguidance."""
    import numpy as np
    from llguidance.numpy import fill_next_token_bitmask

    guide = AnswerGuide(tokenizer, len(tokenizer), settings)
    mask = np.zeros((1, (len(tokenizer) + 31) // 32), dtype=np.int32)

    def walk(tokens: Sequence[int]) -> list[float]:
        language = "ko" if is_korean(tokenizer.decode(tokens)) else "en"
        matcher = guide.matcher(AnswerForm(language, with_code=True))
        seconds = []
        for token in tokens:
            start = time.perf_counter()
            fill_next_token_bitmask(matcher, mask, 0)
            accepted = matcher.consume_token(token)
            seconds.append(time.perf_counter() - start)
            if not accepted:
                raise ValueError(f"token {len(seconds)} refused")
        return seconds

    return walk


def xgrammar_walk(tokenizer: Any, settings: DigestingSettings) -> Callable[[Sequence[int]], list[float]]:
    """Walks answers with xgrammar."""
    import xgrammar

    info = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=len(tokenizer))
    compiler = xgrammar.GrammarCompiler(info, max_threads=1)
    compiled = compiler.compile_json_schema(answer_schema(settings), any_whitespace=False, separators=(",", ":"))
    mask = xgrammar.allocate_token_bitmask(1, len(tokenizer))

    def walk(tokens: Sequence[int]) -> list[float]:
        matcher = xgrammar.GrammarMatcher(compiled)
        seconds = []
        for token in tokens:
            start = time.perf_counter()
            matcher.fill_next_token_bitmask(mask)
            accepted = matcher.accept_token(token)
            seconds.append(time.perf_counter() - start)
            if not accepted:
                raise ValueError(f"token {len(seconds)} refused")
        return seconds

    return walk


def outlines_walk(tokenizer: Any, settings: DigestingSettings) -> Callable[[Sequence[int]], list[float]]:
    """Walks answers with outlines-core: an automaton over the vocabulary, made once."""
    from outlines_core import Guide, Index, Vocabulary
    from outlines_core.json_schema import build_regex_from_schema
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    byte_of = {character: byte for byte, character in bytes_to_unicode().items()}
    words: dict[bytes, list[int]] = {}
    for word, number in tokenizer.get_vocab().items():
        if number not in tokenizer.all_special_ids and all(character in byte_of for character in word):
            words.setdefault(bytes(byte_of[character] for character in word), []).append(number)
    vocabulary = Vocabulary(tokenizer.eos_token_id, words)
    index = Index(build_regex_from_schema(answer_schema(settings), whitespace_pattern=""), vocabulary)

    def walk(tokens: Sequence[int]) -> list[float]:
        guide = Guide(index)
        seconds = []
        for token in tokens:
            start = time.perf_counter()
            guide.get_tokens()
            guide.advance(token)
            seconds.append(time.perf_counter() - start)
        return seconds

    return walk


WALKS = {"llguidance": llguidance_walk, "xgrammar": xgrammar_walk, "outlines-core": outlines_walk}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--libraries", type=Path, required=True)
    parser.add_argument("--only", choices=tuple(WALKS), nargs="+", default=tuple(WALKS))
    parser.add_argument("labels", type=Path, nargs="+")
    arguments = parser.parse_args()
    from transformers import AutoTokenizer

    sys.path.append(str(arguments.libraries))
    print("\n".join(environment_lines(("llguidance", *(name for name in arguments.only if name != "llguidance")))))
    settings = DigestingSettings()
    tokenizer = AutoTokenizer.from_pretrained(arguments.tokenizer, local_files_only=True)
    labels = [Label.model_validate_json(line) for path in arguments.labels for line in path.open(encoding="utf-8")]
    texts = [
        answer_text(cap_answer(label, settings))
        for label in labels
        if label.difficulty_factors.code_complexity is not None
    ]
    answers = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    print(f"- {len(answers)} answers, {sum(map(len, answers))} tokens, vocabulary of {len(tokenizer)}\n")
    print("| | start s | first answer, us/token | others: median | mean | 99th | answers walked |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for name in arguments.only:
        start = time.perf_counter()
        walk = WALKS[name](tokenizer, settings)
        started = time.perf_counter() - start
        walks = []
        for tokens in answers:
            try:
                walks.append([1e6 * seconds for seconds in walk(tokens)])
            except ValueError as error:
                print(f"{name}: {error}", file=sys.stderr)
        others = [value for seconds in walks[1:] for value in seconds]
        tail = statistics.quantiles(others, n=100)[-1]
        print(
            f"| {name} | {started:.2f} | {statistics.mean(walks[0]):.0f} | {statistics.median(others):.0f} | "
            f"{statistics.mean(others):.0f} | {tail:.0f} | {len(walks)} of {len(answers)} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
