"""The stage: merge, quantize, compare; and each of its checks passing and failing."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smartdevdigest_ops.artifacts import ArtifactStore, Making
from smartdevdigest_ops.quantization.checks import (
    check_bits_per_byte,
    check_generation,
    check_no_nan,
    check_reload,
    check_tensors,
    measure_tensors,
)
from smartdevdigest_ops.quantization.compare import ModelReading, most_frequent_share, turned_to_garbage
from smartdevdigest_ops.settings import Settings

PROSE = list(range(40))
NOISE = [7] * 40


def publish(settings: Settings, asset: str, fill: Callable[[Path], Any]) -> None:
    store = ArtifactStore(settings.store_dir)
    with store.staging(asset) as out:
        fill(out)
        artifact = store.publish(out, asset)
    empty: dict[str, Any] = {"inputs": {}, "settings": {}, "environment": {}, "resources": {}, "metrics": {}}
    store.record(Making(asset, None, artifact.version, artifact.version, code_version="test", checks=[], **empty))


@pytest.fixture
def inputs(tiny_base_model: Path, tiny_adapter: Path, labeled_rows: list[dict[str, object]]) -> Callable[..., None]:
    """`inputs(settings)` publishes the four inputs of the stage."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def write(out: Path) -> None:
        pq.write_table(pa.Table.from_pylist(labeled_rows[:60]), out / "train.parquet")
        pq.write_table(pa.Table.from_pylist(labeled_rows[60:70]), out / "valid.parquet")
        pq.write_table(pa.Table.from_pylist(labeled_rows[70:]), out / "test.parquet")

    def publish_all(settings: Settings) -> None:
        publish(settings, "m1_checkpoint", lambda out: shutil.copytree(tiny_base_model, out, dirs_exist_ok=True))
        publish(settings, "m2_adapter", lambda out: shutil.copytree(tiny_adapter, out, dirs_exist_ok=True))
        publish(settings, "labeled_pairs", write)
        publish(settings, "corpus_snapshot", write)

    return publish_all


def test_the_stage_makes_a_model_that_passes_every_check_and_names_no_path(
    ci_settings: Settings, inputs: Callable[..., None], run: Callable[..., Making], tmp_path: Path
) -> None:
    from smartdevdigest_ops.digesting.model import read_digest_config

    inputs(ci_settings)
    making = run("quantized_model", ci_settings)
    # Of random weights a few thousandths of a bit are lost either way: which of both is less is chance.
    failed = {check["name"] for check in making.checks if not check["passed"]}
    assert failed <= {"loses_less_than_rounding"}
    metrics = making.metrics
    assert abs(metrics["bits_per_byte_ko_rounded"] - metrics["bits_per_byte_ko_unquantized"]) < 0.1
    assert metrics["num_quantized_layers"] == 14
    assert metrics["num_fallback_layers"] == 0
    # 4 bits, and per group of 32 a 16-bit scale and a 4-bit zero, and per input a 32-bit group index.
    assert 4.6 < metrics["bits_per_quantized_weight"] < 5.5
    assert metrics["num_calibration_documents_ko"] == metrics["num_calibration_documents_en"] == 2
    assert abs(metrics["bits_per_byte_ko_quantized"] - metrics["bits_per_byte_ko_unquantized"]) < 0.1
    model_dir = ArtifactStore(ci_settings.store_dir).open("quantized_model", making.version).path
    assert read_digest_config(model_dir).max_length == ci_settings.model.max_length
    for file in model_dir.iterdir():
        if file.suffix in (".json", ".jinja", ".txt") and file.name != "manifest.json":
            assert str(tmp_path) not in file.read_text(encoding="utf-8"), file.name


def test_without_gptq_the_merged_model_is_shipped_as_it_is(
    ci_settings: Settings, inputs: Callable[..., None], run: Callable[..., Making]
) -> None:
    from transformers import AutoModelForCausalLM

    settings = ci_settings.model_copy(update={"model": ci_settings.model.model_copy(update={"use_gptq": False})})
    inputs(settings)
    making = run("quantized_model", settings)
    assert all(check["passed"] for check in making.checks if check["blocking"])
    assert making.metrics["bits_per_quantized_weight"] == 0
    assert making.metrics["bits_per_byte_en_quantized"] == making.metrics["bits_per_byte_en_unquantized"]
    model_dir = ArtifactStore(settings.store_dir).open("quantized_model", making.version).path
    assert not hasattr(AutoModelForCausalLM.from_pretrained(model_dir).config, "quantization_config")


def test_a_killed_making_takes_up_what_it_had_finished(
    ci_settings: Settings, inputs: Callable[..., None], run: Callable[..., Making], monkeypatch: pytest.MonkeyPatch
) -> None:
    import smartdevdigest_ops.quantization.stage as stage

    inputs(ci_settings)
    real_choose_texts = stage.choose_texts

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "choose_texts", killed)
    with pytest.raises(KeyboardInterrupt):
        run("quantized_model", ci_settings)
    monkeypatch.setattr(stage, "choose_texts", real_choose_texts)
    monkeypatch.setattr(stage, "merge_adapter", killed)
    monkeypatch.setattr(stage, "quantize_gptq", killed)
    making = run("quantized_model", ci_settings)
    assert all(check["passed"] for check in making.checks if check["blocking"])
    assert making.metrics["num_quantized_layers"] == 14


def reading(answers: list[list[int]] | None = None, num_nonfinite: int = 0, **bits: float) -> ModelReading:
    return ModelReading(bits, answers or [], num_nonfinite)


def test_nan_logits_and_nan_losses_fail_their_check() -> None:
    assert check_no_nan(reading(en=1.0)).passed
    assert not check_no_nan(reading(num_nonfinite=3, en=1.0)).passed
    assert not check_no_nan(reading(en=float("nan"))).passed


@pytest.mark.parametrize(("after", "passed"), [(1.2, True), (1.3, False), (float("nan"), False)])
def test_the_loss_of_each_language_is_bounded(after: float, passed: bool) -> None:
    result = check_bits_per_byte(reading(ko=2.0, en=1.0), reading(ko=2.0, en=after), bound=0.25)
    assert result.passed is passed
    assert "en 1.000" in result.message


def test_without_a_held_out_document_the_loss_is_unknown_and_fails() -> None:
    assert not check_bits_per_byte(reading(), reading(), bound=0.25).passed


def test_an_answer_is_garbage_only_if_it_was_sound_before() -> None:
    assert turned_to_garbage([PROSE, NOISE], [NOISE, NOISE]) == (1, 1)
    assert turned_to_garbage([PROSE, PROSE], [PROSE, []]) == (1, 2)
    assert turned_to_garbage([NOISE, PROSE[:3]], [NOISE, NOISE]) == (0, 0)
    assert most_frequent_share(PROSE[:3]) == 0.0


@pytest.mark.parametrize(
    ("before", "after", "passed"),
    [
        ([PROSE, PROSE, PROSE], [PROSE, PROSE, NOISE], True),
        ([PROSE, PROSE], [NOISE, PROSE], False),
        ([NOISE, NOISE], [NOISE, NOISE], True),
        ([PROSE], [NOISE], False),
    ],
)
def test_generation_fails_when_half_of_the_sound_answers_turn_to_garbage(
    before: list[list[int]], after: list[list[int]], passed: bool
) -> None:
    assert check_generation(reading(before), reading(after), []).passed is passed


def test_a_tensor_that_is_missing_or_new_is_named(tiny_base_model: Path, tiny_quantized: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    sizes = measure_tensors(tiny_base_model, tiny_quantized)
    assert check_tensors(sizes, quantized=True).passed
    assert sizes.embedding_bytes == 1024 * 64 * 2
    tensors = load_file(tiny_quantized / "model.safetensors")
    del tensors["model.layers.0.mlp.up_proj.g_idx"], tensors["model.norm.weight"]
    tensors["surplus"] = tensors["model.layers.0.input_layernorm.weight"].clone()
    save_file(tensors, tmp_path / "model.safetensors")
    broken = measure_tensors(tiny_base_model, tmp_path)
    assert broken.missing == ["model.layers.0.mlp.up_proj.g_idx", "model.norm.weight"]
    assert broken.unexpected == ["surplus"]
    assert not check_tensors(broken, quantized=True).passed


def test_a_model_that_was_to_be_quantized_and_is_not_fails(tiny_base_model: Path) -> None:
    sizes = measure_tensors(tiny_base_model, tiny_base_model)
    assert check_tensors(sizes, quantized=False).passed
    assert not check_tensors(sizes, quantized=True).passed


def test_a_reload_that_computes_something_else_fails(
    tiny_base_model: Path, tiny_quantized: Path, tmp_path: Path
) -> None:
    import torch

    from smartdevdigest_ops.quantization.load import load_for_inference

    served = load_for_inference(tiny_quantized, device="cpu", dtype=torch.float32)
    prompt = list(range(100, 130))
    assert check_reload(tiny_quantized, served, prompt, tmp_path / "log").passed
    assert check_reload(tiny_base_model, served, prompt, tmp_path / "log").metadata["max_logit_difference"] > 1e-3
    with torch.no_grad():
        served.model.layers[0].mlp.up_proj.weight.mul_(5)
    assert not check_reload(tiny_quantized, served, prompt, tmp_path / "log").passed
