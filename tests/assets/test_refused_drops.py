"""Drops that are not taken in: set aside where the UI shows them, taken when mended, and in nobody's way."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from sensor_daemon import record, store_of

from smartdevdigest_assets import refused
from smartdevdigest_assets.headless import RunFailed, run_graph
from smartdevdigest_ops.drops.copies import drop_key


def test_a_bad_drop_is_set_aside_with_its_reasons_and_its_mended_version_is_taken(start: Any, place: Path) -> None:
    daemon = start(place)
    (place / "a_bad.jsonl").write_text('{"url": "https://a.example"}\n')
    (place / "b_good.jsonl").write_text(record())
    assert daemon.tick_and_run() == [False, True]
    bad, good = drop_key(place / "a_bad.jsonl"), drop_key(place / "b_good.jsonl")
    assert daemon.tick() == []
    assert daemon.partitions == {good}  # nothing below waits for the bad one
    assert "a_bad.jsonl" in daemon.table
    assert "content: is missing" in daemon.table
    assert not daemon.check_passes
    (place / "a_bad.jsonl").write_text(record(2))
    mended = drop_key(place / "a_bad.jsonl")
    assert daemon.tick_and_run() == [True]
    daemon.tick()
    assert daemon.partitions == {good, mended}
    assert daemon.table == "Every drop was taken in."
    assert daemon.check_passes
    assert store_of(daemon).partitions("raw_crawl") == sorted([good, mended])
    assert store_of(daemon).current_making("raw_crawl", bad) is None


@pytest.mark.parametrize("name", ["a.jsonl.gz", pytest.param("a.parquet", marks=pytest.mark.slow)])
def test_a_file_that_is_not_what_its_name_says_is_taken_once_it_has_its_right_name(
    start: Any, place: Path, name: str
) -> None:
    daemon = start(place)
    (place / name).write_text(record() + "\n")
    assert [daemon.tick_and_run(), daemon.tick_and_run()] == [[False], []]
    assert name in daemon.table
    (place / name).rename(place / "a.jsonl")
    assert [daemon.tick_and_run(), daemon.tick_and_run()] == [[True], []]
    assert daemon.partitions == {drop_key(place / "a.jsonl")}
    assert daemon.check_passes


def test_a_drop_stopped_by_a_blocking_check_is_set_aside_with_what_the_check_says(
    start: Any, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from smartdevdigest_ops.drops import stage
    from smartdevdigest_ops.stage import CheckResult

    daemon = start(place)
    (place / "a.jsonl").write_text(record())
    monkeypatch.setattr(
        stage, "check_totals", lambda *_: CheckResult("totals_reconcile", False, "3 lines = 1 + 1 records")
    )
    assert daemon.tick_and_run() == [False]
    daemon.tick()
    assert "check totals_reconcile of raw_crawl: 3 lines = 1 + 1 records" in daemon.table
    assert daemon.partitions == set()


def test_a_crashed_run_is_tried_again_by_itself(start: Any, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from smartdevdigest_ops.drops import refusals

    daemon = start(place)
    (place / "a.jsonl").write_text(record())
    monkeypatch.setattr(refusals, "_FIRST_PAUSE_SECONDS", -1.0)
    requests = daemon.tick()
    (daemon.settings.store_dir / "raw_crawl").write_text("in the way of the directory")
    assert [result.success for result in daemon.run(requests)] == [False]
    (daemon.settings.store_dir / "raw_crawl").unlink()
    daemon.tick()
    assert "NotADirectoryError" in daemon.table
    assert daemon.partitions == set()  # nothing below waits meanwhile
    (second,) = daemon.tick()
    assert (second.partition_key, second.run_key) == (requests[0].partition_key, f"{requests[0].run_key}-2")
    assert daemon.run([second])[0].success
    daemon.tick()
    assert daemon.check_passes


def test_a_file_that_changed_before_its_run_is_taken_as_what_it_became(start: Any, place: Path) -> None:
    daemon = start(place)
    (place / "a.jsonl").write_text(record())
    requests = daemon.tick()
    (place / "a.jsonl").write_text(record() + "\n" + record(2))
    assert [result.success for result in daemon.run(requests)] == [False]
    assert daemon.tick_and_run() == [True]
    daemon.tick()
    assert daemon.partitions == {drop_key(place / "a.jsonl")}
    assert daemon.table == "Every drop was taken in."


def test_a_file_renamed_before_its_run_is_taken_under_its_new_name(start: Any, place: Path) -> None:
    daemon = start(place)
    (place / "a.jsonl").write_text(record())
    requests = daemon.tick()
    (place / "a.jsonl").rename(place / "b.jsonl")
    assert [result.success for result in daemon.run(requests)] == [False]
    assert [success for _ in range(3) for success in daemon.tick_and_run()] == [True]
    assert daemon.partitions == {drop_key(place / "b.jsonl")}


def test_files_of_unknown_format_are_counted_where_the_refused_are_and_are_no_failure(start: Any, place: Path) -> None:
    daemon = start(place)
    (place / "notes.txt").write_text("x")
    daemon.tick()
    assert daemon.skip_message == "0 known drops, 1 of no known format"
    assert "notes.txt" in daemon.table
    assert daemon.check_passes


def test_the_refused_drops_are_reported_only_when_something_changed(start: Any, place: Path) -> None:
    daemon = start(place)
    (place / "bad.jsonl").write_text("no json")
    daemon.tick_and_run()
    for _ in range(3):
        daemon.tick()
    events = daemon.instance.fetch_materializations(dg.AssetKey("refused_drops"), limit=10).records
    assert [record.asset_materialization.metadata["num_refused"].value for record in events] == [1, 0]


def test_the_check_of_the_refused_drops_can_be_executed(start: Any, place: Path) -> None:
    daemon = start(place)
    (place / "bad.jsonl").write_text("no json")
    daemon.tick_and_run()
    daemon.tick()
    checks = dg.Definitions(
        assets=[refused.refused_drops],
        asset_checks=[refused.nothing_refused],
        jobs=[dg.define_asset_job("check", dg.AssetSelection.checks(*refused.nothing_refused.check_keys))],
    )
    result = checks.resolve_job_def("check").execute_in_process(instance=daemon.instance)
    (evaluation,) = result.get_asset_check_evaluations()
    assert not evaluation.passed
    assert evaluation.description == "Refused drops: 1. Unreadable files: 0."


def test_a_drop_refused_by_a_headless_run_is_shown_and_its_partition_is_gone(
    start: Any, place: Path, tmp_path: Path
) -> None:
    daemon = start(place)
    bad = tmp_path / "given.jsonl"
    bad.write_text("no json")
    with pytest.raises(RunFailed, match=r"given\.jsonl"):
        run_graph(daemon.settings, [bad], selection="raw_crawl")
    assert daemon.partitions == set()
    assert "given.jsonl" in daemon.table
    bad.write_text(record())
    run_graph(daemon.settings, [bad], selection="raw_crawl")
    assert daemon.check_passes
    (place / "copy.jsonl").write_text(record())  # what was taken in there runs no second time here
    assert daemon.tick() == []
