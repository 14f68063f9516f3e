import json
from pathlib import Path
from typing import Any

import pytest

from smartdevdigest_ops.contracts import CrawlRecord, Label
from smartdevdigest_ops.evaluation.errors import EvaluationError
from smartdevdigest_ops.evaluation.gold import choose_documents, read_gold_difficulty, read_gold_summaries

URL = "https://a.example/{}"


def _write(path: Path, values: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return path


def _levels(path: Path, *levels: Any) -> list[float]:
    file = _write(path, [{"url": URL.format(i), "level": level} for i, level in enumerate(levels)])
    return list(read_gold_difficulty(file).values())


def test_three_human_levels_stand_for_the_middles_of_their_thirds(tmp_path: Path) -> None:
    assert _levels(tmp_path / "g", "beginner", "Intermediate", " advanced ") == [1.7, 3.0, 4.3]


def test_one_of_the_five_names_makes_the_whole_file_the_contracts_scale(tmp_path: Path) -> None:
    assert _levels(tmp_path / "g", "beginner", "advanced", "expert") == [1.0, 4.0, 5.0]


def test_numbers_are_taken_as_they_are(tmp_path: Path) -> None:
    assert _levels(tmp_path / "g", 1, 3.4, "advanced") == [1.0, 3.4, 4.3]


@pytest.mark.parametrize("level", ["hard", 0.5, 6, None, True, [3]])
def test_another_level_is_refused_with_file_and_line(tmp_path: Path, level: Any) -> None:
    with pytest.raises(EvaluationError, match="line 2: level must be one of beginner"):
        _levels(tmp_path / "g", "beginner", level)


@pytest.mark.parametrize("line", ["{", "[1]", '{"summary": "x"}', '{"url": "u", "summary": " "}', '{"url": "u"}'])
def test_a_bad_line_of_summaries_is_refused_with_its_number(tmp_path: Path, line: str) -> None:
    path = tmp_path / "gold.jsonl"
    path.write_text(f'{{"url": "https://a.example/0", "summary": "x"}}\n\n{line}\n', encoding="utf-8")
    with pytest.raises(EvaluationError, match="line 3"):
        read_gold_summaries(path)


def test_a_url_given_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="was on line 1 already"):
        read_gold_summaries(_write(tmp_path / "g", [{"url": URL, "summary": "x"}, {"url": URL, "summary": "y"}]))


def test_a_missing_gold_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"absent\.jsonl"):
        read_gold_summaries(tmp_path / "absent.jsonl")


def test_documents_are_drawn_half_per_language_and_stay_as_the_corpus_grows(
    sample_documents: list[CrawlRecord], sample_labels: dict[str, Label]
) -> None:
    rows = [
        {**document.model_dump(), "label": sample_labels[document.url].model_dump_json()}
        for document in sample_documents
        if document.url in sample_labels
    ]
    chosen = [document.url for document in choose_documents(rows, 10)]
    assert sum("/ko/" in url for url in chosen) == 5
    assert len(chosen) == 10
    unchosen = [row for row in rows if row["url"] not in chosen]
    fewer = [row for row in rows if row not in unchosen[:8]]
    assert [document.url for document in choose_documents(fewer[::-1], 10)] == chosen


def test_no_test_document_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(EvaluationError, match=r"raise corpus\.test_share"):
        choose_documents([], 10)
