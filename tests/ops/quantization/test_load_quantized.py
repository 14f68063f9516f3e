"""Unpacking GPTQ weights without gptqmodel."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from smartdevdigest_ops.quantization.errors import QuantizationError
from smartdevdigest_ops.quantization.gptq import quantize_gptq
from smartdevdigest_ops.quantization.layout import layout_problems
from smartdevdigest_ops.quantization.load import dequantize, load_for_inference, read_dense_state
from smartdevdigest_ops.settings import QuantizationSettings


def pack(codes: list[int], bits: int) -> int:
    word = sum(code << (bits * position) for position, code in enumerate(codes))
    return word - 2**32 if word >= 2**31 else word


@pytest.mark.parametrize("minus_one", [True, False])
def test_a_weight_packed_by_hand_is_unpacked_exactly(minus_one: bool) -> None:
    import torch

    # 8 inputs in 2 groups of 4, 8 outputs; code of input i, output o is (i + o) % 16; zero 8 then 0; scales 0.5 then 2.
    qweight = torch.tensor([[pack([(i + o) % 16 for i in range(8)], 4) for o in range(8)]], dtype=torch.int32)
    zero_words = [pack([8] * 8, 4), pack([0] * 8, 4)]
    if minus_one:
        zero_words = [word - 0x11111111 for word in zero_words]  # as whole words, so a zero of 0 borrows
    qzeros = torch.tensor([[word] for word in zero_words], dtype=torch.int64).to(torch.int32)
    scales = torch.tensor([[0.5] * 8, [2.0] * 8], dtype=torch.float16)
    g_idx = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1], dtype=torch.int32)
    weight = dequantize(qweight, qzeros, scales, g_idx, bits=4, zeros_stored_minus_one=minus_one)
    expected = [[0.5 * ((i + o) % 16 - 8) if i < 4 else 2.0 * ((i + o) % 16) for i in range(8)] for o in range(8)]
    assert weight.tolist() == expected


def test_inputs_follow_their_group_index_not_their_position() -> None:
    import torch

    qweight = torch.full((1, 8), pack([9] * 8, 4), dtype=torch.int32)
    qzeros = torch.full((2, 1), pack([8] * 8, 4), dtype=torch.int32)
    scales = torch.tensor([[1.0] * 8, [3.0] * 8], dtype=torch.float16)
    g_idx = torch.tensor([1, 0, 1, 0, 1, 0, 1, 0], dtype=torch.int32)
    weight = dequantize(qweight, qzeros, scales, g_idx, bits=4, zeros_stored_minus_one=False)
    assert weight[0].tolist() == [3.0, 1.0] * 4


def test_eight_bit_codes_are_unsigned() -> None:
    import torch

    qweight = torch.tensor([[pack([255, 0, 128, 1], 8)] * 4], dtype=torch.int32)
    qzeros = torch.tensor([[pack([128] * 4, 8)]], dtype=torch.int64).to(torch.int32)
    scales, g_idx = torch.ones(1, 4, dtype=torch.float16), torch.zeros(4, dtype=torch.int32)
    weight = dequantize(qweight, qzeros, scales, g_idx, bits=8, zeros_stored_minus_one=False)
    assert weight[0].tolist() == [127.0, -128.0, 0.0, -127.0]


@pytest.mark.parametrize("changes", [{}, {"bits": 8}, {"symmetric": False}], ids=["default", "8 bits", "asymmetric"])
def test_unpacked_weights_equal_those_of_gptqmodels_own_kernel_bit_for_bit(
    changes: dict[str, Any],
    tiny_base_model: Path,
    tiny_quantized: Path,
    calibration_sequences: list[list[int]],
    tmp_path: Path,
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, GPTQConfig

    quantized = tiny_quantized
    if changes:
        quantized, settings = tmp_path / "model", QuantizationSettings(group_size=32, **changes)
        quantize_gptq(
            tiny_base_model, quantized, calibration_sequences, settings, device="cpu", threads=1,
            log_file=tmp_path / "gptq.log",
        )  # fmt: skip
    assert layout_problems(quantized) == []
    state = read_dense_state(quantized, torch.float16)
    packed = AutoModelForCausalLM.from_pretrained(
        quantized, dtype=torch.float16, quantization_config=GPTQConfig(bits=changes.get("bits", 4), backend="torch")
    )
    layers = {name: module for name, module in packed.named_modules() if hasattr(module, "dequantize_weight")}
    with torch.compiler.set_stance("force_eager"):  # gptqmodel compiles its kernels, which takes seconds
        different = [
            name
            for name, layer in layers.items()
            if not torch.equal(layer.dequantize_weight().T, state[f"{name}.weight"])
        ]
    assert different == []
    assert len(layers) == 14  # 2 layers of q, k, v, o, gate, up and down


def test_a_quantized_directory_becomes_a_dense_model_near_the_original(
    tiny_base_model: Path, tiny_quantized: Path
) -> None:
    import torch

    dense = load_for_inference(tiny_quantized, device="cpu", dtype=torch.float32)
    original = load_for_inference(tiny_base_model, device="cpu", dtype=torch.float32)
    ids = torch.arange(40, 80).unsqueeze(0)
    with torch.inference_mode():
        difference = (dense(input_ids=ids).logits - original(input_ids=ids).logits).abs().max()
    assert not dense.training
    assert dense.dtype == torch.float32
    assert not hasattr(dense.config, "quantization_config")
    assert dense.lm_head.weight.data_ptr() == dense.model.embed_tokens.weight.data_ptr()
    assert 0 < difference < 0.2  # logits reach 1.5


def test_a_plain_directory_loads_as_it_is_in_the_type_asked_for(tiny_base_model: Path) -> None:
    import torch

    assert load_for_inference(tiny_base_model, device="cpu", dtype=torch.bfloat16).dtype == torch.bfloat16


def test_a_layer_without_its_scales_is_refused_by_name(tiny_quantized: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    broken = shutil.copytree(tiny_quantized, tmp_path / "broken")
    tensors = load_file(broken / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.scales"]
    save_file(tensors, broken / "model.safetensors")
    with pytest.raises(QuantizationError, match=r"layers\.1\.mlp\.up_proj lacks scales"):
        load_for_inference(broken, device="cpu", dtype=torch.float32)


@pytest.mark.parametrize(
    ("change", "message"), [({"quant_method": "awq"}, "'awq'"), ({"bits": 3}, "3 bits"), ({"bits": None}, "None bits")]
)
def test_another_quantization_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    import torch

    quantization = {"quant_method": "gptq", "bits": 4, "checkpoint_format": "gptq"} | change
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": quantization}))
    with pytest.raises(QuantizationError, match=message):
        read_dense_state(tmp_path, torch.float32)


def test_a_directory_without_a_configuration_is_refused(tmp_path: Path) -> None:
    import torch

    with pytest.raises(QuantizationError, match="no Hugging Face model directory"):
        load_for_inference(tmp_path, device="cpu", dtype=torch.float32)
