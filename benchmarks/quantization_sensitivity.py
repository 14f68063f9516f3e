r"""Which layers 4 bits hurt most, for `quantization.overrides`: what each adds to the divergence of the predictions.

    python -m benchmarks.quantization_sensitivity --model DIR --quantized DIR --pairs DIR --sequences 24

To second order, changing a layer's weights by d moves the next token's distribution by a Kullback-Leibler divergence of
d F d / 2, F the Fisher information (Kunstner et al. 2019, arXiv 1905.12558, section 2): the mean of (g d)^2, g the
gradient of a sequence's log-likelihood whose tokens are drawn from the model's own predictions. One backward pass per
sequence measures every layer, where quantizing one layer at a time would take a scoring each. `--quantized` is
what quantized_model or benchmarks.quantization made of `--model`. Layers that servers load as one are one row. At the
end: the divergence that was really measured, which the sum of all rows should be near.
"""

import argparse
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks.environment import environment_lines
from benchmarks.m1_training import threads
from smartdevdigest_ops.corpus.read import read_split
from smartdevdigest_ops.quantization.calibration import build_calibration
from smartdevdigest_ops.quantization.layer_formats import FUSED
from smartdevdigest_ops.quantization.load import load_for_inference, packed_layers

_SEED = 17


def unit_of(layer: str) -> str:
    """The layer, or the name under which servers load it with others."""
    parent, _, name = layer.rpartition(".")
    return next((f"{parent}.{fused}" for fused, together in FUSED.items() if name in together), layer)


def measure(
    model: Any, quantized: Any, layers: list[str], sequences: list[list[int]]
) -> tuple[dict[str, float], float]:
    """Unit -> expected divergence, and the measured divergence of all, both in bits per token."""
    import torch

    model.requires_grad_(False)
    changes, weights = {}, {}
    for layer in layers:
        weights[layer] = model.get_submodule(layer).weight.requires_grad_(True)
        changes[layer] = quantized.get_submodule(layer).weight.detach() - weights[layer].detach()
    units: dict[str, float] = defaultdict(float)
    measured, num_tokens = 0.0, 0
    generator = torch.Generator().manual_seed(_SEED)
    for sequence in sequences:
        ids_1T = torch.tensor([sequence])
        logs_TV = model(input_ids=ids_1T, use_cache=False).logits[0].log_softmax(-1)
        drawn_T = torch.multinomial(logs_TV.detach().exp(), 1, generator=generator)[:, 0]
        logs_TV.gather(1, drawn_T[:, None]).sum().backward()
        slopes: dict[str, float] = defaultdict(float)
        for layer, weight in weights.items():
            slopes[unit_of(layer)] += float((weight.grad * changes[layer]).sum())
            weight.grad = None
        for unit, slope in slopes.items():
            units[unit] += slope**2 / 2
        with torch.no_grad():
            other_TV = quantized(input_ids=ids_1T, use_cache=False).logits[0].log_softmax(-1)
            measured += float((logs_TV.exp() * (logs_TV - other_TV)).sum())
        num_tokens += len(sequence)
    to_bits = 1 / (num_tokens * math.log(2))
    return {unit: value * to_bits for unit, value in units.items()}, measured * to_bits


def main() -> None:
    """Measure and print Markdown."""
    import torch
    from transformers import AutoTokenizer

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="directory of the unquantized model")
    parser.add_argument("--quantized", type=Path, required=True, help="directory of the same, quantized")
    parser.add_argument("--pairs", type=Path, required=True, help="directory of a labeled_pairs")
    parser.add_argument("--sequences", type=int, default=24, help="labelled documents of the train split")
    parser.add_argument("--tokens", type=int, default=512, help="of each at most")
    parser.add_argument("--rows", type=int, default=12, help="layers to list")
    options = parser.parse_args()
    torch.set_num_threads(threads())
    calibration = build_calibration(
        AutoTokenizer.from_pretrained(options.model),
        read_split(options.pairs, "train"),
        num_documents=options.sequences,
        num_tokens=options.tokens,
        prompt_tokens=options.tokens,
        seed=_SEED,
    )
    model, quantized = (
        load_for_inference(directory, device="cpu", dtype=torch.float32)
        for directory in (options.model, options.quantized)
    )
    layers = sorted(packed_layers(options.quantized))
    units, measured = measure(model, quantized, layers, calibration.sequences)
    num_weights = {layer: model.get_submodule(layer).weight.numel() for layer in layers}
    total_weights, total = sum(num_weights.values()), sum(units.values())
    print("\n".join(environment_lines(("torch", "transformers", "gptqmodel"))))
    print(f"- {len(calibration.sequences)} sequences, {calibration.num_tokens:,} tokens\n")
    print("| layer | bits per token | share | of the weights |\n|---|---:|---:|---:|")
    for unit, value in sorted(units.items(), key=lambda item: -item[1])[: options.rows]:
        own = sum(number for layer, number in num_weights.items() if unit_of(layer) == unit) / total_weights
        print(f"| {unit} | {value:.5f} | {value / total:.1%} | {own:.1%} |")
    print(f"\nAll {len(units)}: {total:.4f} bits per token expected, {measured:.4f} measured.")


if __name__ == "__main__":
    main()
