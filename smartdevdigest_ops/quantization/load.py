"""Load a model directory for inference, GPTQ or plain.

The GPTQ layout (arXiv 2210.17323; on disk as AutoGPTQ introduced it) holds for every quantized linear layer with
`I` inputs, `O` outputs, `b` bits, `p = 32 / b` codes per word and `G` groups:

    qweight (I / p, O) int32   code of input i is in word i // p, at bit b * (i % p)
    qzeros  (G, O / p) int32   zero point of output o in word o // p; format v1 stores it minus one
    scales  (G, O) float16
    g_idx   (I,) int32         group of each input

    weight[o, i] = scales[g, o] * (code[i, o] - zero[g, o]),  g = g_idx[i]

Kernels unpack this on every forward, which on a CPU costs more than the matrix product. Here it is unpacked once, by
the formula alone, so that a machine without gptqmodel evaluates the weights that are served (in float16 bit for bit
those of gptqmodel's kernel; in float32 without its rounding).
"""

import json
from collections.abc import Iterator
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smartdevdigest_ops.quantization.errors import QuantizationError
from smartdevdigest_ops.quantization.layer_formats import LayerFormat, stored_format

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_WORD_BITS = 32
_READABLE_BITS = (2, 4, 8)
PACKED_SUFFIXES = ("qweight", "qzeros", "scales", "g_idx")


def read_config(model_dir: Path) -> dict[str, Any]:
    """`config.json` of a model directory.

    Raises:
        QuantizationError: it is missing or no JSON object.
    """
    path = model_dir / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise QuantizationError(
            f"{path} could not be read ({error}): {model_dir} is no Hugging Face model directory. "
            "Give the directory that holds config.json and the safetensors files."
        ) from None
    if not isinstance(config, dict):
        raise QuantizationError(f"{path} must hold a JSON object, found {type(config).__name__}.")
    return config


def load_for_inference(model_dir: Path, *, device: str, dtype: "torch.dtype") -> "PreTrainedModel":
    """The causal language model in `model_dir`, in eval mode, on `device` in `dtype`.

    A GPTQ directory stays packed on cuda where gptqmodel is installed (4-bit kernels, through transformers), unless
    layers have formats of their own; anywhere else it becomes a dense model of the same values.

    Raises:
        QuantizationError: the directory is no model, or is quantized in a way that cannot be unpacked here.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, AutoModelForCausalLM

    quantization = read_config(model_dir).get("quantization_config")
    if quantization is None:
        model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=dtype, local_files_only=True)
    elif device.startswith("cuda") and _can_run_packed(quantization):
        model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=dtype, device_map=device, local_files_only=True)
        return model.eval()
    else:
        config = AutoConfig.from_pretrained(model_dir, local_files_only=True)
        del config.quantization_config
        state = read_dense_state(model_dir, dtype)
        # The model's own class: the Auto class insists on a directory, whose weights are the packed ones.
        model_class = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
        model = model_class.from_pretrained(None, config=config, state_dict=state, dtype=dtype)
    return model.to(device).eval()


def _can_run_packed(quantization: dict[str, Any]) -> bool:
    return (
        quantization.get("quant_method") == "gptq"
        and not quantization.get("dynamic")  # transformers would make every layer alike
        and util.find_spec("gptqmodel") is not None
        and util.find_spec("optimum") is not None
    )


def read_dense_state(model_dir: Path, dtype: "torch.dtype") -> dict[str, "torch.Tensor"]:
    """State dict of a GPTQ directory with every packed layer as a dense `weight` (O, I), all in `dtype`.

    Packed tensors are dropped layer by layer, so that memory peaks at the dense model plus one layer.

    Raises:
        QuantizationError: not GPTQ, bits that are not 2, 4 or 8, or a layer lacks one of its tensors.
    """
    quantization = _gptq_config(model_dir)
    # Absent in files older than the second format, which were all of the first.
    stored_minus_one = quantization.get("checkpoint_format", "gptq") == "gptq"
    state: dict[str, torch.Tensor] = {}
    packed: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in stored_tensors(model_dir):
        layer, _, kind = name.rpartition(".")
        if kind not in PACKED_SUFFIXES:
            state[name] = tensor.to(dtype) if tensor.is_floating_point() else tensor
            continue
        parts = packed.setdefault(layer, {})
        parts[kind] = tensor
        if len(parts) == len(PACKED_SUFFIXES):
            bits = _readable_bits(model_dir, stored_format(quantization, layer).bits)
            weight = dequantize(bits=bits, zeros_stored_minus_one=stored_minus_one, **packed.pop(layer))
            state[f"{layer}.weight"] = weight.to(dtype)
    if packed:
        layer, parts = next(iter(packed.items()))
        missing = ", ".join(sorted(set(PACKED_SUFFIXES) - set(parts)))
        raise QuantizationError(
            f"{model_dir}: layer {layer} lacks {missing}; its weight cannot be rebuilt and the model was not loaded. "
            "Copy the model again or materialize quantized_model again."
        )
    return state


def packed_layers(model_dir: Path) -> dict[str, LayerFormat]:
    """Module name -> format of each packed layer of a GPTQ directory."""
    quantization = _gptq_config(model_dir)
    names = (name.rpartition(".") for name, _ in stored_tensors(model_dir))
    return {layer: stored_format(quantization, layer) for layer, _, kind in names if kind == "qweight"}


def dequantize(
    qweight: "torch.Tensor",
    qzeros: "torch.Tensor",
    scales: "torch.Tensor",
    g_idx: "torch.Tensor",
    *,
    bits: int,
    zeros_stored_minus_one: bool,
) -> "torch.Tensor":
    """Dense weight (O, I) float32 of one packed layer.

    The product of a float16 scale and a code is exact in float32; cast to float16 it is what the float16 kernels use.
    """
    import torch

    if zeros_stored_minus_one:
        # On whole words, as it was subtracted: a zero point of 0 borrowed from its neighbour, which this gives back.
        ones = sum(1 << shift for shift in range(0, _WORD_BITS, bits))
        qzeros = qzeros + torch.tensor(ones, dtype=torch.int32)
    shifts = torch.arange(0, _WORD_BITS, bits, dtype=torch.int32)
    mask = (1 << bits) - 1
    codes = ((qweight.unsqueeze(1) >> shifts.view(1, -1, 1)) & mask).flatten(0, 1)  # (I, O)
    zeros = ((qzeros.unsqueeze(2) >> shifts.view(1, 1, -1)) & mask).flatten(1, 2)  # (G, O)
    groups = g_idx.long()
    return (scales.float()[groups] * (codes - zeros[groups])).T.contiguous()


def _gptq_config(model_dir: Path) -> dict[str, Any]:
    quantization: dict[str, Any] = read_config(model_dir).get("quantization_config") or {}
    method = quantization.get("quant_method")
    if method != "gptq" or quantization.get("checkpoint_format", "gptq") not in ("gptq", "gptq_v2"):
        raise QuantizationError(
            f"{model_dir / 'config.json'}: quantization method {method!r}, format "
            f"{quantization.get('checkpoint_format')!r}; only GPTQ (gptq, gptq_v2) can be unpacked without its own "
            "kernels. Load this model on a GPU, or quantize it with the quantized_model stage."
        )
    _readable_bits(model_dir, quantization.get("bits"))
    return quantization


def _readable_bits(model_dir: Path, bits: object) -> int:
    if not isinstance(bits, int) or bits not in _READABLE_BITS:
        raise QuantizationError(
            f"{model_dir / 'config.json'}: {bits!r} bits; codes of {_READABLE_BITS} bits fill "
            "32-bit words evenly and can be unpacked. Quantize to 4 or 8 bits."
        )
    return bits


def stored_tensors(model_dir: Path) -> Iterator[tuple[str, "torch.Tensor"]]:
    """Name and value of every tensor of a model directory, one in memory at a time.

    Raises:
        QuantizationError: the directory holds no safetensors file.
    """
    from safetensors import safe_open

    files = sorted(model_dir.glob("*.safetensors"))
    if not files:
        raise QuantizationError(f"{model_dir} holds no *.safetensors file: there are no weights to load.")
    for file in files:
        with safe_open(file, framework="pt") as stream:
            for name in stream.keys():  # noqa: SIM118 - safe_open is no mapping
                yield name, stream.get_tensor(name)
