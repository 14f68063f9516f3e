"""A place where drops land, and looks at it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from file_server import FileServer, serving
from incoming_watch import Watch


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "incoming").mkdir()
    return tmp_path / "incoming"


@pytest.fixture
def watch(tmp_path: Path, place: Path) -> Watch:
    return Watch(tmp_path, place)


@pytest.fixture
def server(place: Path) -> Iterator[FileServer]:
    with serving(place) as running:
        yield running
