"""A training step on this CPU with one kernel or precision changed at a time, in turn, in one process.

    python -m benchmarks.m1_kernels --model DIR

A step is forward, backward and AdamW over `--batch` x `--sequence-length` random tokens. The yardstick is float32 with
SDPA and fused AdamW; beside it stands the best large matrix product of the step's type, which says what the CPU could
do. `training/trainer/kernels.py` chooses by the CPU's instructions; this says whether that choice is right for a CPU.
"""

import argparse
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.environment import environment_lines
from benchmarks.m1_training import matrix_product_limit, threads
from smartdevdigest_ops.training.trainer.kernels import bfloat16_instructions


@dataclass(frozen=True)
class Way:
    """How a step computes."""

    name: str
    is_bfloat16: bool = False
    attention: str = "sdpa"
    is_fused: bool = True
    """The optimizer."""


WAYS = (
    Way("float32, SDPA, fused AdamW"),
    Way("bfloat16 autocast", is_bfloat16=True),
    Way("AdamW not fused", is_fused=False),
    Way("eager attention", attention="eager"),
)


def main() -> None:
    """Measure and print Markdown."""
    import torch
    from transformers import AutoModelForCausalLM

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="directory of a model")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--sequence-length", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(threads())
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).train()
    model.config.use_cache = False
    optimizers = {fused: torch.optim.AdamW(model.parameters(), lr=1e-5, fused=fused) for fused in (True, False)}
    ids_BT = torch.randint(0, model.config.vocab_size, (options.batch, options.sequence_length))

    def step(way: Way) -> float:
        model.set_attn_implementation(way.attention)
        optimizer = optimizers[way.is_fused]
        started = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=way.is_bfloat16):
            loss = model(input_ids=ids_BT, labels=ids_BT).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return time.perf_counter() - started

    for way in WAYS:
        step(way)
    seconds: dict[Way, list[float]] = {way: [] for way in WAYS}
    for _ in range(options.rounds):
        for way, found in seconds.items():
            found.append(step(way))
    print("\n".join(environment_lines(("torch", "transformers"))))
    print(f"- bfloat16 instructions: {bfloat16_instructions() or 'none'}; {threads()} threads\n")
    print("| step | tokens/s (range) | speed | matrix product, GFLOP/s |\n|---|---:|---:|---:|")
    limits = {
        is_bfloat16: matrix_product_limit("cpu", dtype=torch.bfloat16 if is_bfloat16 else torch.float32) / 1e9
        for is_bfloat16 in (False, True)
    }
    for way, found in seconds.items():
        speeds = [ids_BT.numel() / each for each in found]
        ratio = statistics.median(one / other for one, other in zip(seconds[WAYS[0]], found, strict=True))
        print(
            f"| {way.name} | {statistics.median(speeds):.0f} ({min(speeds):.0f}-{max(speeds):.0f}) | {ratio:.2f}x | "
            f"{limits[way.is_bfloat16]:.0f} |"
        )


if __name__ == "__main__":
    main()
