"""Servers for tests: real ones on loopback, with the tiny model."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from running_server import GatedEngine, RunningServer, Starter, load_tiny

from smartdevdigest_ops.contracts import CrawlRecord
from smartdevdigest_ops.digesting.model import Digester, write_digest_config
from smartdevdigest_ops.settings import load_settings


@pytest.fixture(scope="session")
def model_dir(tiny_base_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, whose answers are as short as they can be."""
    directory = tmp_path_factory.mktemp("served") / "tiny"
    shutil.copytree(tiny_base_model, directory)
    shortest = {
        "max_new_tokens": 240,
        "max_summary_characters": 21,
        "max_keywords": 1,
        "max_keyword_characters": 4,
        "max_prerequisites": 0,
        "max_explanation_characters": 11,
    }
    write_digest_config(directory, load_settings("ci", overrides={"digesting": shortest}))
    return directory


@pytest.fixture(scope="session")
def digester(model_dir: Path) -> Digester:
    return load_tiny(model_dir)


@pytest.fixture
def documents(sample_documents: list[CrawlRecord]) -> list[dict[str, Any]]:
    """Documents of the sample as a client sends them."""
    return [document.model_dump(exclude={"extra"}) for document in sample_documents[:20]]


@pytest.fixture
def start(model_dir: Path, digester: Digester) -> Iterator[Starter]:
    with ExitStack() as stack:
        yield Starter(stack, model_dir, digester)


@pytest.fixture(scope="module")
def server(model_dir: Path, digester: Digester) -> Iterator[RunningServer]:
    """One with the defaults but small limits, for tests that leave it as it was."""
    with ExitStack() as stack:
        yield Starter(stack, model_dir, digester)(max_body_bytes=200_000, max_documents=8, max_queued_documents=64)


@pytest.fixture
def gated(digester: Digester) -> Iterator[GatedEngine]:
    engine = GatedEngine(digester)
    yield engine
    engine.let_pass(1000)
