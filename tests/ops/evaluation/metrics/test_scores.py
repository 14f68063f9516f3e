"""What documents count for in a system's figures, by hand."""

from dataclasses import replace
from typing import Any

import pytest

from smartdevdigest_ops.evaluation.gold import Gold, TestDocument
from smartdevdigest_ops.evaluation.metrics.difficulty import calibration_table, confusion_table, factor_table
from smartdevdigest_ops.evaluation.metrics.generation import generation_counts, seconds_per_document
from smartdevdigest_ops.evaluation.metrics.scores import document_counts, factor_metrics, system_metrics
from smartdevdigest_ops.evaluation.statistics.intervals import Bootstrap
from smartdevdigest_ops.evaluation.systems import Answer

BOOTSTRAP = Bootstrap(num_samples=100, confidence=0.95, seed=17)


def _document(number: int, difficulty: float = 3.0, **gold: Any) -> TestDocument:
    of = Gold("Pods run.", ("pods",), difficulty, ("pods",), **gold)
    return TestDocument(f"https://a.example/{number}", "en", None, "Pods run on 3 nodes. Pods restart.", of)


def _answer(number: int, score: float = 3.0, **changes: Any) -> Answer:
    digest = {
        "summary": "Pods run on 4 nodes.",
        "keywords": ["pods", "etcd"],
        "difficulty_level": {"score": score},
        "technical_terms": [{"term": "nodes", "explanation": "Machines."}],
    }
    return replace(Answer("candidate", f"https://a.example/{number}", digest, True), **changes)


def _failed(number: int, **changes: Any) -> Answer:
    return replace(Answer("candidate", f"https://a.example/{number}", None, False), **changes)


def test_a_summary_in_the_other_language_is_counted_and_a_missing_one_is_not() -> None:
    korean = "쿠버네티스는 Pod를 Node에서 실행한다."
    english = _document(1)
    answers = [_answer(1), _answer(2), _failed(3)]
    answers[1] = replace(answers[1], digest=(answers[1].digest or {}) | {"summary": korean})
    documents = [english, _document(2), _document(3)]
    assert [document_counts(*pair)["language_match"] for pair in zip(documents, answers, strict=True)] == [
        (1, 1),
        (0, 1),
        (0, 0),
    ]
    assert system_metrics(documents, answers)["language_match"].interval(BOOTSTRAP).mean == 0.5
    in_korean = replace(english, language="ko", content=korean)
    assert document_counts(in_korean, answers[1])["language_match"] == (1, 1)


def test_seconds_are_the_mean_of_the_answers_that_were_timed() -> None:
    candidate = [_answer(1, seconds=2.0), _failed(2, seconds=4.0), _answer(3)]
    assert seconds_per_document({"candidate": candidate, "lead3": [_answer(1)]}) == {"candidate": 3.0}


def test_counts_of_one_document_by_hand() -> None:
    counts = document_counts(_document(1), _answer(1))
    assert counts["unsupported_numbers"] == (1, 1)
    assert counts["absent_keywords"] == (1, 2)
    assert counts["absent_terms"] == (0, 1)
    assert counts["compression"] == (20, 34)
    assert counts["copy_rate"] == (1, 3)  # "pods run on"


def test_a_share_is_of_all_documents_together_and_one_without_an_answer_says_nothing() -> None:
    metrics = system_metrics([_document(1), _document(2)], [_answer(1), _failed(2)])
    assert metrics["absent_keywords"].interval(BOOTSTRAP).mean == 0.5
    assert metrics["keyword_f1"].interval(BOOTSTRAP).mean == pytest.approx((2 / 3 + 0) / 2, abs=1e-6)


def test_a_system_is_not_judged_in_what_it_does_not_answer_with() -> None:
    metrics = system_metrics([_document(1)], [Answer("lead3", "https://a.example/1", {"summary": "Pods."}, True)])
    assert "rougeL" in metrics
    assert not {"keyword_f1", "term_f1", "difficulty_mae", "absent_keywords"} & set(metrics)


def test_each_difficulty_factor_is_measured_by_itself_and_code_only_where_both_see_some() -> None:
    gold = {"technical_terms": 2, "concept_complexity": 4, "background_knowledge": 1}
    documents = [
        _document(1, factors=gold | {"code_complexity": 5}),
        _document(2, factors=gold | {"code_complexity": None}),
    ]
    answered = {"technical_terms": 2.5, "concept_complexity": 2.0, "background_knowledge": 1.0, "code_complexity": 4.0}
    table = factor_metrics(documents, [_answer(1, factors=answered), _failed(2)])
    errors = {factor: by_name["mae"].interval(BOOTSTRAP).mean for factor, by_name in table.items()}
    # A missing answer is as wrong as can be: 5 for 2, 1 for 4, 5 for 1.
    assert errors == {
        "technical_terms": (0.5 + 3) / 2,
        "concept_complexity": (2 + 3) / 2,
        "background_knowledge": (0 + 4) / 2,
        "code_complexity": 1.0,
    }
    assert set(table["technical_terms"]) == {"mae", "spearman", "kendall", "qwk"}


def test_a_system_without_factors_has_no_factor_table() -> None:
    assert factor_table([_document(1)], {"lead3": [_answer(1)]}, BOOTSTRAP) == {}


def test_calibration_compares_gold_with_the_score_of_each_answered_level() -> None:
    documents = [_document(1, 2.0), _document(2, 3.0), _document(3, 5.0), _document(4, 1.0)]
    answers = [_answer(1, 3.2), _answer(2, 2.8), _answer(3, 4.6), _failed(4)]
    middle, hard = calibration_table(documents, answers, BOOTSTRAP)
    assert (middle["level"], middle["answered"], middle["gold"]["mean"], middle["gold"]["n"]) == (3, 3.0, 2.5, 2)
    assert (hard["level"], hard["answered"], hard["gold"]["mean"], hard["gold"]["n"]) == (5, 4.6, 5.0, 1)


def test_without_gold_difficulty_there_is_neither_confusion_nor_calibration() -> None:
    document = replace(_document(1), gold=Gold("Pods run."))
    assert confusion_table([document], [_answer(1)]) is None
    assert calibration_table([document], [_answer(1)], BOOTSTRAP) == []


def test_refused_cut_and_truncated_answers_are_counted_by_reason() -> None:
    whole = _answer(1, covered_share=1.0, num_new_tokens=30, corrections={"cut_items": 2, "repeated_items": 1})
    part = _answer(2, covered_share=0.5, num_new_tokens=20, corrections={"cut_items": 0, "repeated_items": 1})
    refused = _failed(3, error="blank", covered_share=0.0, num_new_tokens=0)
    counts = generation_counts({"candidate": [whole, part, refused], "lead3": [_answer(1)]})
    assert counts == {
        "candidate": {
            "num_documents": 3,
            "num_valid": 2,
            "refused": {"blank": 1},
            "truncated_documents": 1,
            "mean_covered_share": 0.75,
            "answers_with_cut_items": 1,
            "cut_items": 2,
            "repeated_items": 2,
            "num_new_tokens": 50,
            "new_tokens_per_document": 16.667,
        }
    }
