"""Crawls that are really killed (SIGKILL), at any moment, and go on: nothing is lost, nothing comes twice."""

import gzip
import json
import os
import signal
import sqlite3
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from changing_site import ChangingSite, article, feed, loopback_settings, sitemap, source
from forked_processes import fork
from killed_crawl import crawl_until, crawl_with_poison

from smartdevdigest_ops.crawl.crawl import crawl
from smartdevdigest_ops.crawl.delivery import DeliveryError
from smartdevdigest_ops.crawl.ledger import ledger_lines
from smartdevdigest_ops.crawl.report import CrawlReport
from smartdevdigest_ops.crawl.sources import Source
from smartdevdigest_ops.crawl.state import CrawlIsRunning, CrawlStateError

POSTS = tuple(f"/posts/{number}" for number in range(3))
PAGES = ("/docs/a", "/docs/b", "/docs/missing")


@pytest.fixture
def site() -> Iterator[ChangingSite]:
    with ChangingSite() as running:
        for path in (*POSTS, *PAGES[:2]):
            running.put(path, article(path, f"This is the page at {path}."))
        yield running


@pytest.fixture
def sources(site: ChangingSite) -> tuple[Source, Source]:
    entries = [{"path": path} for path in POSTS]
    return (
        source("posts", "feed", site.put("/feed.xml", feed(site, *entries))),
        source("docs", "sitemap", site.put("/sitemap.xml", sitemap(site, *PAGES, POSTS[0]), content_type="text/xml")),
    )


def start(sources: tuple[Source, ...], directory: Path, kill_at: int = 0, events_file: Path | None = None) -> Any:
    return fork(crawl_until, kill_at, [source.model_dump() for source in sources], directory, events_file)


def finish(sources: tuple[Source, ...], directory: Path, **settings: object) -> CrawlReport:
    """A crawl in this process."""
    state = directory / "crawl" / "state.sqlite"
    return crawl(loopback_settings(**settings), sources, str(directory / "incoming"), state)


def emitted(directory: Path) -> Counter[str]:
    """How often each page is in the drops, by path."""
    lines = [
        line
        for drop in (directory / "incoming").glob("*.gz")
        for line in gzip.decompress(drop.read_bytes()).splitlines()
    ]
    return Counter("/" + json.loads(line)["url"].split("/", 3)[3] for line in lines)


def assert_each_page_came_once(site: ChangingSite, directory: Path, most_in_flight: int = 1) -> None:
    assert emitted(directory) == dict.fromkeys((*POSTS, *PAGES[:2]), 1)
    assert [path for path in (directory / "incoming").iterdir() if path.name.startswith(".")] == []
    asked = site.counts()
    # What was in flight at the kill is asked for again; nothing else is.
    again = {path: asked[path] - 1 for path in (*POSTS, *PAGES) if asked[path] != 1}
    assert set(again.values()) <= {1}
    assert len(again) <= most_in_flight
    ledger = [json.loads(line) for line in ledger_lines(directory / "crawl" / "state.sqlite")]
    assert Counter(line["outcome"] for line in ledger if line["kind"] == "page") == {"emitted": 5, "refused": 1}


def crawl_killed_at(site: ChangingSite, sources: tuple[Source, ...], directory: Path, kill_at: int) -> None:
    site.forget()
    killed = start(sources, directory, kill_at)
    killed.join(60)
    assert killed.exitcode == -signal.SIGKILL
    report = finish(sources, directory)
    was_delivered = report.drop is None  # a kill after the very last commit leaves nothing to do
    if not was_delivered:
        assert str(report.sources["posts"]) == "3 listed = 3 emitted"
        assert str(report.sources["docs"]) == "4 listed = 2 emitted + 1 repeated + 1 refused (1 http_404)"
        assert_each_page_came_once(site, directory)
        assert finish(sources, directory).drop is None
    assert emitted(directory) == dict.fromkeys((*POSTS, *PAGES[:2]), 1)


def events_of_a_crawl(sources: tuple[Source, ...], directory: Path) -> list[str]:
    start(sources, directory, 0, directory / "events").join(60)
    return (directory / "events").read_text().split("\n")


@pytest.mark.slow
def test_a_crawl_killed_around_its_delivery_neither_loses_a_page_nor_emits_one_twice(
    site: ChangingSite, sources: tuple[Source, Source], tmp_path: Path
):
    (tmp_path / "whole").mkdir()
    events = events_of_a_crawl(sources, tmp_path / "whole")
    opened, renamed = events.index("open"), events.index("os.rename")
    assert opened < renamed < len(events)
    for kill_at in range(opened, len(events) + 1):
        crawl_killed_at(site, sources, tmp_path / str(kill_at), kill_at)


@pytest.mark.slow
def test_a_crawl_killed_at_any_statement_neither_loses_a_page_nor_emits_one_twice(
    site: ChangingSite, sources: tuple[Source, Source], tmp_path: Path
):
    (tmp_path / "whole").mkdir()
    events = events_of_a_crawl(sources, tmp_path / "whole")
    for kill_at in range(1, len(events) + 1, 7):
        crawl_killed_at(site, sources, tmp_path / str(kill_at), kill_at)


@pytest.mark.parametrize("number", [1, 3, 5, 8])
def test_a_crawl_killed_while_a_request_is_under_way_asks_for_that_page_alone_again(
    site: ChangingSite, sources: tuple[Source, Source], tmp_path: Path, number: int
):
    running: list[Any] = []

    def kill(path: str, asked: int) -> None:
        if asked == number and running:
            os.kill(running.pop().pid, signal.SIGKILL)

    site.before_answer = kill
    running.append(process := start(sources, tmp_path))
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert emitted(tmp_path) == {}
    report = finish(sources, tmp_path)
    assert report.was_resumed
    assert_each_page_came_once(site, tmp_path)


def test_a_page_that_kills_whoever_takes_it_apart_is_given_up_and_the_others_come(
    site: ChangingSite, sources: tuple[Source, Source], tmp_path: Path
):
    site.put(POSTS[1], article("Poison", "deadly-" * 9))
    described = [source.model_dump() for source in sources]
    for _ in range(3):
        process = fork(crawl_with_poison, b"deadly-deadly-", described, tmp_path)
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
    report = finish(sources, tmp_path)
    assert str(report.sources["posts"]) == "3 listed = 2 emitted + 1 refused (1 kills_the_crawl)"
    assert site.counts()[POSTS[1]] == 3
    assert site.counts()[POSTS[0]] == 1


def test_kills_that_are_not_a_pages_fault_are_not_held_against_it(
    site: ChangingSite, sources: tuple[Source, Source], tmp_path: Path
):
    running: list[Any] = []

    def kill(path: str, asked: int) -> None:
        if path == POSTS[1] and running:
            os.kill(running.pop().pid, signal.SIGKILL)

    site.before_answer = kill
    for _ in range(4):
        running.append(process := start(sources, tmp_path))
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
    assert str(finish(sources, tmp_path).sources["posts"]) == "3 listed = 3 emitted"


def test_a_second_crawl_at_the_same_time_says_so_and_asks_for_nothing(
    site: ChangingSite, sources: tuple[Source, Source], tmp_path: Path
):
    seen: list[tuple[str, int]] = []

    def crawl_meanwhile(path: str, asked: int) -> None:
        if path == POSTS[1] and not seen:
            before = len(site.asked)
            with pytest.raises(CrawlIsRunning, match=rf"process {process.pid}") as refused:
                finish(sources, tmp_path)
            seen.append((str(refused.value), len(site.asked) - before))

    site.before_answer = crawl_meanwhile
    process = start(sources, tmp_path)
    process.join(60)
    assert process.exitcode == 0
    ((message, num_asked),) = seen
    assert "running already" in message
    assert num_asked == 0
    assert_each_page_came_once(site, tmp_path, most_in_flight=0)


def test_what_a_crawl_of_long_ago_had_fetched_is_delivered_first(
    site: ChangingSite, sources: tuple[Source, Source], tmp_path: Path
):
    running: list[Any] = []

    def kill(path: str, asked: int) -> None:
        if path == PAGES[1] and running:
            os.kill(running.pop().pid, signal.SIGKILL)

    site.before_answer = kill
    running.append(process := start(sources, tmp_path))
    process.join(60)
    state = tmp_path / "crawl" / "state.sqlite"
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    report = crawl(loopback_settings(), sources, str(tmp_path / "incoming"), state, now=lambda: tomorrow)
    assert not report.was_resumed
    assert report.earlier_drop is not None
    assert report.drop is not None
    assert report.earlier_drop.num_records + report.drop.num_records == 5
    assert Path(report.earlier_drop.address).name < Path(report.drop.address).name
    assert emitted(tmp_path) == dict.fromkeys((*POSTS, *PAGES[:2]), 1)


def test_records_that_could_not_be_delivered_wait_for_a_location_that_can_be_written(
    site: ChangingSite, sources: tuple[Source, Source], tmp_path: Path
):
    location, state = tmp_path / "away", tmp_path / "crawl" / "state.sqlite"

    def a_file_takes_its_place(path: str, number: int) -> None:
        if location.is_dir():
            location.rmdir()
            location.write_text("")

    site.before_answer = a_file_takes_its_place
    with pytest.raises(DeliveryError, match="5 records"):
        crawl(loopback_settings(), sources, str(location), state)
    report = finish(sources, tmp_path)
    assert report.was_resumed
    assert_each_page_came_once(site, tmp_path, most_in_flight=0)


def test_a_drop_goes_to_a_remote_location_whole(site: ChangingSite, sources: tuple[Source, Source], tmp_path: Path):
    import fsspec

    report = crawl(loopback_settings(), sources, "memory://crawled/incoming", tmp_path / "state.sqlite")
    assert report.drop is not None
    files = fsspec.filesystem("memory")
    (name,) = files.ls("/crawled/incoming", detail=False)
    assert name.endswith(Path(report.drop.address).name)
    assert len(gzip.decompress(files.cat(name)).splitlines()) == 5
    assert not list(tmp_path.glob(".*.part"))


@pytest.mark.parametrize(
    ("location", "why"),
    [
        ("{here}/drops/*.jsonl", "names files"),
        ("{here}/a_file", "names files"),
        ("{here}/a_file/incoming", "Not a directory"),
        ("drop-box://bucket/incoming", "Protocol not known"),
    ],
)
def test_a_location_that_no_drop_can_be_put_into_is_refused_before_anything_is_fetched(
    site: ChangingSite, sources: tuple[Source, Source], tmp_path: Path, location: str, why: str
):
    (tmp_path / "a_file").write_text("")
    with pytest.raises(DeliveryError, match=f"{why}.*Nothing was fetched"):
        crawl(loopback_settings(), sources, location.format(here=tmp_path), tmp_path / "state.sqlite")
    assert site.asked == []


def test_a_damaged_state_is_named_and_nothing_is_fetched(
    site: ChangingSite, sources: tuple[Source, Source], tmp_path: Path
):
    state = tmp_path / "crawl" / "state.sqlite"
    state.parent.mkdir()
    state.write_bytes(b"no database at all, " * 200)
    with pytest.raises(CrawlStateError, match=r"state\.sqlite"):
        finish(sources, tmp_path)
    assert site.asked == []


def test_a_state_of_another_version_is_left_alone(site: ChangingSite, sources: tuple[Source, Source], tmp_path: Path):
    finish(sources, tmp_path)
    state = tmp_path / "crawl" / "state.sqlite"
    with sqlite3.connect(state) as connection:
        connection.execute("PRAGMA user_version = 7")
    with pytest.raises(CrawlStateError, match="version 7"):
        finish(sources, tmp_path)


@pytest.mark.parametrize("change", ["UPDATE ledger SET licence = 'none'", "DELETE FROM ledger"])
def test_the_ledger_cannot_be_rewritten(
    site: ChangingSite, sources: tuple[Source, Source], tmp_path: Path, change: str
):
    finish(sources, tmp_path)
    with sqlite3.connect(tmp_path / "crawl" / "state.sqlite") as connection, pytest.raises(sqlite3.Error, match="only"):
        connection.execute(change)
