"""Test documents that people gave gold to, beside those that the teacher labelled."""

import json
from pathlib import Path
from typing import Any

import pytest

from smartdevdigest_ops.contracts import CrawlRecord, Label
from smartdevdigest_ops.evaluation.errors import EvaluationError
from smartdevdigest_ops.evaluation.gold import HUMAN, TEACHER, choose_documents, origins, seen_by
from smartdevdigest_ops.evaluation.human_gold import HumanGold, choose_with_human_gold
from smartdevdigest_ops.evaluation.leakage import audit_leakage
from smartdevdigest_ops.settings import load_settings

Row = dict[str, Any]


def _gold(tmp_path: Path, summaries: list[Row], levels: list[Row] | None = None) -> HumanGold:
    files = {}
    for name, rows in (("gold_summaries", summaries), ("gold_levels", levels or [])):
        files[name] = str(tmp_path / f"{name}.jsonl")
        Path(files[name]).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return HumanGold.of_settings(load_settings("ci", overrides={"evaluation": files}))


@pytest.fixture
def rows(sample_documents: list[CrawlRecord], sample_labels: dict[str, Label]) -> list[Row]:
    """Six labelled rows of each language, with a cluster each."""
    found = [document for document in sample_documents if document.url in sample_labels]
    chosen = [d for language in ("en", "ko") for d in [d for d in found if d.language == language][:6]]
    return [
        d.model_dump() | {"label": sample_labels[d.url].model_dump_json(), "cluster": f"cluster of {d.url}"}
        for d in chosen
    ]


def test_a_document_with_both_golds_comes_once_and_is_seen_by_either_origin(tmp_path: Path, rows: list[Row]) -> None:
    labelled = rows[:2] + rows[6:8]
    both, summary_only, level_only = rows[0]["url"], rows[3]["url"], rows[8]["url"]
    human = _gold(
        tmp_path,
        [{"url": both, "summary": "By a person."}, {"url": summary_only, "summary": "By another."}],
        [{"url": level_only, "level": "advanced"}],
    )
    documents, _ = choose_with_human_gold(labelled, rows, human, 4)
    urls = [document.url for document in documents]
    assert len(urls) == len(set(urls))
    assert set(urls) == {row["url"] for row in labelled} | {summary_only, level_only}
    assert origins(documents) == [TEACHER, HUMAN]
    of_teacher, of_people = seen_by(documents, TEACHER), seen_by(documents, HUMAN)
    assert {document.url for document in of_teacher.values()} == {row["url"] for row in labelled}
    by_url = {document.url: document.gold for document in of_people.values()}
    assert set(by_url) == {both, summary_only, level_only}
    assert (by_url[both].summary, by_url[both].difficulty) == ("By a person.", None)
    assert (by_url[level_only].summary, by_url[level_only].difficulty) == (None, 4.3)
    assert {document.cluster for document in documents} == {f"cluster of {url}" for url in urls}


def test_gold_without_a_test_document_and_documents_beyond_the_most_are_counted(
    tmp_path: Path, rows: list[Row]
) -> None:
    summaries = [{"url": row["url"], "summary": "By a person."} for row in rows]
    unknown = "https://elsewhere.example/x"
    human = _gold(
        tmp_path,
        [*summaries, {"url": unknown, "summary": "x"}, {"url": "no address", "summary": "x"}],
        [{"url": unknown, "level": 2}],
    )
    documents, left_out = choose_with_human_gold(rows[:1], rows, human, 4)
    assert len(documents) == 1 + 4
    assert left_out == {
        "gold summaries without a test document": 2,
        "gold levels without a test document": 1,
        "test documents with human gold beyond max_documents": 12 - 5,
    }


def test_without_human_gold_the_documents_are_those_of_the_labels(rows: list[Row]) -> None:
    documents, left_out = choose_with_human_gold(rows, rows, HumanGold(), 4)
    clusters = {row["url"]: row["cluster"] for row in rows}
    assert documents == choose_documents(rows, 4, clusters=clusters)
    assert left_out == {}


def test_people_are_the_only_origin_where_the_teacher_labelled_no_test_document(
    tmp_path: Path, rows: list[Row]
) -> None:
    human = _gold(tmp_path, [{"url": row["url"], "summary": "By a person."} for row in rows])
    documents, _ = choose_with_human_gold([], rows, human, 4)
    assert origins(documents) == [HUMAN]
    with pytest.raises(EvaluationError, match="test split holds no document"):
        choose_with_human_gold([], rows, HumanGold(), 4)


def test_a_page_is_found_by_another_spelling_of_its_address(tmp_path: Path, rows: list[Row]) -> None:
    human = _gold(tmp_path, [{"url": f"{rows[0]['url']}?utm_source=x#part", "summary": "By a person."}])
    [document] = choose_with_human_gold(rows[:1], rows, human, 2)[0]
    assert document.other_gold is not None
    assert document.other_gold.summary == "By a person."


def test_two_spellings_of_one_page_are_refused(tmp_path: Path) -> None:
    lines = [{"url": f"https://a.example/x{end}", "summary": "x"} for end in ("", "/")]
    with pytest.raises(EvaluationError, match=r"https://a\.example/x and https://a\.example/x/ are one page"):
        _gold(tmp_path, lines)


def test_a_line_that_is_no_gold_is_refused_with_file_and_line(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"gold_levels\.jsonl, line 1: level must be one of"):
        _gold(tmp_path, [], [{"url": "https://a.example/x", "level": "hard"}])


def test_leaks_of_a_second_gold_are_found(tmp_path: Path, rows: list[Row]) -> None:
    summary = "A sentence about pods that a person wrote by hand."
    human = _gold(tmp_path, [{"url": rows[0]["url"], "summary": summary}])
    documents, _ = choose_with_human_gold(rows[:1], rows, human, 2)
    audit = audit_leakage(documents, [{"url": "https://a.example/train", "content": f"Quoted: {summary}"}])
    assert audit["gold_summary"] == [{"url": rows[0]["url"], "train_url": "https://a.example/train"}]
