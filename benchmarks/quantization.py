r"""GPTQ by its settings, beside rounding to nearest: what 4 bits cost a merged model in bits per byte.

    python -m benchmarks.quantization --model DIR --pairs DIR --corpus DIR --work WORK \
        --trials default act_order:desc_act=true group32:group_size=32 more:calibration_documents=128 \
        recovered:recovery.passes=1

`--model` is an unquantized model of the project with its tokenizer: an m1_checkpoint, or the merged model that
quantized_model keeps in its scratch while it is made. A trial is NAME, NAME:KEY=VALUE[,KEY=VALUE...] with keys of
`quantization` (recovery.KEY for one below), or NAME:{KEY: VALUE, ...} in YAML, which lists need, as in
mixed:{overrides: [{layers: down_proj, bits: 8}]}. All calibrate on digest prompts with answers of the train split
(`--pairs`, a labeled_pairs) and are scored on the same validation documents (`--corpus`, a corpus_snapshot). Share is
the loss over that of rounding every weight to nearest at the same bits and group size. A killed run goes on with the
next trial.
"""

import argparse
import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from benchmarks.environment import environment_lines
from benchmarks.m1_training import threads
from smartdevdigest_ops.corpus.read import read_split
from smartdevdigest_ops.quantization.calibration import LANGUAGES, build_calibration
from smartdevdigest_ops.quantization.checks import measure_tensors
from smartdevdigest_ops.quantization.gptq import quantize_gptq
from smartdevdigest_ops.quantization.load import load_for_inference, packed_layers
from smartdevdigest_ops.quantization.recovery import recover
from smartdevdigest_ops.quantization.rounding import round_weights
from smartdevdigest_ops.settings import QuantizationSettings
from smartdevdigest_ops.training.bits_per_byte import bits_per_byte

_SEQUENCE_LENGTH = 512
_PROMPT_TOKENS = 512
_SEED = 17


def parse_trial(text: str) -> tuple[str, QuantizationSettings]:
    """`NAME[:KEY=VALUE,...]` or `NAME:{KEY: VALUE, ...}`."""
    name, _, rest = text.partition(":")
    if rest.startswith("{"):
        return name, QuantizationSettings.model_validate(yaml.safe_load(rest))
    pairs = (pair.partition("=")[::2] for pair in rest.split(",") if pair)
    own: dict[str, Any] = {}
    for key, value in pairs:
        section, _, field = key.rpartition(".")
        (own.setdefault(section, {}) if section else own)[field] = yaml.safe_load(value)
    return name, QuantizationSettings.model_validate(own)


def score(model: Any, tokenizer: Any, texts: Mapping[str, list[str]]) -> dict[str, float]:
    """Bits per byte by language."""
    return {
        language: bits_per_byte(model, tokenizer, found, sequence_length=_SEQUENCE_LENGTH)
        for language, found in texts.items()
    }


def run_trial(
    settings: QuantizationSettings, texts: Mapping[str, list[str]], tokenizer: Any, options: argparse.Namespace
) -> dict[str, Any]:
    """Quantize, and score the result and the same layers rounded to nearest."""
    import torch

    calibration = build_calibration(
        tokenizer,
        read_split(options.pairs, "train"),
        num_documents=max(settings.calibration_documents, settings.recovery.documents),
        num_tokens=settings.calibration_tokens,
        prompt_tokens=_PROMPT_TOKENS,
        seed=_SEED,
    )
    out, recovered = options.work / "quantized", options.work / "recovered"
    for directory in (out, recovered):
        shutil.rmtree(directory, ignore_errors=True)
    started = time.perf_counter()
    report = quantize_gptq(
        options.model,
        out,
        calibration.sequences[: settings.calibration_documents],
        settings,
        device="cpu",
        threads=threads(),
        log_file=options.work / "gptq.log",
    )
    if settings.recovery.passes:
        sequences = calibration.sequences[: settings.recovery.documents]
        recover(out, options.model, recovered, sequences, settings.recovery, device="cpu", seed=_SEED)
        out = recovered
    seconds = time.perf_counter() - started
    sizes = measure_tensors(options.model, out)
    quantized = score(load_for_inference(out, device="cpu", dtype=torch.float32), tokenizer, texts)
    model = load_for_inference(options.model, device="cpu", dtype=torch.float32)
    round_weights(model, packed_layers(out), symmetric=settings.symmetric)
    return {
        "seconds": seconds,
        "calibration_tokens": sum(map(len, calibration.sequences[: settings.calibration_documents])),
        "fallback_layers": report.num_fallback_layers,
        "bits_per_weight": sizes.bits_per_packed_weight,
        "megabytes": sizes.total_bytes / 1e6,
        "quantized": quantized,
        "rounded": score(model, tokenizer, texts),
    }


def table(before: Mapping[str, float], readings: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Markdown: a row per trial."""
    heads = " | ".join(f"{language} GPTQ | {language} rounded | share" for language in before)
    lines = [f"| trial | tokens | s | bits/weight | MB | {heads} |", "|---|" + "---:|" * (4 + 3 * len(before))]
    for name, reading in readings.items():
        cells = []
        for language, score_before in before.items():
            ours, theirs = (reading[kind][language] - score_before for kind in ("quantized", "rounded"))
            cells.append(f"{ours:+.4f} | {theirs:+.4f} | {ours / theirs:.0%}")
        lines.append(
            f"| {name} | {reading['calibration_tokens']:,} | {reading['seconds']:.0f} | "
            f"{reading['bits_per_weight']:.2f} | {reading['megabytes']:.0f} | {' | '.join(cells)} |"
        )
    return lines


def main() -> None:
    """Run the trials and print Markdown."""
    import torch
    from transformers import AutoTokenizer

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="directory of the unquantized model")
    parser.add_argument("--pairs", type=Path, required=True, help="directory of a labeled_pairs")
    parser.add_argument("--corpus", type=Path, required=True, help="directory of a corpus_snapshot")
    parser.add_argument("--work", type=Path, required=True, help="directory for models and readings")
    parser.add_argument("--trials", nargs="+", default=["default"], help="NAME[:KEY=VALUE,...]")
    parser.add_argument("--documents", type=int, default=16, help="validation documents per language")
    parser.add_argument("--characters", type=int, default=1000, help="first so many of each")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(threads())
    trials = dict(map(parse_trial, options.trials))
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    rows = sorted(read_split(options.corpus, "valid"), key=lambda row: str(row["document_id"]))
    texts = {
        language: [row["content"][: options.characters] for row in rows if row["language"] == language][
            : options.documents
        ]
        for language in LANGUAGES
    }
    file = options.work / "readings.json"
    readings: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if "before" not in readings:
        model = load_for_inference(options.model, device="cpu", dtype=torch.float32)
        readings["before"] = score(model, tokenizer, texts)
        del model
    for name, settings in trials.items():
        if name not in readings:
            readings[name] = run_trial(settings, texts, tokenizer, options)
            file.write_text(json.dumps(readings), encoding="utf-8")
    before = readings.pop("before")
    print("\n".join(environment_lines(("torch", "transformers", "gptqmodel"))))
    print(f"\nBefore: {', '.join(f'{language} {value:.4f}' for language, value in before.items())} bits per byte\n")
    print("\n".join(table(before, {name: readings[name] for name in trials})))


if __name__ == "__main__":
    main()
