"""What only a CUDA device can show of M2: an adapter that learns over 4-bit weights (QLoRA)."""

from collections.abc import Callable
from pathlib import Path

import pytest

from smartdevdigest_ops.artifacts import ArtifactStore, Making
from smartdevdigest_ops.quantization.merge import merge_adapter
from smartdevdigest_ops.settings import Settings


def has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not has_cuda(), reason="no CUDA device")]


def test_an_adapter_learned_over_4_bits_is_saved_and_merges_into_m1(
    training_settings: Callable[..., Settings], run: Callable[..., Making], tmp_path: Path
) -> None:
    pytest.importorskip("bitsandbytes")
    m2 = {"trainable": "qlora", "max_steps": 10, "warmup_steps": 1, "learning_rate": 2e-2, "epochs": 9, "batch_size": 2}
    settings = training_settings({"model": {"device": "cuda"}, "training": {"m2": m2}})
    m1 = run("m1_checkpoint", settings)
    making = run("m2_adapter", settings)

    assert all(check["passed"] for check in making.checks), making.checks
    assert making.metrics["valid_loss_after"] < making.metrics["valid_loss_before"]
    store = ArtifactStore(settings.store_dir)
    report = merge_adapter(
        store.open("m1_checkpoint", m1.version).path,
        store.open("m2_adapter", making.version).path,
        tmp_path / "merged",
        device="cuda",
    )
    assert report.exact
    assert report.num_merged_layers == 14
