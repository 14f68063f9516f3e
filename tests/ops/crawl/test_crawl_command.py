"""`smartdevdigest crawl` as a user at the prompt gets it: in a process of its own, environment included."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from changing_site import ChangingSite, article, feed, source


@pytest.fixture
def site() -> Iterator[ChangingSite]:
    with ChangingSite() as running:
        running.put("/a", article("A", "The only post."))
        yield running


def smartdevdigest(
    tmp_path: Path, *arguments: str, contact: str | None = "crawler@example.org"
) -> tuple[int, str, str]:
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
    environment = {
        "SMARTDEVDIGEST_PROFILE": "ci",
        "SMARTDEVDIGEST_STORE": str(tmp_path / "store"),
        "SMARTDEVDIGEST_OVERRIDES": yaml.safe_dump(overrides),
    }
    ended = subprocess.run(
        [sys.executable, "-m", "smartdevdigest_ops.cli", *arguments],
        capture_output=True, text=True, check=False, env=os.environ | environment,
    )  # fmt: skip
    assert "Traceback" not in ended.stderr
    return ended.returncode, ended.stdout, ended.stderr


def write_sources(tmp_path: Path, *sources: object) -> None:
    listed = [source.model_dump(mode="json", exclude_defaults=True) for source in sources]  # type: ignore[attr-defined]
    (tmp_path / "sources.yaml").write_text(yaml.safe_dump({"sources": listed}))


def test_it_prints_counts_by_source_and_the_drop_then_the_ledger(site: ChangingSite, tmp_path: Path):
    write_sources(tmp_path, source("posts", "feed", site.put("/feed.xml", feed(site, {"path": "/a"}))))
    code, printed, _ = smartdevdigest(tmp_path, "crawl")
    (drop,) = (tmp_path / "incoming").iterdir()
    assert (code, printed) == (0, f"posts  1 listed = 1 emitted\ndrop   {drop} (1 records)\n")
    assert smartdevdigest(tmp_path, "crawl")[:2] == (0, "posts  1 listed = 1 not modified\nnothing new: no drop\n")
    code, printed, _ = smartdevdigest(tmp_path, "crawl", "--ledger")
    lines = [json.loads(line) for line in printed.splitlines()]
    assert [(line["kind"], line["outcome"]) for line in lines] == [
        ("listing", "read"), ("page", "emitted"), ("listing", "not_modified"), ("page", "not_modified"),
    ]  # fmt: skip


def test_a_source_that_failed_is_exit_code_1_and_the_others_are_in_the_drop(site: ChangingSite, tmp_path: Path):
    posts = source("posts", "feed", site.put("/feed.xml", feed(site, {"path": "/a"})))
    write_sources(tmp_path, source("gone", "sitemap", site.url("/missing.xml")), posts)
    code, printed, _ = smartdevdigest(tmp_path, "crawl")
    assert code == 1
    assert "failed: " in printed
    assert "posts  1 listed = 1 emitted" in printed


def test_where_every_source_failed_it_does_not_say_that_nothing_is_new(site: ChangingSite, tmp_path: Path):
    write_sources(tmp_path, source("gone", "sitemap", site.url("/missing.xml")))
    code, printed, _ = smartdevdigest(tmp_path, "crawl")
    assert (code, printed.splitlines()[-1]) == (1, "no drop: no source listed a page")


def test_without_sources_contact_or_ledger_it_says_what_is_missing_with_exit_code_2(site: ChangingSite, tmp_path: Path):
    code, _, said = smartdevdigest(tmp_path, "crawl", "--ledger")
    assert (code, "There is no ledger" in said) == (2, True)
    code, _, said = smartdevdigest(tmp_path, "crawl")
    assert (code, "There is no" in said) == (2, True)
    write_sources(tmp_path)
    code, _, said = smartdevdigest(tmp_path, "crawl")
    assert (code, "no enabled source" in said) == (2, True)
    write_sources(tmp_path, source("posts", "feed", site.url("/feed.xml")))
    code, _, said = smartdevdigest(tmp_path, "crawl", contact=None)
    assert (code, "crawl.contact is not set" in said) == (2, True)
    assert site.asked == []
