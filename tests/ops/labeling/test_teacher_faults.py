"""Labeling while nearly a third of all requests fail, the endpoint restarts and the process is killed."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from teacher_server import FAULTS, TeacherEndpoint, make_rows, outcomes_of, seeded_faults

from smartdevdigest_ops.artifacts import ArtifactStore, Making
from smartdevdigest_ops.contracts import CrawlRecord
from smartdevdigest_ops.labeling.asking import CACHE_DIRECTORY, LabelRun
from smartdevdigest_ops.labeling.cache import CACHE_FILE
from smartdevdigest_ops.labeling.prompt import TeacherAnswer
from smartdevdigest_ops.settings import PROJECT_DIR, Settings, load_settings
from smartdevdigest_ops.stage import plan_stage

KEY = "sk-very-secret-0123456789"
NUM_DOCUMENTS = 80
# A time-out is waited for: as short as it can be without taking an answer of this machine for one.
IMPATIENT = {"max_in_flight": 6, "timeout_seconds": 1.0, "first_pause_seconds": 0.001, "max_retries": 12}


def test_every_label_completes_once_and_in_order_though_a_third_of_requests_fails_and_the_endpoint_restarts(
    run_with: Callable[..., LabelRun], endpoint: TeacherEndpoint
) -> None:
    sound = run_with(make_rows(NUM_DOCUMENTS), making="sound", model="calm")
    sound.ask()
    endpoint.attempts.clear()
    endpoint.delivered.clear()
    endpoint.faults_given.clear()

    endpoint.fault = seeded_faults(4)
    halfway = threading.Event()
    endpoint.on_delivery = lambda number: halfway.set() if number == NUM_DOCUMENTS // 2 else None

    def restart() -> None:
        halfway.wait(60)
        endpoint.stop()
        endpoint.start()

    restarting = threading.Thread(target=restart)
    restarting.start()
    run = run_with(make_rows(NUM_DOCUMENTS), requests=IMPATIENT, max_answers=6)
    run.ask()
    restarting.join()

    assert outcomes_of(run) == outcomes_of(sound)
    assert all(isinstance(outcome, TeacherAnswer) for outcome in outcomes_of(run))
    assert set(endpoint.faults_given) == {*FAULTS, "none"}
    num_faults = endpoint.faults_given.total() - endpoint.faults_given["none"]
    assert num_faults >= 0.29 * endpoint.faults_given.total()
    assert endpoint.delivered == Counter({row["content"]: 1 for row in make_rows(NUM_DOCUMENTS)})


@pytest.fixture
def stage_settings(tmp_path: Path, openai_settings: Callable[..., dict[str, Any]]) -> Callable[..., Settings]:
    def make(**openai: Any) -> Settings:
        return load_settings(
            "ci",
            overrides={
                "store": {"root": str(tmp_path / "store")},
                "data": {"label_paths": []},
                "labeling": {"teacher": "openai", "openai": openai_settings(**openai)},
            },
        )

    return make


def start_stage(settings: Settings, tmp_path: Path) -> subprocess.Popen[bytes]:
    spec = tmp_path / "spec.json"
    plan_stage("labeled_pairs", settings).write(spec)
    command = [sys.executable, "-m", "smartdevdigest_ops.stage", "labeled_pairs", str(spec)]
    return subprocess.Popen(command, cwd=PROJECT_DIR, env=dict(os.environ), stderr=(tmp_path / "log").open("ab"))


def num_answers(settings: Settings) -> int:
    file = settings.store_dir / CACHE_DIRECTORY / CACHE_FILE
    with sqlite3.connect(file) as connection:
        return int(connection.execute("SELECT count(*) FROM answers").fetchone()[0])


def test_a_process_killed_in_the_middle_goes_on_and_pays_for_no_answer_that_it_had_kept(
    tmp_path: Path,
    endpoint: TeacherEndpoint,
    stage_settings: Callable[..., Settings],
    publish_documents: Any,
    run: Callable[..., Making],
    sample_documents: list[CrawlRecord],
) -> None:
    splits = {"train": sample_documents[:20], "valid": sample_documents[20:24], "test": sample_documents[24:28]}
    settings = stage_settings(requests={"max_in_flight": 3})
    publish_documents(settings, splits)
    held, go_on = threading.Event(), threading.Event()

    def hold_back() -> None:
        if endpoint.delivered.total() >= 10:
            held.set()
            go_on.wait(20)

    endpoint.before_answer = hold_back
    process = start_stage(settings, tmp_path)
    assert held.wait(60), (tmp_path / "log").read_text()
    kept_before_the_kill = set(endpoint.delivered)
    while num_answers(settings) < len(kept_before_the_kill):
        assert process.poll() is None, (tmp_path / "log").read_text()
    process.send_signal(signal.SIGKILL)
    process.wait()
    go_on.set()
    assert ArtifactStore(settings.store_dir).current("labeled_pairs") is None

    making = run("labeled_pairs", settings)
    assert making.metrics["num_labeled"] == 28
    assert making.metrics["teacher_replies"] == 28  # those of the killed process are this making's too
    # What was under way at the kill was written into a connection that nobody read; what was kept was not asked again.
    bodies = [json.loads(body["messages"][1]["content"])["content"] for body in endpoint.bodies]
    assert all(bodies.count(content) == 1 for content in kept_before_the_kill)

    undisturbed = stage_settings(requests={"max_in_flight": 3})
    undisturbed = undisturbed.model_copy(
        update={"store": undisturbed.store.model_copy(update={"root": str(tmp_path / "other")})}
    )
    publish_documents(undisturbed, splits)
    assert run("labeled_pairs", undisturbed).version == making.version


def test_the_key_is_in_nothing_that_is_written(
    tmp_path: Path,
    endpoint: TeacherEndpoint,
    stage_settings: Callable[..., Settings],
    publish_documents: Any,
    sample_documents: list[CrawlRecord],
) -> None:
    settings = stage_settings(batch={"enabled": True}, requests={"max_retries": 0})
    publish_documents(settings, {"train": sample_documents[:4]})
    endpoint.batch_outcomes = ["failed"]  # says the key in its error
    endpoint.fault = lambda content, attempt: "no_label" if attempt == 1 else None
    assert start_stage(settings, tmp_path).wait(60) == 2
    assert "refused: Bearer ***" in (tmp_path / "log").read_text()
    assert start_stage(settings, tmp_path).wait(60) == 0, (tmp_path / "log").read_text()
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.name for path in written} >= {CACHE_FILE, "train.parquet", "spec.json", "log", "manifest.json"}
    assert [str(path) for path in written if KEY.encode() in path.read_bytes()] == []
