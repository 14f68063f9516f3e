"""Servers on loopback, and crawls of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from changing_site import ChangingSite
from crawls import Crawler
from misbehaving_server import MisbehavingServer


@pytest.fixture
def server() -> Iterator[MisbehavingServer]:
    with MisbehavingServer() as running:
        yield running


@pytest.fixture
def site() -> Iterator[ChangingSite]:
    with ChangingSite() as running:
        yield running


@pytest.fixture
def crawler(tmp_path: Path) -> Crawler:
    return Crawler(tmp_path)
