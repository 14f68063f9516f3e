"""Few documents, and a way to let the judge's endpoint judge them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from smartdevdigest_ops.evaluation.gold import TestDocument
from smartdevdigest_ops.evaluation.judge.judging import Judged, judge_answers
from smartdevdigest_ops.evaluation.statistics.intervals import Bootstrap
from smartdevdigest_ops.evaluation.systems import Answer
from smartdevdigest_ops.settings import JudgeSettings, load_settings

BOOTSTRAP = Bootstrap(num_samples=100, confidence=0.95, seed=17)


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
