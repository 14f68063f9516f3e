"""Test documents with gold from the shipped labels, answers of a known quality, and a judge's endpoint."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
from judge_server import JudgeEndpoint

from smartdevdigest_ops.contracts import CrawlRecord, Difficulty, Label
from smartdevdigest_ops.evaluation.gold import TestDocument, gold_of_label
from smartdevdigest_ops.evaluation.systems import CANDIDATE, LEAD3, UNTUNED_BASE, Answer


@pytest.fixture(scope="session")
def gold_documents(sample_documents: list[CrawlRecord], sample_labels: dict[str, Label]) -> list[TestDocument]:
    """Twelve documents of each language with the gold of their labels."""
    documents = [
        TestDocument(d.url, d.language, d.title, d.content, gold_of_label(sample_labels[d.url]))
        for d in sample_documents
        if d.url in sample_labels
    ]
    return [document for language in ("en", "ko") for document in [d for d in documents if d.language == language][:12]]


@pytest.fixture(scope="session")
def answers_of_quality() -> Callable[[str, Sequence[TestDocument], float], list[Answer]]:
    """`answers(system, documents, share)`: digests that keep `share` of gold's words and keywords."""

    def make(system: str, documents: Sequence[TestDocument], share: float) -> list[Answer]:
        random_source = random.Random(system)
        made = []
        for document in documents:
            gold = document.gold
            words = [word for word in (gold.summary or "").split() if random_source.random() < share] or ["..."]
            error = (1 - share) * random_source.choice((-2, -1, 1, 2))
            difficulty = Difficulty.of(min(5.0, max(1.0, (gold.difficulty or 3.0) + error)))
            digest = {
                "summary": " ".join(words),
                "keywords": [word for word in gold.keywords or () if random_source.random() < share],
                "difficulty_level": difficulty.model_dump(),
                "prerequisites": [],
                "technical_terms": [
                    {"term": term, "explanation": "."} for term in gold.terms or () if random_source.random() < share
                ],
            }
            factors = {
                name: None if value is None else min(5.0, max(1.0, value + error))
                for name, value in (gold.factors or {}).items()
            }
            made.append(Answer(system, document.url, digest, True, factors, None, 1.0, 40, {"cut_items": 1}))
        return made

    return make


@pytest.fixture(scope="session")
def answers_of_systems(
    gold_documents: list[TestDocument], answers_of_quality: Callable[..., list[Answer]]
) -> dict[str, list[Answer]]:
    """A candidate clearly ahead of Lead-3, which is ahead of the untuned base."""
    shares = {CANDIDATE: 0.8, UNTUNED_BASE: 0.1, LEAD3: 0.4}
    return {system: answers_of_quality(system, gold_documents, share) for system, share in shares.items()}


@pytest.fixture
def judge_endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[JudgeEndpoint]:
    """An honest judge, and its key in JUDGE_KEY."""
    monkeypatch.setenv("JUDGE_KEY", "any")
    endpoint = JudgeEndpoint()
    yield endpoint
    endpoint.stop()


@pytest.fixture
def judge_settings(judge_endpoint: JudgeEndpoint) -> Callable[..., dict[str, Any]]:
    """`judge_settings(max_documents=..., openai={...})`: settings of the judge at the endpoint, as plain JSON."""

    def make(openai: Mapping[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
        endpoint = {
            "base_url": judge_endpoint.base_url,
            "model": "judge-model",
            "api_key_environment": "JUDGE_KEY",
            "requests": {"max_retries": 0, "timeout_seconds": 20},
        }
        return {"teacher": "openai", "openai": endpoint | dict(openai or {})} | changes

    return make
