"""Precision and kernels by device."""

from pathlib import Path

import pytest

from smartdevdigest_ops.training.trainer import kernels
from smartdevdigest_ops.training.trainer.kernels import bfloat16_speedup, choose_kernels


@pytest.mark.parametrize(("speedup", "expected"), [(0.3, False), (1.2, False), (6.0, True)])
def test_bfloat16_is_used_on_a_cpu_that_is_clearly_faster_with_it(
    speedup: float, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "bfloat16_speedup", lambda: speedup)
    chosen = choose_kernels("cpu", "auto", tmp_path / "kernels.json")
    assert chosen.autocast_bfloat16 is expected
    assert f"{speedup:.2f}x" in chosen.reason


def test_a_resumed_run_keeps_the_precision_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "bfloat16_speedup", lambda: 6.0)
    first = choose_kernels("cpu", "auto", tmp_path / "kernels.json")
    monkeypatch.setattr(kernels, "bfloat16_speedup", lambda: 0.3)
    assert choose_kernels("cpu", "auto", tmp_path / "kernels.json") == first


def test_the_speed_of_bfloat16_is_measured_on_this_machine() -> None:
    assert 0.001 < bfloat16_speedup() < 1000


@pytest.mark.parametrize("installed", [True, False])
def test_on_cuda_what_is_installed_is_used(installed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_is_installed", lambda package: installed)
    chosen = choose_kernels("cuda", "auto", tmp_path / "auto.json")
    assert chosen.autocast_bfloat16
    assert chosen.attention == ("flash_attention_2" if installed else "sdpa")
    assert chosen.fused_loss is installed
    # Flash attention has no float32.
    assert choose_kernels("cuda", "float32", tmp_path / "float32.json").attention == "sdpa"


def test_precision_that_is_asked_for_is_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measured() -> float:
        raise AssertionError("measured")

    monkeypatch.setattr(kernels, "bfloat16_speedup", measured)
    assert choose_kernels("cpu", "bfloat16", tmp_path / "one.json").autocast_bfloat16
    assert not choose_kernels("cpu", "float32", tmp_path / "other.json").autocast_bfloat16
