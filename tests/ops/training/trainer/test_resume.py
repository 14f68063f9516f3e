"""A run killed at any moment ends as if it had not been."""

import random
import signal
from pathlib import Path

import pytest
from training_processes import exit_codes, result

from smartdevdigest_ops.settings import TrainingSettings

SETTINGS = TrainingSettings(
    batch_size=2,
    gradient_accumulation=2,
    learning_rate=3e-3,
    epochs=9,
    warmup_steps=2,
    max_steps=12,
    evaluation_steps=4,
)
TRACKING = {"checkpoint_steps": 2}


def test_a_run_killed_at_random_steps_and_in_a_checkpoint_ends_with_the_same_weights(
    tiny_base_model: Path, tmp_path: Path
) -> None:
    import torch

    draw = random.Random(11)
    # 4 sequences a step, 8 between checkpoints: two kills get further than the checkpoint before them, one may not.
    kills = [{"killed_at_item": draw.randint(3, 22)} for _ in range(3)]
    # A checkpoint is the optimizer, the schedule and the random state, beside the weights.
    kills.insert(draw.randint(1, 2), {"killed_in_save": draw.randint(1, 3)})
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert exit_codes(((tiny_base_model, whole, SETTINGS), {"tracking": TRACKING})) == [0]
    for kill in kills:
        assert exit_codes(((tiny_base_model, killed, SETTINGS), {"tracking": TRACKING, **kill})) == [-signal.SIGKILL]
    steps = {path.name for path in (killed / "checkpoints").glob("checkpoint-*")}
    assert steps - {"checkpoint-2"}, "no kill came late enough to leave something to resume from"
    assert exit_codes(((tiny_base_model, killed, SETTINGS), {"tracking": TRACKING})) == [0]

    first, second = result(whole), result(killed)
    assert [row["step"] for row in second["run"]["curve"]] == list(range(1, 13))
    for expected, found in zip(first["run"]["curve"], second["run"]["curve"], strict=True):
        assert found == pytest.approx(expected, abs=1e-6, rel=0)
    assert second["run"]["best_step"] == first["run"]["best_step"]
    for name, weight in first["weights"].items():
        assert torch.equal(weight, second["weights"][name]), name
