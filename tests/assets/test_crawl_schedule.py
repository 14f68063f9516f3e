import json
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml
from changing_site import ChangingSite, article, loopback_settings, source

from smartdevdigest_assets import incoming
from smartdevdigest_assets.definitions import defs
from smartdevdigest_assets.headless import dagster_instance
from smartdevdigest_assets.sources import crawl_sources, daily_crawl
from smartdevdigest_ops.crawl.crawl import state_path
from smartdevdigest_ops.crawl.ledger import ledger_lines
from smartdevdigest_ops.settings import load_settings


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ChangingSite]:
    """A site of one page, and settings in the environment that crawl it."""
    with ChangingSite() as running:
        pages = source("pages", "urls", urls=(running.put("/a", article("A", "The only page.")), running.url("/b")))
        listed = [pages.model_dump(mode="json", exclude_defaults=True)]
        (tmp_path / "sources.yaml").write_text(yaml.safe_dump({"sources": listed}))
        crawl = loopback_settings(sources_path=str(tmp_path / "sources.yaml")).model_dump(mode="json")
        data = {"incoming_path": str(tmp_path / "incoming"), "drop_settled_seconds": 0}
        overrides = {"crawl": crawl, "data": data}
        monkeypatch.setenv("SMARTDEVDIGEST_STORE", str(tmp_path / "store"))
        monkeypatch.setenv("SMARTDEVDIGEST_OVERRIDES", yaml.safe_dump(overrides))
        yield running


def test_the_job_delivers_a_drop_and_shows_its_counts(site: ChangingSite, tmp_path: Path):
    result = crawl_sources.execute_in_process()
    (drop,) = (tmp_path / "incoming").iterdir()
    (output,) = result.filter_events(lambda event: event.is_successful_output)
    shown = {name: value.value for name, value in output.step_output_data.metadata.items()}
    assert shown["drop"] == str(drop)
    assert (shown["num_listed"], shown["num_emitted"], shown["num_refused"]) == (2, 1, 1)
    assert "| pages | 2 | 1 | 0 | 0 | 0 | 1 http_404 | 0 |" in shown["sources"]
    assert crawl_sources.execute_in_process().output_for_node("crawl")["drop"] == "none: nothing was new"


def test_the_drop_sensor_asks_for_one_run_of_a_crawled_drop_and_the_ledger_knows_its_partition(
    site: ChangingSite, monkeypatch: pytest.MonkeyPatch
):
    settings = load_settings()
    monkeypatch.setattr(incoming, "SETTINGS", settings)
    crawl_sources.execute_in_process()
    requests, cursor = [], None
    with dagster_instance(settings.store_dir) as instance:
        for _ in range(3):
            result = incoming.new_drops(dg.build_sensor_context(instance=instance, cursor=cursor))
            requests, cursor = requests + list(result.run_requests or []), result.cursor
    (request,) = requests
    (line,) = [line for line in map(json.loads, ledger_lines(state_path(settings))) if line["drop_sha256"]]
    assert request.partition_key == line["drop_sha256"][:16]


def test_what_the_settings_refuse_fails_the_run_with_one_message(site: ChangingSite, tmp_path: Path):
    (tmp_path / "sources.yaml").write_text("sources: []")
    result = crawl_sources.execute_in_process(raise_on_error=False)
    (failure,) = result.get_step_failure_events()
    assert "no enabled source" in failure.step_failure_data.user_failure_data.description
    assert site.asked == []


def test_a_crawl_without_a_page_from_any_source_fails_its_run_with_what_each_source_says(site: ChangingSite):
    site.put("/a", "", status=403)
    result = crawl_sources.execute_in_process(raise_on_error=False)
    (failure,) = result.get_step_failure_events()
    told = failure.step_failure_data.user_failure_data
    assert "No source gave a page, and 1 of 1 failed:\npages: none of its pages could be had" in told.description
    assert told.metadata["num_refused"].value == 2


def test_the_daily_crawl_is_off_until_switched_on():
    assert defs.resolve_schedule_def("daily_crawl").default_status is dg.DefaultScheduleStatus.STOPPED
    assert defs.resolve_job_def("crawl_sources")


def test_a_crawl_that_is_still_running_is_not_joined_by_the_next_days(tmp_path: Path):
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance, dg.build_schedule_context(instance) as context:
        assert len(daily_crawl.evaluate_tick(context).run_requests) == 1
        run = instance.create_run_for_job(crawl_sources, status=dg.DagsterRunStatus.STARTED)
        skipped = daily_crawl.evaluate_tick(context)
        assert skipped.run_requests == []
        assert run.run_id in str(skipped.skip_message)
        instance.report_run_failed(run)
        assert len(daily_crawl.evaluate_tick(context).run_requests) == 1
