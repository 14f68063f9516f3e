"""A training step on this CPU in float32 and in bfloat16 autocast over float32 weights, in turn, in one process.

    python -m benchmarks.m1_precision --model DIR

A step is forward, backward and fused AdamW over `--batch` x `--sequence-length` random tokens. Beside it stands the
best large matrix product of either type, which says what the CPU could do. `training/trainer/kernels.py` chooses by
the CPU's instructions; this says whether that choice is right for a CPU.
"""

import argparse
import statistics
import time
from pathlib import Path

from benchmarks.environment import environment_lines
from benchmarks.m1_training import matrix_product_limit, threads
from smartdevdigest_ops.training.trainer.kernels import bfloat16_instructions


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
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    ids_BT = torch.randint(0, model.config.vocab_size, (options.batch, options.sequence_length))

    def step(is_bfloat16: bool) -> float:
        started = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=is_bfloat16):
            loss = model(input_ids=ids_BT, labels=ids_BT).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return time.perf_counter() - started

    seconds: dict[bool, list[float]] = {False: [], True: []}
    for is_bfloat16 in (False, True):
        step(is_bfloat16)
    for _ in range(options.rounds):
        for is_bfloat16, found in seconds.items():
            found.append(step(is_bfloat16))
    print("\n".join(environment_lines(("torch", "transformers"))))
    print(f"- bfloat16 instructions: {bfloat16_instructions() or 'none'}; {threads()} threads\n")
    print("| precision | tokens/s (range) | speed | matrix product, GFLOP/s |\n|---|---:|---:|---:|")
    for is_bfloat16, found in seconds.items():
        speeds = [ids_BT.numel() / each for each in found]
        ratio = statistics.median(one / two for one, two in zip(seconds[False], found, strict=True))
        dtype = torch.bfloat16 if is_bfloat16 else torch.float32
        limit = matrix_product_limit("cpu", dtype=dtype) / 1e9
        print(
            f"| {'bfloat16 autocast' if is_bfloat16 else 'float32'} | {statistics.median(speeds):.0f} "
            f"({min(speeds):.0f}-{max(speeds):.0f}) | {ratio:.2f}x | {limit:.0f} |"
        )


if __name__ == "__main__":
    main()
