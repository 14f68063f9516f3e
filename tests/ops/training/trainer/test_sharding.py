"""One model in parts over two processes."""

from pathlib import Path
from typing import Any

import pytest
from training_processes import exit_codes, result, two_processes

from smartdevdigest_ops.settings import TrainingSettings

SETTINGS = TrainingSettings(
    batch_size=2, gradient_accumulation=4, learning_rate=3e-3, epochs=9, warmup_steps=2, max_steps=8, evaluation_steps=4
)


def two(base_model: Path, directory: Path, *, sharded: bool = True, **options: Any) -> list[Any]:
    """The calls of two processes that train together in `directory`."""
    given = {"sharded": sharded, "precision": "float32", **options}
    return [
        ((base_model, directory, SETTINGS), given | {"environment": environment}) for environment in two_processes()
    ]


def test_two_processes_with_half_the_model_each_learn_what_one_learns(tiny_base_model: Path, tmp_path: Path) -> None:
    import torch

    one, parts, replicas = tmp_path / "one", tmp_path / "parts", tmp_path / "replicas"
    codes = exit_codes(
        ((tiny_base_model, one, SETTINGS), {"environment": {}, "precision": "float32"}),
        *two(tiny_base_model, parts),
        *two(tiny_base_model, replicas, sharded=False),
    )
    assert codes == [0] * 5

    expected = result(one)
    for found in (result(parts), result(replicas)):
        assert len(found["run"]["curve"]) == 8
        for row, of_one in zip(found["run"]["curve"], expected["run"]["curve"], strict=True):
            assert row == pytest.approx(of_one, rel=1e-4)
        assert found["weights"].keys() == expected["weights"].keys()
        for name, weight in expected["weights"].items():
            torch.testing.assert_close(found["weights"][name], weight, atol=1e-4, rtol=1e-3)
