import json

import pytest
from pydantic import ValidationError

from smartdevdigest_ops.contracts import CrawlRecord, Difficulty, Digest, Label, difficulty_label
from smartdevdigest_ops.contracts.export import CONTRACTS, SCHEMA_DIR, json_schema

RECORD = {"source_type": "blog", "url": "https://a.example/x", "language": "en", "title": None, "content": "text"}
DIGEST = {
    "summary": "s",
    "keywords": ["k"],
    "difficulty_level": {"score": 3.5, "label": "intermediate"},
    "prerequisites": [],
    "technical_terms": [{"term": "t", "explanation": "e"}],
    "processing_time": 0.1,
}


@pytest.mark.parametrize(
    ("score", "label"),
    [
        (1.0, "beginner"),
        (1.5, "beginner"),
        (1.6, "elementary"),
        (2.5, "elementary"),
        (2.6, "intermediate"),
        (3.5, "intermediate"),
        (3.6, "advanced"),
        (4.5, "advanced"),
        (4.6, "expert"),
        (5.0, "expert"),
    ],
)
def test_each_score_has_the_label_of_its_band(score: float, label: str):
    assert difficulty_label(score) == label


@pytest.mark.parametrize("score", [0.9, 5.1, float("nan")])
def test_a_score_off_the_scale_has_no_label(score: float):
    with pytest.raises(ValueError, match="outside"):
        difficulty_label(score)


def test_a_difficulty_is_rounded_before_it_is_labelled():
    assert Difficulty.of(1.549999) == Difficulty(score=1.5, label="beginner")


@pytest.mark.parametrize(
    "change",
    [
        {"difficulty_level": {"score": 3.5, "label": "expert"}},
        {"difficulty_level": {"score": 3.55, "label": "advanced"}},
        {"processing_time": -1},
        {"summary": ""},
        {"another_key": 1},
    ],
)
def test_a_digest_off_the_contract_is_refused(change: dict):
    Digest.model_validate(DIGEST)
    with pytest.raises(ValidationError):
        Digest.model_validate(DIGEST | change)


def test_a_digest_has_exactly_the_keys_of_the_contract():
    assert list(Digest.model_validate(DIGEST).model_dump()) == list(DIGEST)


@pytest.mark.parametrize(
    "change",
    [
        {"content": " \n\t"},
        {"content": None},
        {"language": "fr"},
        {"source_type": "tweet"},
        {"url": "ftp://a.example/x"},
        {"url": "/relative"},
        {"tags": "a,b"},
        {"views": "many"},
        {"views": -1},
        {"views": 1.5},
        {"title": "\ud800"},
    ],
)
def test_a_crawl_record_off_the_contract_is_refused(change: dict):
    CrawlRecord.model_validate(RECORD)
    with pytest.raises(ValidationError):
        CrawlRecord.model_validate(RECORD | change)


def test_unknown_keys_of_a_crawl_record_are_kept_aside():
    record = CrawlRecord.model_validate(RECORD | {"license": "MIT", "extra": {"a": 1}})
    assert record.extra == {"license": "MIT", "a": 1}


def test_a_record_read_back_from_its_own_dump_is_the_same():
    record = CrawlRecord.model_validate(RECORD | {"license": "MIT", "tags": ["a"], "views": 3})
    assert CrawlRecord.model_validate(record.model_dump()) == record


def test_a_label_scores_the_mean_of_the_factors_that_are_not_null():
    factors = {"technical_terms": 2, "concept_complexity": 3, "background_knowledge": 3, "code_complexity": None}
    label = Label.model_validate(
        {
            "url": "https://a.example/x",
            "language": "en",
            "summary": "s",
            "keywords": ["k"],
            "difficulty_factors": factors,
            "prerequisites": [],
            "technical_terms": [],
        }
    )
    assert label.difficulty_factors.score() == 2.7


@pytest.mark.parametrize("name", sorted(CONTRACTS))
def test_the_exported_schema_is_the_models_own(name: str):
    # To renew: python -m smartdevdigest_ops.contracts.export
    assert json.loads((SCHEMA_DIR / f"{name}.schema.json").read_text(encoding="utf-8")) == json_schema(name)


def test_every_sample_document_and_label_keeps_its_contract(sample_documents, sample_labels):
    assert len(sample_documents) == 80
    assert {document.url for document in sample_documents} == set(sample_labels)


def test_views_are_whole_however_they_are_spelled():
    views = CrawlRecord.model_validate(RECORD | {"views": 7.0}).views
    assert (views, type(views)) == (7, int)
