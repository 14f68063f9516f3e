"""The code location is loaded once per process, with the profile of the environment: here, always `ci`."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ["SMARTDEVDIGEST_PROFILE"] = "ci"

from sensor_daemon import Daemon
from stories import Beginning, Story

from smartdevdigest_assets import incoming, refused
from smartdevdigest_assets.headless import dagster_instance
from smartdevdigest_assets.partitions import DROPS
from smartdevdigest_ops.settings import load_settings


@pytest.fixture(scope="session")
def beginning(tmp_path_factory: pytest.TempPathFactory) -> Beginning:
    """One drop of 100 documents has gone all the way."""
    root = tmp_path_factory.mktemp("story")
    with pytest.MonkeyPatch.context() as patch:
        story = Story(root, patch, through_executor=True)
        story.lands("first", 100)
        started = story.until_quiet()
        return Beginning(root, story.cursor, story.names, started)


@pytest.fixture
def story(beginning: Beginning, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Story:
    # The Dagster instance is new: what is due is read off the store, not off the history of runs.
    shutil.copytree(beginning.root / "store", tmp_path / "store")
    story = Story(tmp_path, monkeypatch)
    story.cursor, story.names = beginning.cursor, dict(beginning.names)
    story.instance.add_dynamic_partitions(str(DROPS.name), list(beginning.names))
    return story


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "incoming").mkdir()
    return tmp_path / "incoming"


@pytest.fixture(scope="session")
def empty_instance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with nothing but a Dagster instance: creating its tables takes longer than most tests."""
    store = tmp_path_factory.mktemp("empty") / "store"
    with dagster_instance(store) as instance:
        instance.get_runs()
    return store


@pytest.fixture
def start(tmp_path: Path, empty_instance: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Daemon]]:
    """`start(location, **settings of data)`: a daemon on the store's own instance, as one process after another has."""
    shutil.copytree(empty_instance, tmp_path / "store", symlinks=True)
    opened = []

    def start_daemon(location: Path | str, **data: Any) -> Daemon:
        data = {"drop_settled_seconds": 0, "incoming_path": str(location), **data}
        monkeypatch.setenv("SMARTDEVDIGEST_STORE", str(tmp_path / "store"))
        monkeypatch.setenv("SMARTDEVDIGEST_OVERRIDES", json.dumps({"data": data}))
        settings = load_settings("ci")
        monkeypatch.setattr(incoming, "SETTINGS", settings)
        monkeypatch.setattr(refused, "SETTINGS", settings)
        context = dagster_instance(settings.store_dir)
        opened.append(context)
        return Daemon(settings, context.__enter__())

    yield start_daemon
    for context in opened:
        context.__exit__(None, None, None)
