"""Runs of the graph that are killed, and that overlap."""

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from smartdevdigest_assets.headless import dagster_instance
from smartdevdigest_ops.artifacts import ArtifactStore
from smartdevdigest_ops.housekeeping.verify import verify_store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_killed_run_does_not_hold_up_the_next(tmp_path: Path):
    environment = os.environ | {"SMARTDEVDIGEST_PROFILE": "ci", "SMARTDEVDIGEST_STORE": str(tmp_path)}
    command = [sys.executable, "-m", "smartdevdigest_ops.cli", "run", "--select", "key:raw_crawl or key:base_model"]
    with subprocess.Popen([*command, "--set", "seed=3"], env=environment, stderr=subprocess.PIPE, text=True) as run:
        while "[base_model] started" not in run.stderr.readline():
            assert run.poll() is None
        run.kill()
    subprocess.run(command, env=environment, check=True, timeout=120)
    with dagster_instance(tmp_path) as instance:
        statuses = [run.status for run in instance.get_runs()]
    assert dg.DagsterRunStatus.STARTED not in statuses


def test_two_runs_at_once_in_one_store_both_succeed(tmp_path: Path):
    environment = os.environ | {"SMARTDEVDIGEST_PROFILE": "ci", "SMARTDEVDIGEST_STORE": str(tmp_path)}
    command = [sys.executable, "-m", "smartdevdigest_ops.cli", "run", "--select", "+key:corpus_snapshot"]
    runs = [subprocess.Popen(command, env=environment) for _ in range(2)]
    assert [run.wait(timeout=120) for run in runs] == [0, 0]
    assert verify_store(ArtifactStore(tmp_path)).problems == ()
