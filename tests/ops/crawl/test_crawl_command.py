"""What `smartdevdigest crawl` prints and how it ends, by its environment."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from changing_site import ChangingSite, article, feed, source
from commands import at_the_prompt, in_this_process


@pytest.fixture
def site() -> Iterator[ChangingSite]:
    with ChangingSite() as running:
        running.put("/a", article("A", "The only post."))
        yield running


def environment(tmp_path: Path, contact: str | None = "crawler@example.org") -> dict[str, str]:
    """Settings of a crawl of loopback, whose store, sources and drops are in `tmp_path`."""
    overrides = {
        "crawl": {
            "sources_path": str(tmp_path / "sources.yaml"),
            "contact": contact,
            "allowed_private_networks": ["127.0.0.0/8"],
            "requests_per_second_per_host": 100,
            "max_retries": 0,
        },
        "data": {"incoming_path": str(tmp_path / "incoming")},
    }
    return {
        "SMARTDEVDIGEST_PROFILE": "ci",
        "SMARTDEVDIGEST_STORE": str(tmp_path / "store"),
        "SMARTDEVDIGEST_OVERRIDES": yaml.safe_dump(overrides),
    }


def write_sources(tmp_path: Path, *sources: object) -> None:
    listed = [source.model_dump(mode="json", exclude_defaults=True) for source in sources]  # type: ignore[attr-defined]
    (tmp_path / "sources.yaml").write_text(yaml.safe_dump({"sources": listed}))


def test_it_prints_counts_by_source_and_the_drop_then_the_ledger(site: ChangingSite, tmp_path: Path):
    write_sources(tmp_path, source("posts", "feed", site.put("/feed.xml", feed(site, {"path": "/a"}))))
    variables = environment(tmp_path)
    first = at_the_prompt("crawl", environment=variables)
    (drop,) = (tmp_path / "incoming").iterdir()
    assert (first.code, first.printed) == (0, f"posts  1 listed = 1 emitted\ndrop   {drop} (1 records)\n")
    second = at_the_prompt("crawl", environment=variables)
    assert (second.code, second.printed) == (0, "posts  1 listed = 1 not modified\nnothing new: no drop\n")
    ledger = at_the_prompt("crawl", "--ledger", environment=variables)
    lines = [json.loads(line) for line in ledger.printed.splitlines()]
    assert [(line["kind"], line["outcome"]) for line in lines] == [
        ("listing", "read"), ("page", "emitted"), ("listing", "not_modified"), ("page", "not_modified"),
    ]  # fmt: skip


def test_a_source_that_failed_is_exit_code_1_and_the_others_are_in_the_drop(site: ChangingSite, tmp_path: Path):
    posts = source("posts", "feed", site.put("/feed.xml", feed(site, {"path": "/a"})))
    write_sources(tmp_path, source("gone", "sitemap", site.url("/missing.xml")), posts)
    ended = in_this_process("crawl", environment=environment(tmp_path))
    assert ended.code == 1
    assert "failed: " in ended.printed
    assert "posts  1 listed = 1 emitted" in ended.printed


def test_where_every_source_failed_it_does_not_say_that_nothing_is_new(site: ChangingSite, tmp_path: Path):
    write_sources(tmp_path, source("gone", "sitemap", site.url("/missing.xml")))
    ended = in_this_process("crawl", environment=environment(tmp_path))
    assert (ended.code, ended.printed.splitlines()[-1]) == (1, "no drop: no source listed a page")


def test_without_sources_contact_or_ledger_it_says_what_is_missing_with_exit_code_2(site: ChangingSite, tmp_path: Path):
    variables = environment(tmp_path)
    ended = in_this_process("crawl", "--ledger", environment=variables)
    assert (ended.code, "There is no ledger" in ended.said) == (2, True)
    ended = in_this_process("crawl", environment=variables)
    assert (ended.code, "There is no" in ended.said) == (2, True)
    write_sources(tmp_path)
    ended = in_this_process("crawl", environment=variables)
    assert (ended.code, "no enabled source" in ended.said) == (2, True)
    write_sources(tmp_path, source("posts", "feed", site.url("/feed.xml")))
    ended = in_this_process("crawl", environment=environment(tmp_path, contact=None))
    assert (ended.code, "crawl.contact is not set" in ended.said) == (2, True)
    assert site.asked == []
