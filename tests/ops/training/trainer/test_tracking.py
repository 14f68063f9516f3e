"""TensorBoard and Weights & Biases around a training."""

import importlib.util
import socket
from pathlib import Path

import pytest

from smartdevdigest_ops.settings import TrackingSettings
from smartdevdigest_ops.training.trainer.tracking import TrackingError, tracked


def test_tracking_that_is_off_reports_nowhere_and_makes_nothing(tmp_path: Path) -> None:
    with tracked(TrackingSettings(tensorboard=False), stage="m1", directory=tmp_path / "runs", log=print) as report_to:
        assert report_to == []
    assert not (tmp_path / "runs").exists()


def test_a_missing_wandb_names_the_extra_and_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with (
        pytest.raises(TrackingError, match=r"smartdevdigest\[wandb\].*tracking\.wandb"),
        tracked(TrackingSettings(wandb="offline"), stage="m1", directory=tmp_path, log=print),
    ):
        pass


def test_other_processes_of_a_distributed_run_open_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    with tracked(TrackingSettings(wandb="offline"), stage="m1", directory=tmp_path / "runs", log=print) as report_to:
        assert report_to == []


def test_event_files_hold_the_losses_of_every_start(training_settings, run, tmp_path: Path) -> None:
    making = run("m1_checkpoint", training_settings())
    (events,) = (tmp_path / "store" / ".tracking" / "tensorboard" / "m1_checkpoint").glob("events.*")
    content = events.read_bytes()
    assert content.count(b"train/loss") == making.metrics["num_steps"]
    assert b"eval/loss" in content


@pytest.mark.slow
def test_an_offline_run_keeps_the_losses_on_disk_and_this_process_connects_to_nothing(
    training_settings, run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    reached: list[object] = []
    connect = socket.socket.connect

    def only_this_machine(self: socket.socket, address: object) -> None:
        local = self.family == socket.AF_UNIX or (isinstance(address, tuple) and address[0] in ("127.0.0.1", "::1"))
        if not local:
            reached.append(address)
            raise OSError("no network in this test")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", only_this_machine)
    settings = training_settings({"tracking": {"wandb": "offline"}})
    run("m1_checkpoint", settings)

    (log,) = (tmp_path / "store" / ".tracking" / "wandb").glob("offline-run-*/run-*.wandb")
    content = log.read_bytes()
    assert b"train/loss" in content
    assert not reached
