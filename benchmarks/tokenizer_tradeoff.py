"""What a domain tokenizer's size is worth: tokens saved against bits per byte after equal time of M1.

    python -m benchmarks.tokenizer_tradeoff --base DIR --corpus DIR --work WORK --minutes 48 --plot tradeoff.png

Each variant is a number of merges, learned on the train split of a corpus_snapshot without `tokenizer.min_gain`, or
`NUMBER:morphemes`: no merge across a Korean morpheme. From the base model its new rows are fitted and M1 trains, both
together for `--minutes` (benchmarks.m1_curve, which scores held-out documents of the test split, and their code blocks
by themselves, every `--every` minutes). 0 merges is the base model with its own tokenizer, which trains all the time.
Every variant reads the same texts in the same order at the same rates. With OMP_NUM_THREADS=1 minutes are the
processor's.

Variants run `--jobs` at a time, each in a process of its own; what is already in WORK is not done again.
"""

import argparse
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.environment import environment_lines
from benchmarks.m1_curve import UNEXTENDED, read_readings
from benchmarks.m1_curve import plot as plot_curves
from benchmarks.m1_training import load_for_m1, read_held_out, read_texts, scratch_context, threads
from smartdevdigest_ops.models.embeddings import extend_embeddings
from smartdevdigest_ops.settings import TokenizerSettings
from smartdevdigest_ops.settings.training import NewRowsSettings
from smartdevdigest_ops.tokenizer.extend import extend_tokenizer
from smartdevdigest_ops.tokenizer.fertility import CODE
from smartdevdigest_ops.tokenizer.pre_tokens import stream_split
from smartdevdigest_ops.training.new_rows.fit import fit_new_rows

MORPHEMES = "morphemes"
KINDS = ("ko", "en", CODE)


def run_name(variant: str) -> str:
    """What a variant is called in the readings of benchmarks.m1_curve."""
    return UNEXTENDED if variant == "0" else variant.replace(":", "-")


def prepare(variant: str, options: argparse.Namespace) -> None:
    """Learn the variant's tokenizer, fit its rows and save both as a model; to be called in a process of its own."""
    import torch
    from transformers import AutoTokenizer

    torch.set_num_threads(threads())
    directory = options.work / "variants" / run_name(variant)
    context = scratch_context(directory, {"batch_size": 1, "warmup_steps": 0}, quiet=False)
    model, tokenizer = load_for_m1(options.base, None, context)
    new_tokens: list[dict[str, Any]] = []
    seconds = 0.0
    if variant != "0":
        number, _, rule = variant.partition(":")
        settings = TokenizerSettings(
            num_new_tokens=int(number),
            min_gain=0.0,
            korean_morphemes=rule == MORPHEMES,
            required_terms=context.settings.tokenizer.required_terms,
        )
        extended = context.out / "tokenizer"
        extended.mkdir(parents=True, exist_ok=True)
        extend_tokenizer(options.base, stream_split(options.corpus, "train"), settings, extended)
        new_tokens = json.loads((extended / "new_tokens.json").read_text(encoding="utf-8"))
        tokenizer = AutoTokenizer.from_pretrained(extended)
        rows = NewRowsSettings(max_base_tokens=options.fit_tokens, passes=1)
        clock = time.process_time if threads() == 1 else time.perf_counter
        started = clock()
        extend_embeddings(model, new_tokens, multiple_of=rows.pad_to_multiple)
        fit_new_rows(model, new_tokens, read_texts(options.corpus)[0], tokenizer, rows, context)
        seconds = clock() - started
    model.save_pretrained(directory / "model")
    tokenizer.save_pretrained(directory / "model")
    texts = read_held_out(options.corpus)
    prepared = {
        "variant": variant,
        "num_new_tokens": len(new_tokens),
        "fitted_seconds": seconds,
        "tokens": {
            kind: sum(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts[kind])
            for kind in KINDS
        },
    }
    (directory / "variant.json").write_text(json.dumps(prepared, indent=1), encoding="utf-8")


def curve_command(prepared: dict[str, Any], options: argparse.Namespace) -> list[str]:
    """benchmarks.m1_curve of one variant."""
    name = run_name(prepared["variant"])
    run = f"{name}:minutes_before={prepared['fitted_seconds'] / 60}"
    if name != UNEXTENDED:
        run += f",tokenizer={options.work / 'variants' / name / 'model'}"
    given = {
        "--model": options.base,
        "--corpus": options.corpus,
        "--work": options.work,
        "--minutes": options.minutes,
        "--every": options.every,
        "--warmup-steps": 4,
        "--held-out-documents": options.held_out_documents,
        "--held-out-characters": options.held_out_characters,
    }
    flat = [str(part) for pair in given.items() for part in pair]
    return [sys.executable, "-m", "benchmarks.m1_curve", *flat, "--groups", *KINDS, "--runs", run]


def table(variants: list[dict[str, Any]], readings: list[dict[str, Any]]) -> list[str]:
    """Markdown: a row per variant, its last reading."""
    base = next((variant for variant in variants if variant["variant"] == "0"), None)
    heads = " | ".join(f"{kind} tokens | {kind} bits/byte" for kind in KINDS)
    lines = [f"| merges | new tokens | fitted, minutes | text read, kB | {heads} |", "|---|" + "---:|" * 9]
    for variant in variants:
        last = _last_reading(variant, readings)
        cells = []
        for kind in KINDS:
            saved = f"{variant['tokens'][kind] / base['tokens'][kind] - 1:+.1%}" if base else variant["tokens"][kind]
            cells.append(f"{saved} | {last['bits_per_byte'][kind]:.3f}")
        lines.append(
            f"| {variant['variant']} | {variant['num_new_tokens']:,} | {variant['fitted_seconds'] / 60:.1f} | "
            f"{last['text_bytes'] / 1000:.0f} | {' | '.join(cells)} |"
        )
    return lines


def _last_reading(variant: dict[str, Any], readings: list[dict[str, Any]]) -> dict[str, Any]:
    name = run_name(variant["variant"])
    return max((r for r in readings if r["run"] == name), key=lambda reading: reading["step"])


def plot(variants: list[dict[str, Any]], readings: list[dict[str, Any]], path: Path) -> None:
    """Tokens, relative to the base's, and bits per byte after equal time, against the number of new tokens."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    plain = sorted((v for v in variants if ":" not in v["variant"]), key=lambda variant: variant["num_new_tokens"])
    sizes = [variant["num_new_tokens"] for variant in plain]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), constrained_layout=True)
    for kind, color in zip(KINDS, ("#4477aa", "#ee6677", "#228833"), strict=True):
        shares = [100 * variant["tokens"][kind] / plain[0]["tokens"][kind] for variant in plain]
        scores = [_last_reading(variant, readings)["bits_per_byte"][kind] for variant in plain]
        left.plot(sizes, shares, marker="o", color=color, label=kind)
        right.plot(sizes, scores, marker="o", color=color, label=kind)
    left.set(xlabel="new tokens", ylabel="tokens of held-out text, % of the base's", ylim=(0, 105))
    right.set(xlabel="new tokens", ylabel="bits per byte after equal time")
    right.legend()
    for axis in (left, right):
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=130)


def main() -> None:
    """Measure each variant in children, print Markdown and draw the plots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="directory of the base model and its tokenizer")
    parser.add_argument("--corpus", type=Path, required=True, help="directory of a corpus_snapshot")
    parser.add_argument("--work", type=Path, required=True, help="directory for models and readings")
    parser.add_argument("--variants", nargs="+", default=["0", "300", "1000", "2000", f"1000:{MORPHEMES}"])
    parser.add_argument("--jobs", type=int, default=1, help="variants at a time")
    parser.add_argument("--minutes", type=float, default=36, help="fitting and M1 together, each variant")
    parser.add_argument("--every", type=float, default=12, help="minutes between two scorings")
    parser.add_argument("--fit-tokens", type=int, default=20_000, help="base tokens that rows are fitted on")
    parser.add_argument("--held-out-documents", type=int, default=12, help="of each language, and of code")
    parser.add_argument("--held-out-characters", type=int, default=1500, help="of each document")
    parser.add_argument("--plot", type=Path, help="file for the plot of sizes (PNG)")
    parser.add_argument("--curve", type=Path, help="file for the plot of the learning curves (PNG)")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.child:
        prepare(options.child, options)
        return
    readings_file = options.work / "readings.jsonl"

    def run(variant: str) -> dict[str, Any]:
        file = options.work / "variants" / run_name(variant) / "variant.json"
        if not file.is_file():
            command = [sys.executable, "-m", "benchmarks.tokenizer_tradeoff", *sys.argv[1:], "--child", variant]
            subprocess.run(command, check=True)
        prepared: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        done = [r["seconds"] for r in read_readings(readings_file) if r["run"] == run_name(variant)]
        if max(done, default=0.0) < options.minutes * 60:
            subprocess.run(curve_command(prepared, options), check=True)
        return prepared

    with ThreadPoolExecutor(options.jobs) as pool:
        variants = list(pool.map(run, options.variants))
    readings = read_readings(readings_file)
    print("\n".join([*environment_lines(("torch", "transformers", "tokenizers")), "", *table(variants, readings)]))
    if options.plot:
        plot(variants, readings, options.plot)
    if options.curve:
        plot_curves(readings, options.curve)


if __name__ == "__main__":
    main()
