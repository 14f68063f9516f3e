import pytest
import torch

from smartdevdigest_ops.quantization.checks import check_rounding
from smartdevdigest_ops.quantization.layer_formats import LayerFormat
from smartdevdigest_ops.quantization.load import load_for_inference, packed_layers
from smartdevdigest_ops.quantization.rounding import round_to_nearest, round_weights


def test_a_symmetric_group_is_rounded_to_multiples_of_its_step_around_the_middle_code():
    # Largest magnitude 7.5: steps of 1 from -8 to 7, of which -8 is never needed.
    weight = torch.tensor([[7.5, -7.5, 0.4, -0.6, 3.2, 0.0, -2.9, 1.49]])
    rounded = round_to_nearest(weight, bits=4, group_size=8, symmetric=True)
    assert rounded.tolist() == [[7.0, -8.0, 0.0, -1.0, 3.0, 0.0, -3.0, 1.0]]


def test_an_asymmetric_group_uses_all_codes_from_its_least_to_its_largest_weight():
    weight = torch.tensor([[0.0, 15.0, 7.4, 1.6], [-3.0, 12.0, 0.2, 0.0]])
    rounded = round_to_nearest(weight, bits=4, group_size=4, symmetric=False)
    assert rounded.tolist() == [[0.0, 15.0, 7.0, 2.0], [-3.0, 12.0, 0.0, 0.0]]


def test_groups_have_grids_of_their_own_and_a_group_of_zeros_stays():
    weight = torch.tensor([[0.01, -0.01, 0.0, 0.0, 100.0, -50.0, 0.0, 0.0]])
    rounded = round_to_nearest(weight, bits=8, group_size=2, symmetric=True)
    assert rounded[0, :2].tolist() == pytest.approx([0.01, -0.01], rel=0.01)
    assert rounded[0, 2:4].tolist() == [0.0, 0.0]
    assert rounded[0, 4:6].tolist() == pytest.approx([100.0, -50.0], rel=0.01)


def test_the_layers_that_gptq_packed_are_rounded_and_no_others(tiny_base_model, tiny_quantized):
    layers = packed_layers(tiny_quantized)
    assert len(layers) == 14
    assert set(layers.values()) == {LayerFormat(4, 32)}
    model = load_for_inference(tiny_base_model, device="cpu", dtype=torch.float32)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    round_weights(model, layers, symmetric=True)
    changed = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed == {f"{layer}.weight" for layer in layers}


def test_gptq_must_lose_less_than_rounding_in_every_language():
    base = {"en": 1.0, "ko": 2.0}
    found = check_rounding(base, {"en": 1.05, "ko": 2.02}, {"en": 1.2, "ko": 2.1})
    assert found.passed
    assert "en +0.050 against +0.200 (25%)" in found.message
    assert not check_rounding(base, {"en": 1.05, "ko": 2.2}, {"en": 1.2, "ko": 2.1}).passed
    assert not check_rounding({}, {}, {}).passed
    assert check_rounding(base, base, None).passed
