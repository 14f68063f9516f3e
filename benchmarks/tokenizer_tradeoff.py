"""What a domain tokenizer's size is worth: tokens saved against bits per byte after equal time of M1.

    python -m benchmarks.tokenizer_tradeoff --base DIR --corpus DIR --work WORK --minutes 10 --plot tradeoff.png

Each variant is a number of merges, learned on the train split of a corpus_snapshot without `tokenizer.min_gain`, or
`NUMBER:morphemes`: no merge across a Korean morpheme. From the base model its new rows are fitted and M1 trains, both
together for `--minutes`; then held-out documents of the test split are scored in bits per byte, their code blocks also
by themselves. 0 merges is the base model with its own tokenizer, which trains all the time. Every variant reads the
same texts in the same order at the same rates. With OMP_NUM_THREADS=1 minutes are the processor's.

Variants run one after the other, each in a process of its own; a killed run goes on with the next one.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.environment import environment_lines
from benchmarks.m1_training import (
    Meter,
    TimeIsUp,
    load_for_m1,
    pack,
    read_texts,
    score,
    scratch_context,
    stream_of,
    threads,
    train_packed,
)
from smartdevdigest_ops.models.embeddings import extend_embeddings
from smartdevdigest_ops.settings import TokenizerSettings
from smartdevdigest_ops.settings.training import NewRowsSettings
from smartdevdigest_ops.stage import StageContext
from smartdevdigest_ops.tokenizer.extend import extend_tokenizer
from smartdevdigest_ops.tokenizer.fertility import CODE, split_code
from smartdevdigest_ops.tokenizer.pre_tokens import stream_split
from smartdevdigest_ops.training.new_rows.fit import fit_new_rows

MORPHEMES = "morphemes"
KINDS = ("ko", "en", CODE)
_SEQUENCE_LENGTH = 512
_M1 = {
    "batch_size": 2,
    "gradient_accumulation": 4,
    "sequence_length": _SEQUENCE_LENGTH,
    "learning_rate": 2e-4,
    "embedding_learning_rate": 5e-4,
    "warmup_steps": 4,
    "epochs": 1,
}


def held_out_texts(corpus: Path, num_documents: int, characters: int) -> dict[str, list[str]]:
    """The first characters of the first test documents of each language, and their code blocks."""
    _, by_language = read_texts(corpus)
    texts = {language: [text[:characters] for text in found[:num_documents]] for language, found in by_language.items()}
    code = [split_code(text)[1][:characters] for found in by_language.values() for text in found]
    return texts | {CODE: [text for text in code if text.strip()][:num_documents]}


def run_variant(variant: str, options: argparse.Namespace) -> dict[str, Any]:
    """Extend, fit, train and score one variant."""
    import torch

    torch.set_num_threads(threads())
    number, _, rule = variant.partition(":")
    context = scratch_context(options.work / variant.replace(":", "-"), _M1, quiet=False)
    tokenizer_dir = _extend(int(number), rule == MORPHEMES, options, context) if int(number) else None
    texts, _ = read_texts(options.corpus)
    model, tokenizer = load_for_m1(options.base, None, context)
    fitted_seconds = 0.0
    if tokenizer_dir is not None:
        tokenizer, fitted_seconds = _fit(model, tokenizer_dir, texts, options, context)
    packed = pack(tokenizer, texts, context)
    meter = Meter(model, options.minutes * 60 - fitted_seconds)
    try:
        train_packed(model, stream_of(packed, tokenizer, model, context), context)
    except TimeIsUp:
        pass
    finally:
        meter.stop()
    held_out = held_out_texts(options.corpus, options.held_out_documents, options.held_out_characters)
    tokens = {
        kind: sum(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in found)
        for kind, found in held_out.items()
    }
    return {
        "variant": variant,
        "num_new_tokens": len(_new_tokens(tokenizer_dir)) if tokenizer_dir else 0,
        "fitted_seconds": fitted_seconds,
        "trained_seconds": meter.seconds,
        "trained_bytes": meter.tokens * packed.bytes_per_token,
        "tokens": tokens,
        "bits_per_byte": score(
            model.eval(),
            tokenizer,
            held_out,
            sequence_length=_SEQUENCE_LENGTH,
            max_documents=options.held_out_documents,
            max_characters=options.held_out_characters,
        ),
    }


def _extend(num_merges: int, by_morphemes: bool, options: argparse.Namespace, context: StageContext) -> Path:
    out = context.scratch / "tokenizer"
    out.mkdir(exist_ok=True)
    settings = TokenizerSettings(
        num_new_tokens=num_merges,
        min_gain=0.0,
        korean_morphemes=by_morphemes,
        required_terms=context.settings.tokenizer.required_terms,
    )
    extend_tokenizer(options.base, stream_split(options.corpus, "train"), settings, out)
    return out


def _new_tokens(tokenizer_dir: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((tokenizer_dir / "new_tokens.json").read_text(encoding="utf-8"))
    return found


def _fit(
    model: Any, tokenizer_dir: Path, texts: list[str], options: argparse.Namespace, context: StageContext
) -> tuple[Any, float]:
    """The tokenizer of the extended model, and the seconds that fitting its rows took."""
    from transformers import AutoTokenizer

    clock = time.process_time if threads() == 1 else time.perf_counter
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir)
    new_tokens = _new_tokens(tokenizer_dir)
    settings = NewRowsSettings(max_base_tokens=options.fit_tokens, passes=1)
    started = clock()
    extend_embeddings(model, new_tokens, multiple_of=settings.pad_to_multiple)
    fit_new_rows(model, new_tokens, texts, tokenizer, settings, context)
    return tokenizer, clock() - started


def table(readings: list[dict[str, Any]]) -> list[str]:
    """Markdown: a row per variant."""
    base = next((reading for reading in readings if reading["variant"] == "0"), None)
    heads = " | ".join(f"{kind} tokens | {kind} bits/byte" for kind in KINDS)
    lines = [f"| merges | new tokens | fitted s | M1 s | text read, kB | {heads} |", "|---|" + "---:|" * 10]
    for reading in readings:
        cells = []
        for kind in KINDS:
            saved = f"{reading['tokens'][kind] / base['tokens'][kind] - 1:+.1%}" if base else reading["tokens"][kind]
            cells.append(f"{saved} | {reading['bits_per_byte'][kind]:.3f}")
        lines.append(
            f"| {reading['variant']} | {reading['num_new_tokens']:,} | {reading['fitted_seconds']:.0f} | "
            f"{reading['trained_seconds']:.0f} | {reading['trained_bytes'] / 1000:.0f} | {' | '.join(cells)} |"
        )
    return lines


def plot(readings: list[dict[str, Any]], path: Path) -> None:
    """Tokens, relative to the base's, and bits per byte after equal time, against the number of new tokens."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    plain = sorted((r for r in readings if ":" not in r["variant"]), key=lambda reading: reading["num_new_tokens"])
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), constrained_layout=True)
    for kind, color in zip(KINDS, ("#4477aa", "#ee6677", "#228833"), strict=True):
        sizes = [reading["num_new_tokens"] for reading in plain]
        shares = [100 * reading["tokens"][kind] / plain[0]["tokens"][kind] for reading in plain]
        left.plot(sizes, shares, marker="o", color=color, label=kind)
        right.plot(sizes, [r["bits_per_byte"][kind] for r in plain], marker="o", color=color, label=kind)
    left.set(xlabel="new tokens", ylabel="tokens of held-out text, % of the base's", ylim=(0, 105))
    right.set(xlabel="new tokens", ylabel="bits per byte after equal time")
    right.legend()
    for axis in (left, right):
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=130)


def main() -> None:
    """Measure each variant in a child, print Markdown and draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="directory of the base model and its tokenizer")
    parser.add_argument("--corpus", type=Path, required=True, help="directory of a corpus_snapshot")
    parser.add_argument("--work", type=Path, required=True, help="directory for tokenizers and readings")
    parser.add_argument("--variants", nargs="+", default=["0", "300", "1000", "2000", f"1000:{MORPHEMES}"])
    parser.add_argument("--minutes", type=float, default=10, help="fitting and M1 together, each variant")
    parser.add_argument("--fit-tokens", type=int, default=20_000, help="base tokens that rows are fitted on")
    parser.add_argument("--held-out-documents", type=int, default=12, help="of each language, and of code")
    parser.add_argument("--held-out-characters", type=int, default=1500, help="of each document")
    parser.add_argument("--plot", type=Path, help="file for the plot (PNG)")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    file = options.work / "readings.jsonl"
    if options.child:
        reading = run_variant(options.child, options)
        with file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(reading) + "\n")
        return
    readings = _read(file)
    for variant in options.variants:
        if variant not in readings:
            command = [sys.executable, "-m", "benchmarks.tokenizer_tradeoff", *sys.argv[1:], "--child", variant]
            subprocess.run(command, check=True)
    readings = _read(file)
    chosen = [readings[variant] for variant in options.variants]
    print("\n".join([*environment_lines(("torch", "transformers", "tokenizers")), "", *table(chosen)]))
    if options.plot:
        plot(chosen, options.plot)


def _read(file: Path) -> dict[str, dict[str, Any]]:
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return {reading["variant"]: reading for reading in map(json.loads, lines)}


if __name__ == "__main__":
    main()
