"""Memory of a training, planned and measured: full training in float32 on the CPU, a process for each shape.

    python -m benchmarks.plan_memory --model DIR --corpus DIR --shapes 1x512 2x512 4x256

A child trains three steps of M1 on packed text with the stage's own trainer, and reads

- together: the process's peak resident memory from loading the model on, less what was resident before, with all
  libraries loaded
- weights: the bytes of the tensors
- activations: what torch saves for the backward pass of one micro-step, storage by storage, less the log-probabilities

and the plan (training/plan/memory.py) is set beside it. It does not count what the allocator keeps, buffers of the
matrix products, the Trainer's own objects.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.environment import environment_lines
from benchmarks.m1_training import pack, read_texts, scratch_context, train_packed
from benchmarks.memory_meter import forget_peak, peak_bytes
from smartdevdigest_ops.training.plan.memory import PARTS, Precision, StepShape, activation_bytes, shape_of, step_memory

MIB = 2**20
STEPS = 3
"""The optimizer's states are there from the second on."""


def measure(model_dir: Path, corpus: Path, batch_size: int, length: int, precision: Precision) -> dict[str, Any]:
    """Readings of one shape in bytes; to be called in a process of its own."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    with tempfile.TemporaryDirectory() as scratch:
        m1 = {"batch_size": batch_size, "sequence_length": length, "max_steps": STEPS, "warmup_steps": 1}
        context = scratch_context(Path(scratch), m1 | {"gradient_accumulation": 1, "epochs": 1}, precision=precision)
        texts, _ = read_texts(corpus)
        packed = pack(AutoTokenizer.from_pretrained(model_dir), texts, context)
        # Those of most documents: a micro-step without a boundary inside has no mask, and needs less.
        most_split = sorted(range(len(packed)), key=lambda i: int((packed[i]["position_ids"] > 0).sum()))
        items = [packed[i] for i in most_split[: STEPS * batch_size]]
        shape = shape_of(AutoConfig.from_pretrained(model_dir), model_dir.name)
        _load_libraries(Path(scratch))
        forget_peak()
        before = peak_bytes()
        model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
        train_packed(model, items, context)
        together = peak_bytes() - before
        saved = _saved_bytes(
            model,
            {key: torch.stack([item[key] for item in items[:batch_size]]) for key in items[0]},
            autocast=precision == "bfloat16",
        )
    step = StepShape("full", batch_size, length, False, precision, base_precision="float32", is_packed=True)
    moment, parts = step_memory(shape, step)
    return {
        "moment": moment,
        "planned": parts | {"together": sum(parts.values()), "saved": activation_bytes(shape, step)},
        "measured": {
            "together": together,
            "weights": sum(weight.nbytes for weight in model.parameters()),
            "saved": saved - 4 * batch_size * length * shape.vocab_size,
        },
    }


def _load_libraries(scratch: Path) -> None:
    """Train a tiny model once: what is imported and set up on first use is no part of the model's memory."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tiny = LlamaConfig(vocab_size=64, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    m1 = {"batch_size": 1, "sequence_length": 16, "max_steps": 1, "warmup_steps": 0, "gradient_accumulation": 1}
    context = scratch_context(scratch / "libraries", m1 | {"epochs": 1})
    import torch

    ids = torch.arange(16)
    items = [{"input_ids": ids, "position_ids": ids, "labels": ids}] * 4
    train_packed(LlamaForCausalLM(tiny), items, context)


def _saved_bytes(model: Any, batch: dict[str, Any], *, autocast: bool) -> int:
    """Bytes that torch keeps for the backward pass, weights not counted."""
    import torch

    own = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    saved: dict[int, Any] = {}

    def keep(tensor: Any) -> Any:
        saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast),
    ):
        loss = model(**batch, use_cache=False).loss
    assert loss.requires_grad
    return sum(tensor.untyped_storage().nbytes() for place, tensor in saved.items() if place not in own)


def row(name: str, reading: dict[str, Any]) -> str:
    """One line of the table, in MiB."""
    planned, measured = reading["planned"], reading["measured"]
    off = planned["together"] / measured["together"] - 1
    cells = [*(f"{planned[part] / MIB:.0f}" for part in PARTS), f"{planned['together'] / MIB:.0f}"]
    cells += [f"{measured['together'] / MIB:.0f}", f"{off:+.1%}"]
    cells.append(f"{planned['saved'] / MIB:.1f} / {measured['saved'] / MIB:.1f}")
    return f"| {name} | {reading['moment']} | {' | '.join(cells)} |"


def main() -> None:
    """Measure each shape in a child and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="directory with config.json and weights")
    parser.add_argument("--shapes", nargs="+", default=["1x512", "2x512", "4x256"], help="sequences x tokens")
    parser.add_argument("--corpus", type=Path, required=True, help="directory of a corpus_snapshot")
    parser.add_argument("--precisions", nargs="+", choices=("float32", "bfloat16"), default=["float32", "bfloat16"])
    parser.add_argument("--out", type=Path, help="file for the readings (JSON)")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        batch_size, length = (int(size) for size in options.shapes[0].split("x"))
        print(json.dumps(measure(options.model, options.corpus, batch_size, length, options.precisions[0])))
        return
    readings = {}
    command = [sys.executable, "-m", "benchmarks.plan_memory", "--child", "--model", str(options.model)]
    command += ["--corpus", str(options.corpus)]
    for precision in options.precisions:
        for shape in options.shapes:
            given = ["--shapes", shape, "--precisions", precision]
            done = subprocess.run([*command, *given], check=True, stdout=subprocess.PIPE, text=True)
            readings[f"{shape}, {precision}"] = json.loads(done.stdout.splitlines()[-1])
    print("\n".join(environment_lines(("torch", "transformers", "accelerate"))))
    print(f"\n| B x T | peak at | {' | '.join(PARTS)} | planned | measured | off | activations planned / measured |")
    print("|---" * (len(PARTS) + 6) + "|")
    print("\n".join(row(name, reading) for name, reading in readings.items()))
    if options.out:
        options.out.write_text(json.dumps(readings, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
