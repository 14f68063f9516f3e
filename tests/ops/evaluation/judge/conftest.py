"""A judge's endpoint, and a way to let it judge."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from judge_server import JudgeEndpoint

from smartdevdigest_ops.evaluation.gold import TestDocument
from smartdevdigest_ops.evaluation.intervals import Bootstrap
from smartdevdigest_ops.evaluation.judge.judging import Judged, judge_answers
from smartdevdigest_ops.evaluation.systems import Answer
from smartdevdigest_ops.settings import JudgeSettings, load_settings

BOOTSTRAP = Bootstrap(num_samples=100, confidence=0.95, seed=17)


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


FEW = (0, 1, 2, 3, 12, 13, 14, 15)


@pytest.fixture(scope="session")
def few_documents(gold_documents: list[TestDocument]) -> list[TestDocument]:
    """Four documents of each language with gold: every question is a request."""
    return [gold_documents[index] for index in FEW]


@pytest.fixture(scope="session")
def few_answers(answers_of_systems: dict[str, list[Answer]]) -> dict[str, list[Answer]]:
    """What the systems say of them."""
    return {system: [answers[index] for index in FEW] for system, answers in answers_of_systems.items()}


@pytest.fixture
def judge(
    tmp_path: Path,
    judge_settings: Callable[..., dict[str, Any]],
    few_documents: list[TestDocument],
    few_answers: dict[str, list[Answer]],
) -> Callable[..., Judged]:
    """`judge(documents, answers, making=..., **settings)` lets the endpoint judge; answers are kept for the test."""

    def run(
        documents: Sequence[TestDocument] = few_documents,
        answers: Mapping[str, Sequence[Answer]] = few_answers,
        *,
        making: str = "making",
        lines: list[str] | None = None,
        **changes: Any,
    ) -> Judged:
        return judge_answers(
            documents,
            answers,
            settings=JudgeSettings.model_validate(judge_settings(**changes)),
            model=load_settings("ci").model,
            seed=17,
            bootstrap=BOOTSTRAP,
            store_dir=tmp_path / "store",
            making=making,
            log=(lines if lines is not None else []).append,
        )

    return run
