"""M1's training beside TRL's SFTTrainer: same model, texts, machine and wall time, one after the other in one run.

    python -m benchmarks.m1 --model DIR --tokenizer DIR --minutes 20 --trl trl-venv --corpus DIR --plot m1.png
    python -m benchmarks.m1 --cuda-shapes 1b 7b --out m1_cuda.json

Ways, each in a process of its own, which loads the model anew and scores it before and after:

- `ours`: the project's trainer, packed, with the domain tokenizer (`--tokenizer`: the directory of a domain_tokenizer,
  whose new rows start as means, or of a whole model whose rows were fitted before)
- `ours, base tokenizer`: the same without the extension
- `trl`: SFTTrainer with its defaults: base tokenizer, batches of 8 padded to the longest, texts cut at 1,024 tokens,
  bfloat16, gradient checkpointing, learning rate 2e-5, linear
- `trl, tuned`: the same without gradient checkpointing, with bfloat16 only where this CPU has instructions for it, and
  with this project's learning rate

The clock runs from the first forward pass; when it is up, the training is stopped between two micro-steps. All plan for
3 epochs, so no learning rate has come down by then. Text bytes are those that stand behind the tokens that were
trained on: padding and what was cut off are none.

MFU: 6 N + 12 L A T operations per token (training/plan/plan.py), padding no work, over the best matrix product of the
type that was computed in, measured by the same process before it trains; on the CPU over the best float32 one too.

`--cuda-shapes` trains Llamas of real shapes with random weights for 20 micro-steps of `--batch` x 2,048 tokens: the
project's trainer, and transformers' Trainer with `bf16=True`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.environment import environment_lines
from benchmarks.m1_training import (
    Meter,
    TimeIsUp,
    flops_per_token,
    load_for_m1,
    matrix_product_limit,
    pack,
    read_texts,
    score,
    scratch_context,
    stream_of,
    train_packed,
)
from smartdevdigest_ops.training.errors import TrainingError
from smartdevdigest_ops.training.plan.memory import shape_of
from smartdevdigest_ops.training.trainer.kernels import bfloat16_instructions

WAYS = ("ours", "ours, base tokenizer", "trl", "trl, tuned")
CUDA_WAYS = ("ours", "Trainer")
CUDA_SHAPES: dict[str, dict[str, Any]] = {
    # Llama 3.2 1B and Llama 2 7B
    "1b": {
        "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
        "num_key_value_heads": 8, "vocab_size": 128_256, "tie_word_embeddings": True,
    },
    "7b": {
        "hidden_size": 4096, "intermediate_size": 11_008, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 32, "vocab_size": 32_000, "tie_word_embeddings": False,
    },
    "tiny": {
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 1024, "tie_word_embeddings": True,
    },
}  # fmt: skip
CUDA_STEPS, CUDA_SKIPPED = 20, 5


def train_one_way(way: str, options: argparse.Namespace) -> dict[str, Any]:
    """Readings of one way; to be called in a process of its own."""
    import torch

    texts, held_out = read_texts(options.corpus)
    with tempfile.TemporaryDirectory() as scratch:
        context = scratch_context(
            Path(scratch),
            {
                "batch_size": options.batch,
                "sequence_length": options.sequence_length,
                "learning_rate": options.learning_rate,
                "embedding_learning_rate": options.embedding_learning_rate,
                "warmup_steps": options.warmup_steps,
            },
        )
        model, tokenizer = load_for_m1(options.model, options.tokenizer if way == "ours" else None, context)
        device = model.device.type
        is_bfloat16 = device == "cuda" or way == "trl" or bfloat16_instructions() is not None
        limit = matrix_product_limit(device, dtype=torch.bfloat16 if is_bfloat16 else torch.float32)
        float32_limit = matrix_product_limit(device, dtype=torch.float32)
        shape = shape_of(model.config, way)
        bounds = {"max_documents": options.held_out_documents, "max_characters": options.held_out_characters}

        def scores() -> dict[str, float]:
            return score(model, tokenizer, held_out, sequence_length=options.sequence_length, **bounds)

        before = scores()
        run: Callable[[], Any]
        if way.startswith("ours"):
            packed = pack(tokenizer, texts, context)
            length, bytes_per_token = options.sequence_length, packed.bytes_per_token

            def run() -> Any:
                return train_packed(model, stream_of(packed, tokenizer, model, context), context)
        else:
            trainer, length, bytes_per_token = _trl_trainer(way, model, tokenizer, texts, Path(scratch), options)
            run = trainer.train
        meter = Meter(model, 60 * options.minutes)
        ended_early = False
        try:
            run()
            ended_early = True
        except TimeIsUp:
            pass
        finally:
            meter.stop()
        text_bytes = meter.tokens * bytes_per_token
        return {
            "way": way,
            "seconds": meter.seconds,
            "ended_early": ended_early,
            "tokens": meter.tokens,
            "padding_share": 1 - meter.tokens / max(1, meter.positions),
            "text_bytes": text_bytes,
            "text_bytes_per_second": text_bytes / meter.seconds,
            "tokens_per_second": meter.tokens / meter.seconds,
            "mfu": meter.tokens / meter.seconds * flops_per_token(shape, length) / limit,
            "of_float32": meter.tokens / meter.seconds * flops_per_token(shape, length) / float32_limit,
            "matrix_product_gflops": limit / 1e9,
            "bits_per_byte": {"before": before, "after": scores()},
        }


def _trl_trainer(
    way: str, model: Any, tokenizer: Any, texts: list[str], scratch: Path, options: argparse.Namespace
) -> tuple[Any, int, float]:
    """TRL's trainer, the length that it cuts texts to, and the text bytes behind one of its tokens."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    is_default = way == "trl"
    has_bfloat16 = bfloat16_instructions() is not None or model.device.type == "cuda"
    given: dict[str, Any] = {} if is_default else {"bf16": has_bfloat16, "gradient_checkpointing": False}
    given |= {} if is_default else {"learning_rate": options.learning_rate}
    arguments = SFTConfig(
        output_dir=str(scratch / "trl"), report_to=[], disable_tqdm=True, use_cpu=model.device.type == "cpu", **given
    )
    trainer = SFTTrainer(
        model=model, args=arguments, train_dataset=Dataset.from_dict({"text": texts}), processing_class=tokenizer
    )
    ids = trainer.train_dataset["input_ids"]
    kept = [list(of_text[: arguments.max_length]) for of_text in ids]
    kept_bytes = sum(len(tokenizer.decode(of_text, skip_special_tokens=True).encode()) for of_text in kept)
    return trainer, int(arguments.max_length), kept_bytes / sum(map(len, kept))


def train_cuda_shape(name: str, way: str, options: argparse.Namespace) -> dict[str, Any]:
    """Readings of one shape on a GPU, or that its memory ran out; to be called in a process of its own."""
    import torch

    try:
        return _measure_cuda_shape(name, way, options)
    except (torch.OutOfMemoryError, TrainingError) as error:
        if isinstance(error, TrainingError) and "memory ran out" not in str(error):
            raise
        return {"shape": name, "way": way, "out_of_memory": str(error).splitlines()[0]}


def _measure_cuda_shape(name: str, way: str, options: argparse.Namespace) -> dict[str, Any]:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and name != "tiny":
        raise SystemExit(f"--cuda-shapes {name}: torch finds no CUDA device here; `tiny` runs anywhere.")
    length = options.sequence_length
    config = LlamaConfig(max_position_embeddings=length, **CUDA_SHAPES[name])
    limit = matrix_product_limit(device)
    with torch.device(device):
        model = LlamaForCausalLM(config)
    ids = torch.randint(0, config.vocab_size, (CUDA_STEPS * options.batch, length))
    items = [{"input_ids": row, "position_ids": torch.arange(length), "labels": row} for row in ids]
    readings: dict[str, Any] = {"shape": name, "way": way, "batch": options.batch, "sequence_length": length}
    meter = Meter(model, float("inf"), skip=CUDA_SKIPPED)
    with tempfile.TemporaryDirectory() as scratch:
        if way == "ours":
            m1 = {"batch_size": options.batch, "sequence_length": length, "warmup_steps": 2, "epochs": 1}
            train_packed(model, items, scratch_context(Path(scratch), m1 | {"max_steps": CUDA_STEPS}))
        else:
            arguments = TrainingArguments(
                output_dir=scratch, report_to=[], disable_tqdm=True, bf16=device == "cuda", save_strategy="no",
                per_device_train_batch_size=options.batch, max_steps=CUDA_STEPS, use_cpu=device == "cpu",
            )  # fmt: skip
            Trainer(model=model, args=arguments, train_dataset=items).train()
    speed = meter.tokens / meter.seconds
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else None
    return readings | {
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "tokens_per_second": speed,
        "mfu": speed * flops_per_token(shape_of(config, name), length) / limit,
        "matrix_product_tflops": limit / 1e12,
        "peak_memory_bytes": peak,
    }


def table(readings: list[dict[str, Any]]) -> list[str]:
    """Markdown of the ways."""
    lines = [
        "| way | text bytes/s | tokens/s | padding | MFU | of float32 | text read | ko before -> after | en |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for reading in readings:
        scores = reading["bits_per_byte"]
        changes = [
            f"{scores['before'][name]:.3f} -> {scores['after'][name]:.3f}" if name in scores["after"] else ""
            for name in ("ko", "en")
        ]
        lines.append(
            f"| {reading['way']} | {reading['text_bytes_per_second']:,.0f} | {reading['tokens_per_second']:,.0f} | "
            f"{reading['padding_share']:.0%} | {reading['mfu']:.0%} | {reading['of_float32']:.0%} | "
            f"{reading['text_bytes'] / 1000:,.0f} kB | "
            f"{changes[0]} | {changes[1]} |"
        )
    return lines


def cuda_table(readings: list[dict[str, Any]]) -> list[str]:
    """Markdown of the shapes."""
    lines = ["| shape | way | tokens/s | MFU | peak memory |", "|---|---|---|---|---|"]
    for reading in readings:
        if "out_of_memory" in reading:
            lines.append(f"| {reading['shape']} | {reading['way']} | out of memory | | |")
            continue
        peak = reading["peak_memory_bytes"]
        lines.append(
            f"| {reading['shape']} | {reading['way']} | {reading['tokens_per_second']:,.0f} | {reading['mfu']:.0%} | "
            f"{f'{peak / 2**30:.1f} GiB' if peak else 'not on cuda'} |"
        )
    return lines


def plot(readings: list[dict[str, Any]], file: Path) -> None:
    """Bits per byte after training against text bytes per second, a point for each way and language."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5))
    for language, marker in (("ko", "o"), ("en", "s")):
        for reading in readings:
            after = reading["bits_per_byte"]["after"]
            if language in after:
                axes.scatter(reading["text_bytes_per_second"], after[language], marker=marker)
                axes.annotate(f"{reading['way']} ({language})", (reading["text_bytes_per_second"], after[language]))
    axes.set_xlabel("text bytes per second of training")
    axes.set_ylabel("bits per byte, held out, after equal time")
    figure.savefig(file, dpi=120, bbox_inches="tight")


def _child(name: list[str], trl: Path | None) -> dict[str, Any]:
    """Readings of this script in a process of its own."""
    environment = dict(os.environ)
    if trl is not None:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(trl), environment.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "benchmarks.m1", *sys.argv[1:], "--child", *name]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    readings: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return readings


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, help="directory of a corpus_snapshot")
    parser.add_argument("--model", type=Path, help="directory of the base model and its tokenizer")
    parser.add_argument("--tokenizer", type=Path, help="directory of a domain_tokenizer")
    parser.add_argument("--trl", type=Path, help="directory that trl was installed into with --target")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--minutes", type=float, default=10, help="of training, each way")
    parser.add_argument("--batch", type=int, default=2, help="sequences of a micro-step of the project's trainer")
    parser.add_argument("--sequence-length", type=int, help="default: 512, with --cuda-shapes 2048")
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--embedding-learning-rate", type=float, default=5e-4)
    parser.add_argument("--warmup-steps", type=int, default=10)
    parser.add_argument("--held-out-documents", type=int, default=24, help="of each language")
    parser.add_argument("--held-out-characters", type=int, default=2000, help="of each document")
    parser.add_argument("--cuda-shapes", nargs="+", choices=list(CUDA_SHAPES))
    parser.add_argument("--out", type=Path, help="file for the readings (JSON)")
    parser.add_argument("--plot", type=Path, help="file for the plot (PNG)")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    return parser


def main() -> None:
    """Measure each way in a child and print Markdown."""
    parser = _parser()
    options = parser.parse_args()
    options.sequence_length = options.sequence_length or (2048 if options.cuda_shapes else 512)
    if options.child:
        is_cuda = options.cuda_shapes is not None
        readings = train_cuda_shape(*options.child, options) if is_cuda else train_one_way(options.child[0], options)
        print(json.dumps(readings))
        return
    if not options.cuda_shapes and not (options.model and options.corpus):
        parser.error("needed --model DIR and --corpus DIR, or --cuda-shapes")
    if "ours" in options.ways and not options.cuda_shapes and not options.tokenizer:
        parser.error("the way `ours` needs --tokenizer DIR; leave it out of --ways otherwise")
    if options.cuda_shapes:
        found = [_child([name, way], None) for name in options.cuda_shapes for way in CUDA_WAYS]
    else:
        found = [_child([way], options.trl) for way in options.ways]
    print("\n".join([*environment_lines(("torch", "transformers", "accelerate")), ""]))
    print("\n".join(cuda_table(found) if options.cuda_shapes else table(found)))
    if options.out:
        options.out.write_text(json.dumps(found, indent=2), encoding="utf-8")
    if options.plot and not options.cuda_shapes:
        plot(found, options.plot)


if __name__ == "__main__":
    main()
