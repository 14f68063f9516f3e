"""The stage's checks, passing and failing."""

import copy
from typing import Any

import pytest

from smartdevdigest_ops.evaluation.checks import (
    check_candidate_beats_lead3,
    check_every_metric_has_an_interval,
    check_korean_rouge,
    check_no_test_document_in_train,
    check_outputs_are_valid,
)
from smartdevdigest_ops.evaluation.evaluate import evaluate
from smartdevdigest_ops.evaluation.gold import TestDocument
from smartdevdigest_ops.evaluation.leakage import audit_leakage
from smartdevdigest_ops.evaluation.metrics.overlap import korean_self_check
from smartdevdigest_ops.evaluation.statistics.intervals import Bootstrap
from smartdevdigest_ops.evaluation.systems import (
    CANDIDATE,
    LEAD3,
    Answer,
)

BOOTSTRAP = Bootstrap(num_samples=100, confidence=0.95, seed=17)
Report = dict[str, Any]


@pytest.fixture(scope="module")
def report(gold_documents: list[TestDocument], answers_of_systems: dict[str, list[Answer]]) -> Report:
    return evaluate(gold_documents, answers_of_systems, bootstrap=BOOTSTRAP)


def test_every_check_passes_on_a_good_candidate(report: Report, gold_documents: list[TestDocument]) -> None:
    elsewhere = [{"url": "https://a.example/other", "content": "another document"}]
    for result in (
        check_outputs_are_valid(report),
        check_every_metric_has_an_interval(report),
        check_korean_rouge(*korean_self_check()),
        check_candidate_beats_lead3(report),
        check_no_test_document_in_train(report | {"leakage": audit_leakage(gold_documents, elsewhere)}),
    ):
        assert result.passed, result.message


def test_one_invalid_answer_fails_the_validity_check(
    gold_documents: list[TestDocument], answers_of_systems: dict[str, list[Answer]]
) -> None:
    invalid = Answer(CANDIDATE, gold_documents[0].url, None, False)
    answers = answers_of_systems | {CANDIDATE: [invalid, *answers_of_systems[CANDIDATE][1:]]}
    result = check_outputs_are_valid(evaluate(gold_documents, answers, bootstrap=BOOTSTRAP))
    assert not result.passed
    assert result.message.startswith("23 of 24 answers")


def test_a_figure_without_bounds_fails_the_interval_check_and_is_named(report: Report) -> None:
    broken = copy.deepcopy(report)
    broken["languages"]["ko"][LEAD3]["chrf_plus_plus"]["low"] = None
    result = check_every_metric_has_an_interval(broken)
    assert not result.passed
    assert "chrf_plus_plus of lead3 in ko" in result.message


def test_an_undefined_figure_needs_no_bounds(report: Report) -> None:
    undefined = copy.deepcopy(report)
    undefined["languages"]["ko"][LEAD3]["difficulty_spearman"] = {"mean": None, "low": None, "high": None, "n": 12}
    assert check_every_metric_has_an_interval(undefined).passed


@pytest.mark.parametrize(("identical", "contradictory"), [(0.0, 0.0), (1.0, 1.0)])
def test_rouge_that_drops_hangul_fails_the_soundness_check(identical: float, contradictory: float) -> None:
    assert not check_korean_rouge(identical, contradictory).passed


def test_a_candidate_that_is_lead3_does_not_beat_it(
    gold_documents: list[TestDocument], answers_of_systems: dict[str, list[Answer]]
) -> None:
    same = {CANDIDATE: answers_of_systems[LEAD3], LEAD3: answers_of_systems[LEAD3]}
    result = check_candidate_beats_lead3(evaluate(gold_documents, same, bootstrap=BOOTSTRAP))
    assert not result.passed
    assert "ko +0.000 [+0.000, +0.000] on 12 documents, no difference shown" in result.message


def test_a_test_document_in_the_train_split_fails_the_leakage_check_and_is_named(
    report: Report, gold_documents: list[TestDocument]
) -> None:
    url = gold_documents[0].url
    leaking = report | {"leakage": audit_leakage(gold_documents, [{"url": url, "content": "other"}])}
    result = check_no_test_document_in_train(leaking)
    assert not result.passed
    assert f"{url} (url, in {url})" in result.message


def test_a_keyword_list_found_in_training_text_is_no_reason_to_refuse(
    report: Report, gold_documents: list[TestDocument]
) -> None:
    listed = ", ".join(gold_documents[0].gold.keywords or ())
    audit = audit_leakage(gold_documents, [{"url": "https://a.example/other", "content": listed}])
    assert audit["gold_keywords"]
    assert check_no_test_document_in_train(report | {"leakage": audit}).passed
