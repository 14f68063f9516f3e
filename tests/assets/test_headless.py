"""Headless runs beside others on the same Dagster instance: partitions that those delete, runs that are killed."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pytest
from sensor_daemon import Daemon, record, store_of

from smartdevdigest_assets import headless
from smartdevdigest_assets.headless import RunFailed, run_graph
from smartdevdigest_assets.in_progress import PROCESS_TAG, is_abandoned, process_tag
from smartdevdigest_assets.partitions import taking_in
from smartdevdigest_ops.drops.copies import drop_key
from smartdevdigest_ops.errors import UserError
from smartdevdigest_ops.settings import load_settings


def is_locked(daemon: Daemon, key: str) -> bool:
    try:
        with taking_in(store_of(daemon), key, wait=False):
            return False
    except BlockingIOError:
        return True


def test_a_drop_whose_partition_somebody_deletes_before_its_run_is_taken_in(
    start: Any, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = start(place)
    drop = tmp_path / "given.jsonl"
    drop.write_text(record())
    add_drops, deleted = headless.add_drops, []

    def add_in_vain(instance: dg.DagsterInstance, keys: Sequence[str]) -> None:
        add_drops(instance, keys)
        if keys and not deleted:
            deleted.extend(keys)
            instance.delete_dynamic_partition("drops", keys[0])

    monkeypatch.setattr(headless, "add_drops", add_in_vain)
    run_graph(daemon.settings, [drop], selection="raw_crawl")
    assert deleted == [drop_key(drop)]
    assert daemon.partitions == {drop_key(drop)}


def test_a_drop_that_was_taken_in_has_its_partition_though_it_was_deleted_meanwhile(
    start: Any, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = start(place)
    drop = tmp_path / "given.jsonl"
    drop.write_text(record())
    execute = headless._execute

    def execute_and_delete(instance: dg.DagsterInstance, job: str, assets: Sequence[str], partition: str) -> None:
        execute(instance, job, assets, partition)
        instance.delete_dynamic_partition("drops", partition)

    monkeypatch.setattr(headless, "_execute", execute_and_delete)
    run_graph(daemon.settings, [drop], selection="raw_crawl")
    assert daemon.partitions == {drop_key(drop)}


def test_a_lost_partition_of_an_earlier_drop_stops_no_later_run(
    start: Any, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = start(place)
    earlier, later = tmp_path / "earlier.jsonl", tmp_path / "later.jsonl"
    earlier.write_text(record(1))
    later.write_text(record(2))
    run_graph(daemon.settings, [earlier], selection="raw_crawl")
    daemon.instance.delete_dynamic_partition("drops", drop_key(earlier))
    overrides = {"corpus": {"quality": {"min_characters": 7}}}
    monkeypatch.setenv("SMARTDEVDIGEST_OVERRIDES", json.dumps(overrides))
    outcome = run_graph(load_settings("ci"), [later], selection="key:raw_crawl or key:cleaned_documents")
    assert f"cleaned_documents[{drop_key(earlier)}]" in outcome.made
    assert daemon.partitions == {drop_key(earlier), drop_key(later)}


def test_a_second_run_waits_with_a_bad_drop_until_the_first_has_deleted_its_partition(
    start: Any, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = start(place)
    bad = tmp_path / "bad.jsonl"
    bad.write_text("no json")
    add_drops, delete = headless.add_drops, dg.DagsterInstance.delete_dynamic_partition
    seen = []

    def add(instance: dg.DagsterInstance, keys: Sequence[str]) -> None:
        seen.extend(("added", is_locked(daemon, key)) for key in keys)
        add_drops(instance, keys)

    def delete_in_lock(instance: dg.DagsterInstance, name: str, key: str) -> None:
        seen.append(("deleted", is_locked(daemon, key)))
        delete(instance, name, key)

    monkeypatch.setattr(headless, "add_drops", add)
    monkeypatch.setattr(dg.DagsterInstance, "delete_dynamic_partition", delete_in_lock)
    with pytest.raises(RunFailed):
        run_graph(daemon.settings, [bad], selection="raw_crawl")
    assert seen == [("added", True), ("deleted", True)]
    assert not is_locked(daemon, drop_key(bad))


def test_the_sensor_leaves_a_refused_drop_its_partition_while_a_headless_run_tries_it_again(
    start: Any, place: Path
) -> None:
    daemon = start(place)
    bad = place / "bad.jsonl"
    bad.write_text("no json")
    assert daemon.tick_and_run() == [False]
    with taking_in(store_of(daemon), drop_key(bad)):
        daemon.tick()
        assert daemon.partitions == {drop_key(bad)}
    daemon.tick()
    assert daemon.partitions == set()


def test_a_headless_failure_leaves_the_partition_to_the_run_of_the_daemon_that_still_makes_it(
    start: Any, place: Path
) -> None:
    daemon = start(place)
    bad = place / "bad.jsonl"
    bad.write_text("no json")
    requests = daemon.tick()
    (request,) = requests
    job = headless.defs.resolve_job_def(request.job_name)
    run = daemon.instance.create_run_for_job(
        job, status=dg.DagsterRunStatus.STARTED, tags={"dagster/partition": drop_key(bad)}
    )
    with pytest.raises(RunFailed):
        run_graph(daemon.settings, [bad], selection="raw_crawl")
    assert daemon.partitions == {drop_key(bad)}
    daemon.instance.report_run_failed(run)
    with pytest.raises(RunFailed):
        run_graph(daemon.settings, [bad], selection="raw_crawl")
    assert daemon.partitions == set()


def test_digests_of_a_drop_that_nobody_took_in_are_refused_and_leave_no_partition(
    start: Any, place: Path, tmp_path: Path
) -> None:
    daemon = start(place)
    drop = tmp_path / "given.jsonl"
    drop.write_text(record())
    with pytest.raises(UserError, match=r"given\.jsonl .*raw_crawl"):
        run_graph(daemon.settings, [drop], selection="digests")
    assert daemon.partitions == set()


def test_a_run_ends_the_unfinished_ones_of_its_process_id_and_of_killed_processes_and_no_other(
    start: Any, place: Path
) -> None:
    daemon = start(place)
    host, other = socket.gethostname(), psutil.Process(os.getppid())
    processes = {
        process_tag(): True,  # nothing of this process runs before its first run
        f"{host}:{os.getpid()}": True,
        f"{host}:{other.pid}": False,
        f"{host}:{other.pid}:{other.create_time()}": False,
        f"{host}:{other.pid}:{other.create_time() - 3600}": True,
        f"another-{host}:{os.getpid()}:1": False,
    }
    job = headless.defs.resolve_job_def("ingest_drop")
    runs = {
        process: daemon.instance.create_run_for_job(
            job, status=dg.DagsterRunStatus.STARTED, tags={PROCESS_TAG: process, "dagster/partition": "a"}
        )
        for process in processes
    }
    headless._end_abandoned_runs(daemon.instance)
    ended = {process: daemon.instance.get_run_by_id(run.run_id).is_finished for process, run in runs.items()}
    assert ended == processes


def test_a_killed_process_that_nobody_waited_for_is_not_alive(start: Any, place: Path) -> None:
    daemon = start(place)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        tag = f"{socket.gethostname()}:{process.pid}:{psutil.Process(process.pid).create_time()}"
        job = headless.defs.resolve_job_def("ingest_drop")
        tags = {PROCESS_TAG: tag, "dagster/partition": "a"}
        run = daemon.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags=tags)
        assert not is_abandoned(run)
        process.kill()
        while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:  # dead, and still in the process table
            time.sleep(0.01)
        assert is_abandoned(run)


def test_a_headless_run_says_which_process_executes_it(start: Any, place: Path, tmp_path: Path) -> None:
    daemon = start(place)
    (tmp_path / "given.jsonl").write_text(record())
    run_graph(daemon.settings, [tmp_path / "given.jsonl"], selection="raw_crawl")
    (run,) = daemon.instance.get_runs()
    assert run.tags[PROCESS_TAG] == process_tag()
