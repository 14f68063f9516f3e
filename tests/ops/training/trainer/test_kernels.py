"""Precision and kernels by device."""

from pathlib import Path

import pytest

from smartdevdigest_ops.training.trainer import kernels
from smartdevdigest_ops.training.trainer.kernels import bfloat16_instructions, choose_kernels


@pytest.mark.parametrize(("instructions", "expected"), [(None, False), ("AVX512-BF16", True), ("AMX", True)])
def test_bfloat16_is_used_on_a_cpu_that_has_instructions_for_it(
    instructions: str | None, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "bfloat16_instructions", lambda: instructions)
    chosen = choose_kernels("cpu", "auto", tmp_path / "kernels.json")
    assert chosen.autocast_bfloat16 is expected
    assert (instructions or "no bfloat16 instructions") in chosen.reason


def test_a_resumed_run_keeps_the_precision_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "bfloat16_instructions", lambda: "AMX")
    first = choose_kernels("cpu", "auto", tmp_path / "kernels.json")
    monkeypatch.setattr(kernels, "bfloat16_instructions", lambda: None)
    assert choose_kernels("cpu", "auto", tmp_path / "kernels.json") == first


def test_the_instructions_found_are_those_that_the_kernel_of_this_machine_names() -> None:
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.is_file() or "flags" not in (text := cpuinfo.read_text()):
        pytest.skip("no /proc/cpuinfo with flags")
    has_any = "amx_tile" in text or "avx512_bf16" in text
    assert (bfloat16_instructions() is not None) == has_any


@pytest.mark.parametrize("installed", [True, False])
def test_on_cuda_what_is_installed_is_used(installed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_is_installed", lambda package: installed)
    chosen = choose_kernels("cuda", "auto", tmp_path / "auto.json")
    assert chosen.autocast_bfloat16
    assert chosen.attention == ("flash_attention_2" if installed else "sdpa")
    assert chosen.fused_loss is installed
    # Flash attention has no float32.
    assert choose_kernels("cuda", "float32", tmp_path / "float32.json").attention == "sdpa"


def test_precision_that_is_asked_for_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "bfloat16_instructions", lambda: None)
    assert choose_kernels("cpu", "bfloat16", tmp_path / "one.json").autocast_bfloat16
    monkeypatch.setattr(kernels, "bfloat16_instructions", lambda: "AMX")
    assert not choose_kernels("cpu", "float32", tmp_path / "other.json").autocast_bfloat16
