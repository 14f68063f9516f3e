"""Whether a GPTQ directory is laid out as the loaders of vLLM and SGLang read it.

They allocate every parameter from `quantization_config` and the model's shapes, and copy the stored tensors into them:
what differs in a key, a shape or a type fails there, on the machine that was to serve. The rules are those of vLLM's
`gptq_marlin.py` and `gptq.py` (SGLang's are derived from them): keys `quant_method`, `bits`, `group_size`, `desc_act`,
`sym`; int32 words of 32 / bits codes; float16 or bfloat16 scales; layers that are fused there (query, key, value; gate,
up) packed all or none. Only headers and `g_idx` are read.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smartdevdigest_ops.quantization.layer_formats import FUSED, GROUP_SIZES, UNPACKED_BITS, stored_format
from smartdevdigest_ops.quantization.load import PACKED_SUFFIXES, read_config

_WORD_BITS = 32
_BITS = (4, 8)
_GROUP_SIZES = (-1, *GROUP_SIZES)  # -1 is one group per output
_FORMATS = ("gptq", "gptq_v2")
_TYPES = {"qweight": ("I32",), "qzeros": ("I32",), "g_idx": ("I32",), "scales": ("F16", "BF16")}


@dataclass(frozen=True)
class _Tensor:
    shape: tuple[int, ...]
    dtype: str
    """As safetensors writes it: I32, F16."""


def layout_problems(model_dir: Path) -> list[str]:
    """What a server could not load, in sentences; empty where it can load everything.

    Raises:
        QuantizationError: config.json is missing or no JSON object.
    """
    config = read_config(model_dir)
    quantization = config.get("quantization_config")
    if not isinstance(quantization, dict):
        return ["config.json: no quantization_config, the directory would be loaded as unquantized"]
    if problems := list(_config_problems(quantization)):
        return problems
    tensors, groups, plain = _read(model_dir)
    problems = []
    for layer, parts in tensors.items():
        if layer.endswith("lm_head") and not quantization.get("lm_head"):
            problems.append(f"{layer}: packed, but quantization_config does not say so (lm_head)")
        problems += _layer_problems(layer, parts, groups.get(layer, -1), quantization)
    problems += [
        f"{layer}: not packed, but quantization_config says {stored_format(quantization, layer).bits} bits"
        for layer in sorted(plain)
        if layer.endswith("_proj") and stored_format(quantization, layer).bits != UNPACKED_BITS
    ]
    return problems + list(_fused_problems(tensors, plain, quantization))


def _config_problems(quantization: Mapping[str, Any]) -> Iterator[str]:
    method, bits, size = (quantization.get(key) for key in ("quant_method", "bits", "group_size"))
    if method != "gptq":
        yield f"quantization_config.quant_method: {method!r}, gptq needed"
    if bits not in _BITS:
        yield f"quantization_config.bits: {bits!r}, one of {_BITS} needed"
    if size not in _GROUP_SIZES:
        yield f"quantization_config.group_size: {size!r}, one of {_GROUP_SIZES} needed"
    for key in ("desc_act", "sym"):
        if not isinstance(quantization.get(key), bool):
            yield f"quantization_config.{key}: {quantization.get(key)!r}, true or false needed"
    if quantization.get("checkpoint_format", "gptq") not in _FORMATS:
        yield f"quantization_config.checkpoint_format: {quantization['checkpoint_format']!r}, one of {_FORMATS} needed"
    dynamic = quantization.get("dynamic") or {}
    for rule, values in dynamic.items():
        if values.get("bits", bits) not in _BITS or values.get("group_size", size) not in _GROUP_SIZES:
            yield f"quantization_config.dynamic: {rule}: {values}, bits of {_BITS}, groups of {_GROUP_SIZES} needed"


def _layer_problems(
    layer: str, parts: Mapping[str, _Tensor], last_group: int, quantization: Mapping[str, Any]
) -> Iterator[str]:
    missing = [suffix for suffix in PACKED_SUFFIXES if suffix not in parts]
    if missing:
        yield f"{layer}: lacks {', '.join(missing)}"
        return
    for suffix, types in _TYPES.items():
        if parts[suffix].dtype not in types:
            yield f"{layer}.{suffix}: {parts[suffix].dtype}, {' or '.join(types)} needed"
    inputs, outputs = parts["g_idx"].shape[0], parts["scales"].shape[-1]
    stored = stored_format(quantization, layer)
    if stored.bits not in _BITS:
        yield f"{layer}: packed, but quantization_config.dynamic says that it is not"
        return
    codes = _WORD_BITS // stored.bits
    size = inputs if stored.group_size == -1 else stored.group_size
    if inputs % size or inputs % codes or outputs % codes:
        yield f"{layer}: {inputs} inputs and {outputs} outputs are not whole groups of {size} and words of {codes}"
        return
    needed = {
        "qweight": (inputs // codes, outputs),
        "qzeros": (inputs // size, outputs // codes),
        "scales": (inputs // size, outputs),
        "g_idx": (inputs,),
    }
    for suffix, shape in needed.items():
        if parts[suffix].shape != shape:
            yield f"{layer}.{suffix}: {parts[suffix].shape}, {shape} needed"
    if last_group != inputs // size - 1:
        yield f"{layer}.g_idx: groups up to {last_group}, {inputs // size - 1} needed"


def _fused_problems(packed: Mapping[str, Any], plain: set[str], quantization: Mapping[str, Any]) -> Iterator[str]:
    for layer in packed:
        parent, _, name = layer.rpartition(".")
        for fused, together in FUSED.items():
            for other in together if name in together else ():
                if f"{parent}.{other}" in plain:
                    yield f"{parent}: {name} is packed and {other} is not, but servers load them as one layer"
            if name in together and (
                stored_format(quantization, layer) != stored_format(quantization, f"{parent}.{fused}")
            ):
                yield f"{layer}: servers load it as part of {fused}, which has another format by quantization_config"


def _read(model_dir: Path) -> tuple[dict[str, dict[str, _Tensor]], dict[str, int], set[str]]:
    """Packed layer -> suffix -> header, packed layer -> largest group index, and layers with a dense `weight`."""
    from safetensors import safe_open

    tensors: dict[str, dict[str, _Tensor]] = defaultdict(dict)
    groups: dict[str, int] = {}
    plain: set[str] = set()
    for file in sorted(model_dir.glob("*.safetensors")):
        with safe_open(file, framework="np") as stream:
            for name in stream.keys():  # noqa: SIM118 - no mapping
                layer, _, suffix = name.rpartition(".")
                if suffix == "weight":
                    plain.add(layer)
                elif suffix in PACKED_SUFFIXES:
                    header = stream.get_slice(name)
                    tensors[layer][suffix] = _Tensor(tuple(header.get_shape()), header.get_dtype())
                if suffix == "g_idx":
                    groups[layer] = int(stream.get_tensor(name).max())
    return dict(tensors), groups, plain
