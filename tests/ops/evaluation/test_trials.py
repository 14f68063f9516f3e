"""Evaluated models beside each other."""

import json
from pathlib import Path
from typing import Any

import pytest

from smartdevdigest_ops.artifacts import ArtifactStore, Making
from smartdevdigest_ops.evaluation.trials import read_trials, trial_lines


class Trials:
    """A store with models that were tuned and evaluated."""

    def __init__(self, root: Path) -> None:
        self.store = ArtifactStore(root / "store")
        self._root = root
        self._count = 0

    def publish(
        self, asset: str, content: str, inputs: dict[str, Any], settings: dict[str, Any], name: str = "content"
    ) -> str:
        self._count += 1
        staged = self._root / f"staged-{self._count}"
        staged.mkdir()
        (staged / name).write_text(content, encoding="utf-8")
        version = self.store.publish(staged, asset).version
        fingerprint, created = f"{self._count:016x}", f"2026-11-30T09:{self._count:02d}:00+00:00"
        self.store.record(
            Making(asset, None, version, fingerprint, inputs, settings, "1", {}, {}, {}, [], created=created)
        )
        return version

    def tuned(self, rank: int, rouge: float) -> str:
        tuning = {"training": {"m2": {"lora": {"rank": rank}, "epochs": 3}}}
        adapter = self.publish("m2_adapter", f"adapter {rank}", {}, tuning)
        model = self.publish("quantized_model", f"model {rank}", {"m2_adapter": adapter}, {})
        self.evaluated(model, rouge)
        return model

    def evaluated(self, model: str, rouge: float) -> str:
        interval = {"mean": rouge, "low": rouge - 0.01, "high": rouge + 0.01, "n": 9}
        report = {"languages": {"ko": {"candidate": {"rougeL": interval}}}, "num_documents": {"ko": 9}}
        inputs = {"quantized_model": model}
        return self.publish("evaluation_report", json.dumps(report), inputs, {}, "report.json")


@pytest.fixture
def trials(tmp_path: Path) -> Trials:
    return Trials(tmp_path)


def test_models_stand_beside_each_other_with_the_settings_in_which_they_differ(trials: Trials) -> None:
    first, second = trials.tuned(32, 0.2), trials.tuned(64, 0.3)
    head, _, *rows = trial_lines(read_trials(trials.store))
    assert "| training.m2.lora.rank |" in head
    assert "epochs" not in head  # the same in both
    assert rows[0].startswith(f"| {first} | 2026-11-30T09:03 | 32 | ko | 9 | 0.200 [0.190, 0.210] | - |")
    assert rows[1].startswith(f"| {second} | 2026-11-30T09:06 | 64 | ko | 9 | 0.300 [0.290, 0.310] | - |")


def test_of_a_model_that_was_evaluated_twice_the_newest_report_counts(trials: Trials) -> None:
    model = trials.tuned(32, 0.2)
    trials.evaluated(model, 0.4)
    [row] = list(trial_lines(read_trials(trials.store)))[2:]
    assert "0.400 [0.390, 0.410]" in row


def test_the_data_of_a_trial_is_what_its_model_learned_from(trials: Trials) -> None:
    for number in range(4):  # one order of their hashes would do by chance
        learned, later = (trials.publish("corpus_snapshot", f"{number} {when}", {}, {}) for when in ("first", "later"))
        m1 = trials.publish("m1_checkpoint", f"m1 {number}", {"corpus_snapshot": learned}, {})
        inputs = {"m1_checkpoint": m1, "corpus_snapshot": later}  # calibrated on a corpus that has grown since
        trials.evaluated(trials.publish("quantized_model", f"model {number}", inputs, {}), 0.2)
        assert read_trials(trials.store)[-1].settings["corpus_snapshot"] == learned


def test_a_report_that_is_damaged_is_left_out(trials: Trials) -> None:
    trials.tuned(32, 0.2)
    report = trials.store.current("evaluation_report")
    assert report is not None
    (report.path / "report.json").write_text("{}", encoding="utf-8")
    assert read_trials(trials.store) == []
