"""Two processes at one run."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from training_processes import exit_codes, result, two_processes

from smartdevdigest_ops.artifacts import ArtifactStore, Making
from smartdevdigest_ops.settings import PROJECT_DIR, Settings, TrainingSettings

SETTINGS = TrainingSettings(
    batch_size=2, gradient_accumulation=4, learning_rate=3e-3, epochs=9, warmup_steps=2, max_steps=8, evaluation_steps=4
)


def test_two_processes_learn_what_one_learns_with_the_same_optimizer_step(
    tiny_base_model: Path, tmp_path: Path
) -> None:
    import torch

    one, two = tmp_path / "one", tmp_path / "two"
    codes = exit_codes(
        ((tiny_base_model, one, SETTINGS), {"environment": {}}),
        *(((tiny_base_model, two, SETTINGS), {"environment": environment}) for environment in two_processes()),
    )
    assert codes == [0, 0, 0]

    first, second = result(one), result(two)
    assert len(first["run"]["curve"]) == 8
    for expected, found in zip(first["run"]["curve"], second["run"]["curve"], strict=True):
        assert found == pytest.approx(expected, rel=1e-4)
    assert first["run"]["curve"][-1]["loss"] < first["run"]["curve"][0]["loss"]
    for name, weight in first["weights"].items():
        torch.testing.assert_close(weight, second["weights"][name], atol=1e-4, rtol=1e-3)


@pytest.mark.slow
def test_a_stage_that_wants_two_processes_starts_them_and_one_of_them_publishes(
    training_settings: Callable[..., Settings], run: Callable[..., Making], tmp_path: Path
) -> None:
    from conftest import spec_of  # the area's own

    run("m1_checkpoint", training_settings())
    overrides = {"training": {"processes": 2, "m2": {"batch_size": 1, "gradient_accumulation": 2}}}
    spec = spec_of("m2_adapter", training_settings(overrides))
    spec.write(tmp_path / "spec.json")
    command = [sys.executable, "-m", "smartdevdigest_ops.stage", "m2_adapter", str(tmp_path / "spec.json")]
    process = subprocess.run(command, cwd=PROJECT_DIR, capture_output=True, check=False, text=True)

    assert process.returncode == 0, process.stderr[-3000:]
    assert "2 process(es) on cpu" in process.stderr
    store = ArtifactStore(training_settings().store_dir)
    making = store.making("m2_adapter", spec.fingerprint, None)
    assert making is not None
    assert making.metrics["num_steps"] == 4
    assert all(check["passed"] for check in making.checks), making.checks
    assert not list((store.root / ".staging").iterdir())
    assert process.stderr.count("step 4/4") == 1
