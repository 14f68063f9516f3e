"""A corpus in a scratch store, a teacher's endpoint on the loopback interface, and a way to ask it."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from corpus_samples import publish_corpus
from teacher_server import TeacherEndpoint

from smartdevdigest_ops.artifacts import ArtifactStore
from smartdevdigest_ops.contracts import CrawlRecord
from smartdevdigest_ops.labeling.asking import LabelRun
from smartdevdigest_ops.labeling.cache import AnswerCache
from smartdevdigest_ops.labeling.local import Machine
from smartdevdigest_ops.settings import LabelingSettings, Settings, load_settings

KEY = "sk-very-secret-0123456789"


@pytest.fixture
def publish_documents() -> Callable[..., None]:
    """`publish_documents(settings, {split: [CrawlRecord]})` makes these the current cleaned_corpus."""

    def publish(settings: Settings, splits: dict[str, list[CrawlRecord]]) -> None:
        publish_corpus(ArtifactStore(settings.store_dir), splits)

    return publish


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[TeacherEndpoint]:
    """An endpoint that answers with sound labels, and the key of it in TEACHER_KEY."""
    monkeypatch.setenv("TEACHER_KEY", KEY)
    found = TeacherEndpoint()
    yield found
    found.stop()


@pytest.fixture
def openai_settings(endpoint: TeacherEndpoint) -> Callable[..., dict[str, Any]]:
    """`openai_settings(requests={...}, model=...)`: settings of a teacher at the endpoint, impatient as tests are."""

    def make(requests: dict[str, Any] | None = None, batch: dict[str, Any] | None = None, **changes: Any) -> Any:
        quick = {"first_pause_seconds": 0.001, "timeout_seconds": 20} | (requests or {})
        return {
            "base_url": endpoint.base_url,
            "model": "teacher",
            "api_key_environment": "TEACHER_KEY",
            "requests": quick,
            "batch": {"poll_seconds": 0.001} | (batch or {}),
        } | changes

    return make


@pytest.fixture
def run_with(tmp_path: Path, openai_settings: Callable[..., dict[str, Any]]) -> Iterator[Callable[..., LabelRun]]:
    """`run_with(rows, model=..., agreement={...})` plans a run of the openai teacher on a cache of this test."""
    caches: list[AnswerCache] = []

    def plan(
        rows: Sequence[dict[str, Any]],
        *,
        making: str = "making",
        agreement: dict[str, Any] | None = None,
        labeled: Sequence[dict[str, Any]] = (),
        scratch: Path | None = None,
        **openai: Any,
    ) -> LabelRun:
        settings = LabelingSettings(teacher="openai", openai=openai_settings(**openai), agreement=agreement or {})
        caches.append(AnswerCache(tmp_path / "cache", making))
        machine = Machine(tmp_path / "models", load_settings("ci").model)
        return LabelRun(settings, machine, caches[-1], unlabeled=rows, labeled=labeled, scratch=scratch)

    yield plan
    for cache in caches:
        cache.close()
