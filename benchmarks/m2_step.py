"""An M2 training step with the logits of all positions and with those of the answer's only, in turn, in one process.

    python -m benchmarks.m2_step --model DIR

A step is forward and backward of a LoRA adapter on every linear layer over one sequence of `--sequence-length` random
tokens, of which the last `--answer` carry loss. The loss is the same; training/trainer/scored_positions.py says how.
"""

import argparse
import statistics
import time
from pathlib import Path

from benchmarks.environment import environment_lines
from benchmarks.m1_training import threads
from smartdevdigest_ops.training.trainer.scored_positions import at_scored_positions


def main() -> None:
    """Measure and print Markdown."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="directory of a model")
    parser.add_argument("--sequence-length", type=int, default=1024)
    parser.add_argument("--answer", type=int, default=380, help="tokens; of 220 labels, SmolLM2 extended: median 385")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(threads())
    whole = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
    whole.config.use_cache = False
    model = get_peft_model(whole, LoraConfig(r=32, target_modules="all-linear", task_type="CAUSAL_LM")).train()
    ids_BT = torch.randint(0, whole.config.vocab_size, (1, options.sequence_length))
    labels_BT = ids_BT.clone()
    labels_BT[:, : -options.answer] = -100
    everywhere = {"input_ids": ids_BT, "labels": labels_BT}
    ways = {"all positions": everywhere, "scored positions": at_scored_positions(everywhere)}

    def step(inputs: dict[str, torch.Tensor]) -> tuple[float, float]:
        started = time.process_time() if threads() == 1 else time.perf_counter()
        loss = model(**inputs).loss
        loss.backward()
        ended = time.process_time() if threads() == 1 else time.perf_counter()
        model.zero_grad()
        return ended - started, float(loss)

    losses = {name: step(inputs)[1] for name, inputs in ways.items()}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, inputs in ways.items():
            seconds[name].append(step(inputs)[0])
    print("\n".join(environment_lines(("torch", "transformers", "peft"))))
    print(f"- vocabulary of {whole.config.vocab_size}, {threads()} threads\n")
    print("| logits of | tokens/s (range) | speed | loss |\n|---|---:|---:|---:|")
    for name, found in seconds.items():
        speeds = [options.sequence_length / each for each in found]
        ratio = statistics.median(a / b for a, b in zip(seconds["all positions"], found, strict=True))
        print(
            f"| {name} | {statistics.median(speeds):.0f} ({min(speeds):.0f}-{max(speeds):.0f}) | {ratio:.2f}x | "
            f"{losses[name]:.6f} |"
        )


if __name__ == "__main__":
    main()
