"""Whether servers can load what was packed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smartdevdigest_ops.quantization.layout import layout_problems

LAYER = "model.layers.0.mlp.up_proj"
Change = Callable[[dict[str, Any]], object]


def _changed(model_dir: Path, out: Path, *, config: Change | None = None, tensors: Change | None = None) -> Path:
    from safetensors.torch import load_file, save_file

    shutil.copytree(model_dir, out)
    if config:
        content = json.loads((out / "config.json").read_text(encoding="utf-8"))
        config(content)
        (out / "config.json").write_text(json.dumps(content), encoding="utf-8")
    if tensors:
        loaded = load_file(out / "model.safetensors")
        tensors(loaded)
        save_file(loaded, out / "model.safetensors")
    return out


def test_what_gptqmodel_writes_is_what_servers_load(tiny_quantized: Path) -> None:
    assert layout_problems(tiny_quantized) == []


def test_an_unquantized_model_is_not_taken_for_a_quantized_one(tiny_base_model: Path) -> None:
    assert "no quantization_config" in layout_problems(tiny_base_model)[0]


@pytest.mark.parametrize(
    ("key", "value", "needed"),
    [
        ("quant_method", "awq", "gptq needed"),
        ("bits", 3, "one of (4, 8) needed"),
        ("group_size", 48, "one of (-1, 32, 64, 128) needed"),
        ("sym", None, "true or false needed"),
        ("checkpoint_format", "marlin", "one of ('gptq', 'gptq_v2') needed"),
        ("dynamic", {"+:.*0": {"bits": 3}}, "bits of (4, 8)"),
    ],
)
def test_a_setting_that_no_server_takes_is_named(
    tiny_quantized: Path, tmp_path: Path, key: str, value: Any, needed: str
) -> None:
    def change(config: dict[str, Any]) -> None:
        config["quantization_config"][key] = value

    problem = layout_problems(_changed(tiny_quantized, tmp_path / "model", config=change))[0]
    assert problem.startswith(f"quantization_config.{key}: ")
    assert needed in problem


def test_another_group_size_than_the_tensors_have_is_found_by_shape(tiny_quantized: Path, tmp_path: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        config["quantization_config"]["group_size"] = 64

    problems = layout_problems(_changed(tiny_quantized, tmp_path / "model", config=change))
    assert f"{LAYER}.scales: (2, 128), (1, 128) needed" in problems


def test_a_rule_that_parts_what_servers_fuse_is_told(tiny_quantized: Path, tmp_path: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        config["quantization_config"]["dynamic"] = {f"+:{LAYER}$": {"bits": 8}}

    problems = layout_problems(_changed(tiny_quantized, tmp_path / "model", config=change))
    assert f"{LAYER}.qweight: (8, 128), (16, 128) needed" in problems  # it says 8 bits and holds 4
    assert any(problem.startswith(f"{LAYER}: servers load it as part of gate_up_proj") for problem in problems)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda tensors: tensors.pop(f"{LAYER}.qzeros"), f"{LAYER}: lacks qzeros"),
        (
            lambda tensors: tensors.update({f"{LAYER}.scales": tensors[f"{LAYER}.scales"].float()}),
            f"{LAYER}.scales: F32, F16 or BF16 needed",
        ),
        (
            lambda tensors: tensors.update({f"{LAYER}.g_idx": tensors[f"{LAYER}.g_idx"] * 0}),
            f"{LAYER}.g_idx: groups up to 0, 1 needed",
        ),
        (
            lambda tensors: tensors.update({"lm_head.qweight": tensors[f"{LAYER}.qweight"].clone()}),
            "lm_head: packed, but quantization_config does not say so (lm_head)",
        ),
    ],
)
def test_a_tensor_that_does_not_fit_is_told(tiny_quantized: Path, tmp_path: Path, change: Change, problem: str) -> None:
    assert problem in layout_problems(_changed(tiny_quantized, tmp_path / "model", tensors=change))


def test_layers_that_servers_fuse_are_packed_all_or_none(tiny_quantized: Path, tmp_path: Path) -> None:
    import torch

    def change(tensors: dict[str, Any]) -> None:
        for suffix in ("qweight", "qzeros", "scales", "g_idx"):
            del tensors[f"{LAYER}.{suffix}"]
        tensors[f"{LAYER}.weight"] = torch.zeros(128, 64)

    problems = layout_problems(_changed(tiny_quantized, tmp_path / "model", tensors=change))
    assert problems == [
        f"{LAYER}: not packed, but quantization_config says 4 bits",
        "model.layers.0.mlp: gate_proj is packed and up_proj is not, but servers load them as one layer",
    ]
