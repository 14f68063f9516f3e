"""The drop sensor on a real Dagster instance: what it requests, what its runs do, and what a restart changes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from file_server import FileServer, serving
from sensor_daemon import NO_PROCESS, Daemon, record, settle, store_of

from smartdevdigest_assets import headless, incoming
from smartdevdigest_assets.headless import dagster_instance
from smartdevdigest_assets.in_progress import PROCESS_TAG
from smartdevdigest_ops.artifacts import ArtifactStore
from smartdevdigest_ops.drops import incoming as looking
from smartdevdigest_ops.drops import refusals
from smartdevdigest_ops.drops.copies import drop_key
from smartdevdigest_ops.drops.location import LocationError
from smartdevdigest_ops.settings import PROJECT_DIR


def test_a_settled_file_starts_one_run_and_no_second(start: Any, place: Path) -> None:
    daemon = start(place, drop_settled_seconds=10)
    (place / "drop.jsonl").write_text(record())
    settle(place / "drop.jsonl")
    assert daemon.tick() == []
    (request,) = daemon.tick()
    assert request.partition_key == request.run_key == drop_key(place / "drop.jsonl")
    assert request.job_name == "ingest_drop"
    assert daemon.tick() == []


def test_a_file_that_is_still_growing_is_not_taken(start: Any, place: Path) -> None:
    daemon = start(place, drop_settled_seconds=10)
    (place / "drop.jsonl").write_text(record())
    assert daemon.tick() == []
    assert daemon.tick() == []  # written a moment ago
    settle(place / "drop.jsonl")
    assert daemon.tick() == []  # its time changed since the last tick
    assert len(daemon.tick()) == 1


def test_the_same_content_twice_renamed_or_touched_runs_once(start: Any, place: Path) -> None:
    daemon = start(place)
    for name in ("drop.jsonl", "copy.jsonl"):
        (place / name).write_text(record())
    assert daemon.tick_and_run() == [True]
    (place / "drop.jsonl").rename(place / "renamed.jsonl")
    (place / "copy.jsonl").touch()
    assert [daemon.tick_and_run() for _ in range(3)] == [[], [], []]
    assert daemon.partitions == {drop_key(place / "copy.jsonl")}
    assert daemon.skip_message == "2 known drops"


def test_an_empty_or_missing_directory_is_no_error(start: Any, place: Path) -> None:
    daemon = start(place)
    assert daemon.tick() == []
    place.rmdir()
    assert daemon.tick() == []


@pytest.mark.parametrize(
    "lost",
    [
        pytest.param("nothing", marks=pytest.mark.slow),
        "cursor",
        pytest.param("state", marks=pytest.mark.slow),
        "refusals and state",
    ],
)
def test_a_restarted_daemon_runs_nothing_again(start: Any, place: Path, lost: str) -> None:
    (place / "good.jsonl").write_text(record())
    (place / "bad.jsonl").write_text("no json")
    daemon = start(place)
    assert sorted(daemon.tick_and_run()) == [False, True]
    (place / "late.jsonl").write_text(record(2))
    late = daemon.tick()  # requested, and killed before its run is started
    if "state" in lost:
        (daemon.settings.store_dir / "drops" / "incoming.sqlite").unlink()
    if "refusals" in lost:
        (daemon.settings.store_dir / "drops" / "refused" / f"{drop_key(place / 'bad.jsonl')}.json").unlink()
    again = start(place)
    again.cursor = daemon.cursor if lost == "nothing" else None
    daemon.run(late)
    started = [request.partition_key for _ in range(3) for request in again.tick()]
    if lost == "refusals and state":
        # Nobody knows any more that it was bad: one more run says so.
        assert started == [drop_key(place / "bad.jsonl")]
    else:
        assert started == []
    assert again.partitions >= {drop_key(place / name) for name in ("good.jsonl", "late.jsonl")}


def test_a_restart_in_a_new_process_runs_nothing_again(start: Any, place: Path) -> None:
    (place / "good.jsonl").write_text(record())
    daemon = start(place)
    assert daemon.tick_and_run() == [True]
    code = (
        "import dagster as dg\n"
        "from smartdevdigest_assets.headless import dagster_instance\n"
        "from smartdevdigest_assets.incoming import SETTINGS, new_drops\n"
        "with dagster_instance(SETTINGS.store_dir) as instance:\n"
        "    results = [new_drops(dg.build_sensor_context(instance=instance, cursor=None)) for _ in range(2)]\n"
        "print([len(result.run_requests or []) for result in results])\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip().endswith("[0, 0]")


def test_a_request_that_the_daemon_lost_is_made_again_under_its_run_key(
    start: Any, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = start(place)
    (place / "drop.jsonl").write_text(record())
    first = daemon.tick()
    monkeypatch.setattr(incoming, "_LOST_SECONDS", 0)
    again = daemon.tick()
    assert [request.run_key for request in again] == [request.run_key for request in first]
    assert daemon.run(again)[0].success
    assert daemon.tick() == []


def headless_run(daemon: Daemon, drop: Path, process_id: int) -> dg.DagsterRun:
    """A run as `smartdevdigest run` has it under way."""
    tags = {"dagster/partition": drop_key(drop), PROCESS_TAG: f"{socket.gethostname()}:{process_id}"}
    job = headless.defs.resolve_job_def("ingest_drop")
    return daemon.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags=tags)


def test_a_drop_of_a_killed_headless_run_is_requested_once(start: Any, place: Path) -> None:
    daemon = start(place)
    (place / "drop.jsonl").write_text(record())
    headless_run(daemon, place / "drop.jsonl", NO_PROCESS)
    (request,) = daemon.tick()
    # Dagster starts one run per run key, ever, and the killed run may have had the first.
    assert request.run_key == f"{drop_key(place / 'drop.jsonl')}-2"
    assert daemon.tick() == []
    assert daemon.run([request])[0].success
    assert daemon.tick() == []


def test_a_drop_is_requested_once_after_its_headless_run_was_killed_under_the_sensor(
    start: Any, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = start(place)
    (place / "drop.jsonl").write_text(record())
    run = headless_run(daemon, place / "drop.jsonl", os.getpid())
    monkeypatch.setattr(incoming, "_LOST_SECONDS", 0)
    assert daemon.tick() == []
    assert daemon.tick() == []
    daemon.instance.add_run_tags(run.run_id, {PROCESS_TAG: f"{socket.gethostname()}:{NO_PROCESS}"})
    (request,) = daemon.tick()
    assert daemon.run([request])[0].success
    assert [daemon.tick() for _ in range(2)] == [[], []]


def test_a_drop_whose_killed_headless_run_the_next_one_ended_is_tried_again(
    start: Any, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = start(place)
    (place / "drop.jsonl").write_text(record())
    run = headless_run(daemon, place / "drop.jsonl", os.getpid())
    monkeypatch.setattr(refusals, "_FIRST_PAUSE_SECONDS", -1.0)
    assert daemon.tick() == []
    daemon.instance.add_run_tags(run.run_id, {PROCESS_TAG: f"{socket.gethostname()}:{NO_PROCESS}"})
    headless._end_abandoned_runs(daemon.instance)
    # Dagster announces a retry that its daemon cannot start: it does not know where the run came from.
    assert daemon.instance.get_run_by_id(run.run_id).tags["dagster/will_retry"] == "true"
    assert daemon.tick() == []
    assert "The process of this run was killed." in daemon.table
    (request,) = daemon.tick()
    assert daemon.run([request])[0].success
    assert [daemon.tick() for _ in range(2)] == [[], []]
    assert daemon.check_passes


def test_the_partition_of_a_refused_drop_goes_though_a_headless_run_of_it_was_killed(start: Any, place: Path) -> None:
    daemon = start(place)
    (place / "bad.jsonl").write_text("no json")
    assert daemon.tick_and_run() == [False]
    daemon.tick()
    assert daemon.partitions == set()
    daemon.instance.add_dynamic_partitions("drops", [drop_key(place / "bad.jsonl")])
    run = headless_run(daemon, place / "bad.jsonl", os.getpid())
    daemon.tick()
    assert daemon.partitions == {drop_key(place / "bad.jsonl")}
    daemon.instance.add_run_tags(run.run_id, {PROCESS_TAG: f"{socket.gethostname()}:{NO_PROCESS}"})
    daemon.tick()
    assert daemon.partitions == set()


def test_a_large_file_is_read_by_a_run_of_its_own_and_then_taken_in(
    start: Any, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "_MAX_LOCAL_BYTES", len(record()))
    daemon = start(place)
    (place / "large.jsonl").write_text(f"{record(1)}\n{record(2)}\n")
    (place / "small.jsonl").write_text(record())
    first = daemon.tick()
    assert sorted(request.job_name for request in first) == ["identify_drop", "ingest_drop"]
    assert daemon.tick() == []
    assert all(result.success for result in daemon.run(first))
    assert daemon.tick_and_run() == [True]
    daemon.tick()
    assert daemon.partitions == {drop_key(place / "large.jsonl"), drop_key(place / "small.jsonl")}


def test_a_location_that_cannot_be_listed_fails_the_tick_after_what_else_there_was_to_do(
    start: Any, place: Path
) -> None:
    with serving(place) as server:
        (place / "bad.jsonl").write_text("no json")
        daemon = start(server.url)
        assert daemon.tick_and_run() == [False]
        assert len(daemon.partitions) == 1
    assert daemon.tick() == []
    assert daemon.partitions == set()
    with pytest.raises(LocationError, match="cannot be listed"):
        daemon.tick()


def test_drops_of_a_web_server_flow_in_and_a_bad_and_a_forbidden_one_hold_nobody_up(start: Any, place: Path) -> None:
    (place / "a_bad.jsonl").write_text("no json")
    (place / "b_forbidden.jsonl").write_text(record(2))
    (place / "c_good.jsonl").write_text(record())
    with serving(place) as server:
        assert isinstance(server, FileServer)
        server.forbidden = {"b_forbidden.jsonl"}
        daemon = start(server.url)
        assert daemon.tick_and_run() == [False, True]
        daemon.tick()
        assert daemon.partitions == {drop_key(place / "c_good.jsonl")}
        assert "b_forbidden.jsonl" in daemon.table
        assert "a_bad.jsonl" in daemon.table
        (place / "a_bad.jsonl").write_text(record(3) * 2)
        (place / "a_mended.jsonl").write_text(record(3))
        assert sorted(daemon.tick_and_run()) == [False, True]
        assert store_of(daemon).partitions("raw_crawl") == sorted(
            drop_key(place / name) for name in ("a_mended.jsonl", "c_good.jsonl")
        )


@pytest.mark.slow
def test_dagsters_own_daemon_takes_in_what_lands_sets_aside_what_is_bad_and_starts_nothing_twice(
    tmp_path: Path, place: Path
) -> None:
    data = {"incoming_path": str(place), "incoming_seconds": 1, "drop_settled_seconds": 1}
    store = ArtifactStore(tmp_path / "store")
    (place / "good.jsonl").write_text(record())
    (place / "copy.jsonl").write_text(record())
    (place / "bad.jsonl").write_text("no json")
    good, bad = drop_key(place / "good.jsonl"), drop_key(place / "bad.jsonl")
    environment = os.environ | {
        "SMARTDEVDIGEST_STORE": str(store.root),
        "SMARTDEVDIGEST_OVERRIDES": json.dumps({"data": data}),
        "DAGSTER_HOME": str(store.root / "dagster"),
    }
    workspace = ["-w", str(PROJECT_DIR / "workspace.yaml")]
    binaries = Path(sys.executable).parent
    with dagster_instance(store.root) as instance:
        command = [str(binaries / "dagster"), "sensor", "start", "new_drops", *workspace]
        subprocess.run(command, env=environment, check=True, capture_output=True)

        def wait_for(condition: Callable[[], bool]) -> None:
            """With a daemon of its own, which is killed then."""
            command = [str(binaries / "dagster-daemon"), "run", *workspace]
            with (tmp_path / "daemon.log").open("a") as log:
                daemon = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
                try:
                    while not condition():
                        assert daemon.poll() is None, (tmp_path / "daemon.log").read_text()
                        time.sleep(0.5)
                finally:
                    os.killpg(daemon.pid, signal.SIGKILL)
                    daemon.wait()

        def partitions() -> set[str]:
            return set(instance.get_dynamic_partitions("drops"))

        def is_reported(number: int) -> bool:
            event = instance.get_latest_materialization_event(dg.AssetKey("refused_drops"))
            return event is not None and event.asset_materialization.metadata["num_refused"].value == number

        wait_for(lambda: store.partitions("raw_crawl") == [good] and is_reported(1) and partitions() == {good})
        (place / "bad.jsonl").write_text(record(2))
        mended = drop_key(place / "bad.jsonl")
        wait_for(lambda: len(store.partitions("raw_crawl")) == 2 and is_reported(0) and partitions() == {good, mended})
        runs = instance.get_runs(dg.RunsFilter(job_name="ingest_drop"))
        assert sorted(run.tags["dagster/partition"] for run in runs) == sorted([good, bad, mended])
