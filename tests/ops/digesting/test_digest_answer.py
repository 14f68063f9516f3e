import json

import pytest

from smartdevdigest_ops.digesting.answer import Corrections, compose_digest, expected_digits, read_answer
from smartdevdigest_ops.digesting.writer import Answer
from smartdevdigest_ops.settings import DigestingSettings

SETTINGS = DigestingSettings(max_keyword_characters=12)
FACTORS = {"technical_terms": 3, "concept_complexity": 2, "background_knowledge": 2, "code_complexity": None}
CONTENT = "Pods run containers. 쿠버네티스는 파드를 배치한다."


def digest(cut_fields=(), factor_digits=None, **fields):
    given = {name: probabilities(digit) for name, digit in FACTORS.items() if digit is not None}
    answer = {
        "summary": "Pods run.",
        "keywords": [],
        "difficulty_factors": FACTORS,
        "prerequisites": [],
        "technical_terms": [],
    } | fields
    written = Answer(json.dumps(answer, ensure_ascii=False), factor_digits or given, cut_fields, 10)
    made, corrections = compose_digest(
        read_answer(written, SETTINGS), title="Title words", content=CONTENT, settings=SETTINGS, seconds=1.23456
    )
    return made, answer, corrections


def probabilities(digit):
    return [float(digit == place) for place in range(1, 6)]


def test_keywords_are_kept_once_and_only_if_the_document_says_them():
    made, raw, corrections = digest(keywords=["pods", "쿠버네티스", "Pods", "title", "Docker", "run  containers"])
    assert made.keywords == ["pods", "쿠버네티스", "title"]
    assert raw["keywords"][4] == "Docker"
    # "run  containers" is longer than the cap allows a whole keyword to be.
    assert corrections == Corrections(cut_items=1, repeated_items=1, items_not_in_text=1)


def test_full_width_and_upper_case_are_the_same_word():
    made, _, corrections = digest(keywords=["ＰＯＤＳ", "PODS"])
    assert made.keywords == ["ＰＯＤＳ"]
    assert corrections.repeated_items == 1


def test_the_item_that_was_cut_off_is_left_out():
    terms = [{"term": "파드", "explanation": "컨테이너의 묶음이다."}, {"term": "Pods", "explanation": "-"}]
    made, _, corrections = digest(
        cut_fields=("keywords", "technical_terms"), keywords=["pods", "run"], technical_terms=terms
    )
    assert made.keywords == ["pods"]
    assert [term.term for term in made.technical_terms] == ["파드"]
    assert corrections.cut_items == 2


def test_a_term_keeps_its_first_explanation():
    terms = [{"term": "Pods", "explanation": "First."}, {"term": "pods", "explanation": "Second."}]
    made, _, _ = digest(technical_terms=terms)
    assert [(term.term, term.explanation) for term in made.technical_terms] == [("Pods", "First.")]


@pytest.mark.parametrize(
    ("summary", "expected"),
    [
        ("One. Two goes on and", "One."),
        ("파드는 실행된다. 그리고 컨테이너", "파드는 실행된다."),
        ("No sentence ends here", "No sentence ends here…"),
        ("It ends here.", "It ends here."),
    ],
)
def test_a_summary_that_was_cut_off_ends_with_its_last_whole_sentence(summary, expected):
    assert digest(cut_fields=("summary",), summary=summary)[0].summary == expected


def test_a_summary_that_loops_says_everything_once():
    sentence = "The pod runs on a node somewhere."
    assert digest(summary=f"{sentence} {sentence}"[:-1])[0].summary == sentence


def test_the_difficulty_is_the_mean_of_the_factors_expected_digits():
    digits = {
        "technical_terms": [0.0, 0.0, 0.5, 0.5, 0.0],  # 3.5
        "concept_complexity": [0.0, 1.0, 0.0, 0.0, 0.0],  # 2
        "background_knowledge": [0.5, 0.0, 0.0, 0.0, 0.5],  # 3
    }
    answer = Answer("", digits, (), 10)
    assert expected_digits(answer) == pytest.approx(
        {"technical_terms": 3.5, "concept_complexity": 2, "background_knowledge": 3, "code_complexity": None}
    )
    made, _, _ = digest(factor_digits=digits)
    assert (made.difficulty_level.score, made.difficulty_level.label) == (2.8, "intermediate")
    assert made.processing_time == 1.235


def test_factors_count_as_much_as_the_settings_say_and_the_score_is_calibrated():
    answer = Answer(
        json.dumps(
            {"summary": "A.", "keywords": [], "difficulty_factors": FACTORS, "prerequisites": [], "technical_terms": []}
        ),
        {name: probabilities(digit) for name, digit in FACTORS.items() if digit is not None},
        (),
        10,
    )
    weights = {"technical_terms": 2, "concept_complexity": 1, "background_knowledge": 0, "code_complexity": 5}
    settings = DigestingSettings(factor_weights=weights)
    document = {"title": None, "content": CONTENT, "settings": settings, "seconds": 0.0}
    made, _ = compose_digest(read_answer(answer, settings), **document)
    assert made.difficulty_level.score == 2.7  # (2 * 3 + 2) / 3: the code counts nothing where there is none
    made, _ = compose_digest(read_answer(answer, settings), **document, calibrate=lambda score: score + 1)
    assert made.difficulty_level.score == 3.7


def test_weights_that_leave_documents_without_code_no_score_are_refused():
    nothing = {"technical_terms": 0, "concept_complexity": 0, "background_knowledge": 0}
    with pytest.raises(ValueError, match="a document without code has no difficulty"):
        DigestingSettings(factor_weights=nothing)
