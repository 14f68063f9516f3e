"""Layers quantized otherwise than the rest."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from smartdevdigest_ops.quantization.checks import check_reload
from smartdevdigest_ops.quantization.errors import QuantizationError
from smartdevdigest_ops.quantization.gptq import quantize_gptq
from smartdevdigest_ops.quantization.layer_formats import LayerFormat, dynamic_rules, plan_layers, stored_format
from smartdevdigest_ops.quantization.layout import layout_problems
from smartdevdigest_ops.quantization.load import load_for_inference, packed_layers, read_config
from smartdevdigest_ops.quantization.rounding import round_weights
from smartdevdigest_ops.settings import LayerOverride, QuantizationSettings

REST = LayerFormat(4, 32)
OVERRIDES = (
    LayerOverride(layers="down_proj", bits=8, group_size=64),
    LayerOverride(layers=r"layers\.1\.self_attn", bits=16),
    LayerOverride(layers=r"layers\.0\.self_attn\.[qkv]_proj", bits=8),
)


def settings(*overrides: LayerOverride) -> QuantizationSettings:
    return QuantizationSettings(group_size=32, overrides=overrides)


def test_the_last_override_that_matches_counts_and_the_rest_is_as_the_settings_say(tiny_base_model):
    formats = plan_layers(tiny_base_model, settings(LayerOverride(layers="proj", bits=8), *OVERRIDES[1:2]))
    assert formats["model.layers.0.mlp.up_proj"] == LayerFormat(8, 32)
    assert formats["model.layers.1.self_attn.o_proj"].bits == 16
    assert set(plan_layers(tiny_base_model, settings()).values()) == {REST}
    assert not any("lm_head" in name for name in formats)


def test_rules_say_what_was_planned_of_every_layer_and_of_the_names_that_servers_give_fused_layers(tiny_base_model):
    formats = plan_layers(tiny_base_model, settings(*OVERRIDES))
    rules = dynamic_rules(formats, REST)
    config = {"bits": 4, "group_size": 32, "dynamic": rules}
    for name, planned in formats.items():
        stored = stored_format(config, name)
        assert stored.bits == planned.bits
        assert planned.bits == 16 or stored.group_size == planned.group_size
    assert stored_format(config, "model.layers.0.self_attn.qkv_proj") == LayerFormat(8, 32)
    assert stored_format(config, "model.layers.1.self_attn.qkv_proj").bits == 16
    assert stored_format(config, "model.layers.1.mlp.gate_up_proj") == REST
    assert all(re.compile(rule[2:]) for rule in rules)
    assert dynamic_rules(plan_layers(tiny_base_model, settings()), REST) == {}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"layers": "wo_proj"}, "matches no layer of .*called like model.layers.0"),
        ({"layers": "q_proj"}, "q_proj, k_proj, v_proj of model.layers.0.self_attn would differ"),
        ({"layers": "down_proj", "group_size": 48}, "size of 48 does not divide the 128 inputs"),
    ],
)
def test_overrides_that_no_server_could_load_are_refused(tiny_base_model, override, message):
    with pytest.raises(QuantizationError, match=message):
        plan_layers(tiny_base_model, settings(LayerOverride(**override)))


def test_an_expression_that_is_none_is_refused_by_the_settings():
    with pytest.raises(ValueError, match="is no regular expression"):
        LayerOverride(layers="down_proj(")


def test_a_model_whose_layers_cannot_be_packed_is_refused(tmp_path: Path):
    from smartdevdigest_ops.models.tiny import build_tiny_llama

    build_tiny_llama(tmp_path, hidden_size=48)
    with pytest.raises(QuantizationError, match="packs weights by 32"):
        plan_layers(tmp_path, settings())
    left = plan_layers(tmp_path, settings(LayerOverride(layers="proj", bits=16)))
    assert {found.bits for found in left.values()} == {16}


def test_what_gptqmodel_makes_of_overrides_is_read_as_planned_here_and_by_its_own_loader(
    tiny_base_model, calibration_sequences, tmp_path
):
    out = tmp_path / "model"
    quantize_gptq(
        tiny_base_model, out, calibration_sequences, settings(*OVERRIDES), device="cpu", threads=1,
        log_file=tmp_path / "gptq.log",
    )  # fmt: skip
    planned = plan_layers(tiny_base_model, settings(*OVERRIDES))
    assert packed_layers(out) == {name: found for name, found in planned.items() if found.bits != 16}
    assert layout_problems(out) == []
    assert json.loads((out / "config.json").read_text())["quantization_config"]["dynamic"]
    dense = load_for_inference(out, device="cpu", dtype=torch.float32)
    before = load_file(tiny_base_model / "model.safetensors")
    errors = {
        name: (dense.get_submodule(name).weight - before[f"{name}.weight"].float()).abs().mean().item()
        for name in planned
    }
    # 16 times as many codes, and 16 bits of what is not packed.
    assert errors["model.layers.0.mlp.down_proj"] < errors["model.layers.0.mlp.up_proj"] / 8
    assert errors["model.layers.1.self_attn.q_proj"] < 1e-4
    result = check_reload(out, dense, list(range(100, 130)), tmp_path / "reload.log")
    assert result.passed
    assert "gptqmodel loaded" in result.message

    model = load_for_inference(tiny_base_model, device="cpu", dtype=torch.float32)
    round_weights(model, packed_layers(out), symmetric=read_config(out)["quantization_config"]["sym"])
    kept = "model.layers.1.self_attn.q_proj"
    assert torch.equal(model.get_submodule(kept).weight, before[f"{kept}.weight"].float())
