import json
import os
from pathlib import Path

import dagster as dg
import pytest

from smartdevdigest_assets import automation
from smartdevdigest_assets.automation import new_drops
from smartdevdigest_ops.settings import Settings, load_settings

LINE = json.dumps(
    {"source_type": "blog", "url": "https://a.example/x", "language": "en", "title": None, "content": "text"}
)


@pytest.fixture
def incoming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "incoming"
    directory.mkdir()
    overrides = {"store": {"root": str(tmp_path / "store")}, "data": {"incoming_path": str(directory)}}
    settings: Settings = load_settings("ci", overrides=overrides)
    monkeypatch.setattr(automation, "SETTINGS", settings)
    return directory


class Ticks:
    """The sensor, ticked as the daemon would: each tick gets the cursor of the one before."""

    def __init__(self) -> None:
        self.instance = dg.DagsterInstance.ephemeral()
        self.cursor: str | None = None

    def __call__(self) -> list[str]:
        context = dg.build_sensor_context(instance=self.instance, cursor=self.cursor)
        result = new_drops(context)
        self.cursor = result.cursor
        return [request.partition_key for request in result.run_requests]


def settle(path: Path) -> None:
    """Make the file look as if it was last written a minute ago."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns - 60 * 10**9))


def test_a_settled_file_starts_one_run_and_no_second(incoming: Path):
    tick = Ticks()
    (incoming / "drop.jsonl").write_text(LINE)
    settle(incoming / "drop.jsonl")
    assert tick() == []
    (key,) = tick()
    assert len(key) == 16
    assert tick() == []


def test_a_file_that_is_still_growing_is_not_taken(incoming: Path):
    tick = Ticks()
    (incoming / "drop.jsonl").write_text(LINE)
    assert tick() == []
    assert tick() == []  # written a moment ago
    settle(incoming / "drop.jsonl")
    assert tick() == []  # its time changed since the last tick
    assert len(tick()) == 1


def test_the_same_content_under_another_name_is_the_same_partition(incoming: Path):
    tick = Ticks()
    for name in ("drop.jsonl", "copy.jsonl"):
        (incoming / name).write_text(LINE)
        settle(incoming / name)
    assert tick() == []
    # The run key is the content's: Dagster starts one run for it, ever.
    assert len(tick()) == 1


def test_an_empty_or_missing_directory_is_no_error(incoming: Path):
    tick = Ticks()
    assert tick() == []
    incoming.rmdir()
    assert tick() == []
