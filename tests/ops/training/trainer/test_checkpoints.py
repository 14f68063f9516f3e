"""Which checkpoints there are, after kills and over time."""

import json
from pathlib import Path

import pytest

from smartdevdigest_ops.training.trainer.checkpoints import (
    best_evaluation,
    is_complete,
    last_checkpoint,
    remove_incomplete,
    remove_older,
    seal,
    shall_stop_early,
    steps_between,
)


def write(directory: Path, step: int, losses: dict[int, float] | None = None) -> Path:
    """A sealed checkpoint of `step`, which knows held-out `losses` by step."""
    path = directory / f"checkpoint-{step}"
    path.mkdir()
    (path / "model.safetensors").write_bytes(b"weights")
    log = [{"step": at, "eval_loss": loss} for at, loss in (losses or {}).items()]
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step, "log_history": log}))
    seal(path)
    return path


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize(
    ("num_steps", "wanted", "expected"), [(4, None, 4), (60, None, 30), (100, None, 25), (9000, None, 500), (60, 7, 7)]
)
def test_checkpoints_are_few_in_short_runs_and_never_far_apart(
    num_steps: int, wanted: int | None, expected: int
) -> None:
    assert steps_between(num_steps, wanted) == expected


def test_a_checkpoint_that_is_not_whole_is_removed_and_the_one_before_it_used(tmp_path: Path) -> None:
    write(tmp_path, 25)
    (write(tmp_path, 50) / "complete.json").unlink()  # killed before it was sealed
    (write(tmp_path, 75) / "model.safetensors").write_bytes(b"wei")  # cut off
    (write(tmp_path, 100) / "model.safetensors").unlink()  # killed while it was removed

    found = last_checkpoint(tmp_path)
    remove_incomplete(tmp_path)

    assert found is not None
    assert found[0] == tmp_path / "checkpoint-25"
    assert names(tmp_path) == ["checkpoint-25"]


def test_the_newest_are_kept_in_the_order_of_their_steps(tmp_path: Path) -> None:
    for step in (50, 100, 75):
        write(tmp_path, step)
    remove_older(tmp_path, keep=2)
    assert names(tmp_path) == ["checkpoint-100", "checkpoint-75"]


def test_the_best_of_every_kept_checkpoint_is_kept(tmp_path: Path) -> None:
    losses = {10: 3.0, 20: 2.0, 30: 2.5, 40: 1.0}
    for step in losses:
        write(tmp_path, step, {at: loss for at, loss in losses.items() if at <= step})
    remove_older(tmp_path, keep=2)
    # Should 40 be lost, the run goes on from 30, whose best is 20.
    assert names(tmp_path) == ["checkpoint-20", "checkpoint-30", "checkpoint-40"]


def test_a_file_that_a_later_write_changed_unseals_the_checkpoint(tmp_path: Path) -> None:
    path = write(tmp_path, 10)
    assert is_complete(path)
    (path / "trainer_state.json").write_text("{")
    assert not is_complete(path)


def test_of_equal_losses_the_first_is_the_best() -> None:
    history = [{"step": 1, "loss": 0.1}, {"step": 4, "eval_loss": 2.0}, {"step": 2, "eval_loss": 2.0}]
    assert best_evaluation(history) == (2, 2.0)
    assert best_evaluation(history[:1]) is None


@pytest.mark.parametrize(
    ("losses", "patience", "expected"),
    [
        ([3.0, 2.0, 2.1, 2.2], 2, True),
        ([3.0, 2.0, 2.1, 1.9], 2, False),
        ([3.0, 2.0, 2.0], 1, True),  # an equal one is no new lowest
        ([3.0], 1, False),
        ([], 1, False),
        ([3.0, 4.0, 5.0], None, False),
    ],
)
def test_a_run_stops_after_so_many_losses_without_a_new_lowest_one(
    losses: list[float], patience: int | None, expected: bool
) -> None:
    history = [{"step": step, "eval_loss": loss} for step, loss in enumerate(losses)]
    assert shall_stop_early([{"step": 0, "loss": 9.0}, *history], patience) is expected
