"""Bits and group size of every layer: planned from the settings, written for loaders, and read back.

Layers that are quantized otherwise than the rest stand in `quantization_config.dynamic`, as gptqmodel, vLLM and SGLang
read it (transformers does not): rules `+:REGEX` with the bits and group size of the layers whose names match from the
start, `-:REGEX` for layers that are left in 16 bits; the first that matches counts. Servers load query, key and value,
and gate and up, as one layer each and look rules up under its name, so that rules name it too and these layers must
agree.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smartdevdigest_ops.quantization.errors import QuantizationError
from smartdevdigest_ops.settings import QuantizationSettings

FUSED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}
"""Layers that servers load as one, by its name there."""
# Of vLLM's and SGLang's fast kernels (Marlin); those of gptqmodel take more.
GROUP_SIZES = (32, 64, 128)
UNPACKED_BITS = 16
_PACK_MULTIPLE = 32


@dataclass(frozen=True)
class LayerFormat:
    """How the weights of one layer are stored."""

    bits: int
    """4 or 8; 16: not packed."""
    group_size: int
    """Inputs per scale."""


def plan_layers(model_dir: Path, settings: QuantizationSettings) -> dict[str, LayerFormat]:
    """Linear layer -> its format, before hours are spent.

    Raises:
        QuantizationError: a layer cannot be packed, a group size does not divide its inputs, an override matches no
            layer, or overrides part layers that servers load as one.
    """
    shapes = {name: shape for name, shape in _linear_shapes(model_dir).items() if not name.endswith("lm_head")}
    formats = {name: LayerFormat(settings.bits, settings.group_size) for name in shapes}
    for override in settings.overrides:
        matched = [name for name in shapes if re.search(override.layers, name)]
        if not matched:
            raise QuantizationError(
                f"quantization.overrides: {override.layers!r} matches no layer of {model_dir.name}, whose layers are "
                f"called like {next(iter(shapes))}. Mend the expression or take it out."
            )
        formats |= dict.fromkeys(matched, LayerFormat(override.bits, override.group_size or settings.group_size))
    for name, (num_outputs, num_inputs) in shapes.items():
        if formats[name].bits != UNPACKED_BITS:
            _require_packable(name, num_outputs, num_inputs)
    _require_group_sizes(shapes, formats)
    for parent, fused in _parted(formats):
        raise QuantizationError(
            f"quantization.overrides: {', '.join(FUSED[fused])} of {parent} would differ, but servers load them as one "
            f"layer ({fused}). Match all of them or none."
        )
    return formats


def dynamic_rules(formats: Mapping[str, LayerFormat], rest: LayerFormat) -> dict[str, dict[str, int]]:
    """`quantization_config.dynamic` for the layers that are not as `rest`; empty where all are."""
    names: dict[LayerFormat, list[str]] = {}
    for name, found in formats.items():
        if found != rest:
            names.setdefault(found, []).append(name)
    rules: dict[str, dict[str, int]] = {}
    for found, matched in names.items():
        every = dict.fromkeys(alias for name in matched for alias in (name, *_fused_name(name)))
        pattern = f"(?:{'|'.join(map(re.escape, every))})$"
        if found.bits == UNPACKED_BITS:
            rules[f"-:{pattern}"] = {}
        else:
            rules[f"+:{pattern}"] = {"bits": found.bits, "group_size": found.group_size}
    return rules


def stored_format(quantization: Mapping[str, Any], layer: str) -> LayerFormat:
    """Format of a layer by a `quantization_config`."""
    bits, group_size = int(quantization["bits"]), int(quantization.get("group_size", -1))
    for rule, values in (quantization.get("dynamic") or {}).items():
        sign, pattern = (rule[:2], rule[2:]) if rule[:2] in ("+:", "-:") else ("+:", rule)
        if re.match(pattern, layer):
            if sign == "-:":
                return LayerFormat(UNPACKED_BITS, group_size)
            return LayerFormat(int(values.get("bits", bits)), int(values.get("group_size", group_size)))
    return LayerFormat(bits, group_size)


def _fused_name(layer: str) -> Iterator[str]:
    parent, _, name = layer.rpartition(".")
    for fused, together in FUSED.items():
        if name in together:
            yield f"{parent}.{fused}"


def _parted(formats: Mapping[str, LayerFormat]) -> Iterator[tuple[str, str]]:
    """Parent and fused name of layers that servers load as one and that differ."""
    found: dict[str, set[LayerFormat]] = {}
    for name, layer_format in formats.items():
        for fused in _fused_name(name):
            found.setdefault(fused, set()).add(layer_format)
    for fused, different in found.items():
        if len(different) > 1:
            parent, _, name = fused.rpartition(".")
            yield parent, name


def _require_packable(name: str, num_outputs: int, num_inputs: int) -> None:
    if num_inputs % _PACK_MULTIPLE or num_outputs % _PACK_MULTIPLE:
        raise QuantizationError(
            f"{name} maps {num_inputs} inputs to {num_outputs} outputs; GPTQ packs weights by "
            f"{_PACK_MULTIPLE} in both directions. Leave this layer in 16 bits (quantization.overrides), set "
            "model.use_gptq to false, or choose another model.base_model."
        )


def _require_group_sizes(shapes: Mapping[str, tuple[int, int]], formats: Mapping[str, LayerFormat]) -> None:
    for name, found in formats.items():
        num_inputs, size = shapes[name][1], found.group_size
        if found.bits == UNPACKED_BITS or (size in GROUP_SIZES and num_inputs % size == 0):
            continue
        valid = [size for size in GROUP_SIZES if all(inputs % size == 0 for _, inputs in shapes.values())]
        misfit = f"does not divide the {num_inputs} inputs of {name}" if num_inputs % size else "is no size of kernels"
        raise QuantizationError(
            f"a group size of {size} {misfit}: the last group would be short and no kernel could run it. Set "
            f"quantization.group_size, or that of quantization.overrides, to one of {', '.join(map(str, valid))} (64 "
            "and 128 are usual; smaller is larger and closer)."
        )


def _linear_shapes(model_dir: Path) -> dict[str, tuple[int, int]]:
    """(outputs, inputs) of every linear layer, from the configuration alone: no weight is read."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(model_dir, local_files_only=True)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return {
        name: (module.out_features, module.in_features)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
