"""Recovery training of the tiny model's scales and norms."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from smartdevdigest_ops.quantization.errors import QuantizationError
from smartdevdigest_ops.quantization.gptq import quantize_gptq
from smartdevdigest_ops.quantization.layout import layout_problems
from smartdevdigest_ops.quantization.load import load_for_inference
from smartdevdigest_ops.quantization.recovery import RecoveryReport, recover
from smartdevdigest_ops.settings import QuantizationSettings, RecoverySettings


@pytest.fixture(scope="module")
def coarse(tiny_base_model: Path, calibration_sequences: list[list[int]], tmp_path_factory) -> Path:
    """The tiny model quantized, its groups in an order of their own (act-order), and its scales badly chosen: of random
    weights 4 bits alone lose next to nothing.
    """
    home = tmp_path_factory.mktemp("coarse")
    settings = QuantizationSettings(group_size=32, desc_act=True)
    quantize_gptq(
        tiny_base_model, home / "model", calibration_sequences, settings, device="cpu", threads=1,
        log_file=home / "gptq.log",
    )  # fmt: skip
    file = home / "model" / "model.safetensors"
    tensors, noise = load_file(file), torch.Generator().manual_seed(17)
    for name, tensor in tensors.items():
        if name.endswith(".scales"):
            tensors[name] = (tensor * (1 + 0.3 * torch.randn(tensor.shape, generator=noise))).to(tensor.dtype)
    save_file(tensors, file, metadata={"format": "pt"})
    return home / "model"


def recovered(quantized: Path, base: Path, out: Path, sequences, **settings) -> RecoveryReport:
    chosen = RecoverySettings(**({"passes": 6, "learning_rate": 3e-2} | settings))
    return recover(quantized, base, out, sequences, chosen, device="cpu", seed=17)


def test_predictions_come_closer_and_only_scales_and_norms_change(
    tiny_base_model, coarse, calibration_sequences, tmp_path
):
    report = recovered(coarse, tiny_base_model, tmp_path / "out", calibration_sequences)
    assert report.num_steps == 6 * 3
    assert report.divergence_after < 0.7 * report.divergence_before
    before, after = load_file(coarse / "model.safetensors"), load_file(tmp_path / "out" / "model.safetensors")
    changed = {name.rpartition(".")[2] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"scales", "weight"}
    assert torch.equal(before["model.embed_tokens.weight"], after["model.embed_tokens.weight"])
    assert {name: (t.shape, t.dtype) for name, t in before.items()} == {
        name: (t.shape, t.dtype) for name, t in after.items()
    }
    assert layout_problems(tmp_path / "out") == []


def test_what_is_written_is_what_was_measured(tiny_base_model, coarse, calibration_sequences, tmp_path):
    report = recovered(coarse, tiny_base_model, tmp_path / "out", calibration_sequences)
    teacher, student = (
        load_for_inference(directory, device="cpu", dtype=torch.float32)
        for directory in (tiny_base_model, tmp_path / "out")
    )
    ids = torch.tensor([calibration_sequences[-1]])
    with torch.no_grad():
        wanted, found = (model(input_ids=ids).logits[0].log_softmax(-1) for model in (teacher, student))
    nats = torch.nn.functional.kl_div(found, wanted, log_target=True, reduction="none").sum(-1).mean().item()
    # Scales are written in 16 bits.
    assert nats / math.log(2) == pytest.approx(report.divergence_after, rel=0.02)


def test_two_runs_give_the_same_files(tiny_base_model, coarse, calibration_sequences, tmp_path):
    for name in ("one", "two"):
        recovered(coarse, tiny_base_model, tmp_path / name, calibration_sequences, passes=1)
    one, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two


def test_training_that_diverges_leaves_the_model_as_it_was(tiny_base_model, coarse, calibration_sequences, tmp_path):
    report = recovered(coarse, tiny_base_model, tmp_path / "out", calibration_sequences, passes=2, learning_rate=50.0)
    assert not report.is_kept
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (coarse / "model.safetensors").read_bytes()


def test_a_single_sequence_is_refused(tiny_base_model, coarse, tmp_path):
    with pytest.raises(QuantizationError, match="needs 2 calibration sequences"):
        recovered(coarse, tiny_base_model, tmp_path / "out", [[1, 2, 3]])
    assert not (tmp_path / "out").exists()
