"""Round-to-nearest: what quantizing costs without GPTQ, the yardstick of what GPTQ is worth.

Every weight goes to the nearest code of its group by itself, on the grid that GPTQ uses: for a symmetric group of `b`
bits from -m to m, m its largest magnitude, steps of 2 m / (2^b - 1) around the middle code; else from its least to its
largest weight, 0 included.

Source: Frantar et al. 2022 (arXiv 2210.17323), section 5, where it is the baseline.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from smartdevdigest_ops.quantization.layer_formats import LayerFormat

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def round_weights(model: "PreTrainedModel", layers: Mapping[str, LayerFormat], *, symmetric: bool) -> None:
    """Replace the weights of `layers` (module name -> format) by their nearest codes, in place."""
    import torch

    with torch.no_grad():
        for name, stored in layers.items():
            weight_OI = model.get_submodule(name).weight
            nearest_OI = round_to_nearest(
                weight_OI.float(), bits=stored.bits, group_size=stored.group_size, symmetric=symmetric
            )
            weight_OI.copy_(nearest_OI)


def round_to_nearest(weight_OI: "torch.Tensor", *, bits: int, group_size: int, symmetric: bool) -> "torch.Tensor":
    """`weight_OI` (O, I) with each group of `group_size` inputs on its own grid; scales in 16 bits, as on disk."""
    import torch

    num_outputs, num_inputs = weight_OI.shape
    groups = weight_OI.reshape(num_outputs, num_inputs // group_size, group_size)
    largest_code = 2**bits - 1
    low, high = groups.amin(-1, keepdim=True).clamp(max=0), groups.amax(-1, keepdim=True).clamp(min=0)
    if symmetric:
        high = torch.maximum(high, -low)
        low = -high
    scale = ((high - low) / largest_code).to(torch.float16).float()
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)  # a group of zeros
    zero = torch.full_like(scale, (largest_code + 1) // 2) if symmetric else torch.round(-low / scale)
    codes = (torch.round(groups / scale) + zero).clamp(0, largest_code)
    return (scale * (codes - zero)).reshape(num_outputs, num_inputs)
