"""General text: the project's own, and what is refused of others."""

import json
from pathlib import Path
from typing import Any

import pytest

from smartdevdigest_ops.settings import DataSettings
from smartdevdigest_ops.training.errors import TrainingError
from smartdevdigest_ops.training.m1.general import GeneralText, find_general_files, read_general, refuse_missing_text

GIVEN = {"id": "en-1", "language": "en", "split": "replay", "text": "Soup needs salt."}


def file_of(directory: Path, *documents: dict[str, Any], name: str = "own.jsonl") -> Path:
    path = directory / name
    path.write_text("".join(json.dumps(document) + "\n" for document in documents), encoding="utf-8")
    return path


def test_the_projects_own_text_is_the_same_amount_in_both_languages_and_both_splits() -> None:
    general = read_general(find_general_files(DataSettings(train_path="unused").general_paths))

    for documents in (general.replay, general.held_out):
        assert sorted(document.language for document in documents) == ["en"] * 8 + ["ko"] * 8
    for document in general.documents:
        least, most = (900, 1500) if document.language == "en" else (700, 1500)
        assert least <= len(document.text) <= most, document.id
        hangul = sum("가" <= character <= "힣" for character in document.text) / len(document.text)
        assert hangul > 0.6 if document.language == "ko" else hangul == 0


def test_patterns_and_names_find_files_once_in_order(tmp_path: Path) -> None:
    second, first = (file_of(tmp_path, GIVEN, name=name) for name in ("b.jsonl", "a.jsonl"))
    assert find_general_files([str(tmp_path / "*.jsonl"), str(second)]) == [first, second]
    with pytest.raises(TrainingError, match=r"general_paths names .*c\.jsonl.*finds no file"):
        find_general_files([str(tmp_path / "c.jsonl")])


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"split": "train"}, "split"), ({"text": ""}, "text"), ({"licence": "x"}, "licence"), ({"id": 3}, "id")],
)
def test_a_line_that_is_no_document_is_refused_by_file_line_and_field(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    path = file_of(tmp_path, GIVEN, GIVEN | {"id": "en-2", "text": "other"} | change)
    with pytest.raises(TrainingError, match=rf"own\.jsonl, line 2: {reason}: "):
        read_general([path])


@pytest.mark.parametrize("same", ["id", "text"])
def test_a_document_that_is_replayed_and_held_out_is_refused(tmp_path: Path, same: str) -> None:
    other = {"id": "en-2", "language": "en", "split": "held_out", "text": "Salt needs soup."} | {same: GIVEN[same]}
    path = file_of(tmp_path, GIVEN, other)
    with pytest.raises(TrainingError, match=r"line 2: .*stands in .*line 1 already"):
        read_general([path])


def test_settings_that_ask_for_more_than_the_files_hold_are_refused(tmp_path: Path) -> None:
    replay_only = read_general([file_of(tmp_path, GIVEN)])

    refuse_missing_text(replay_only, replay_share=0.1, max_increase=None)
    refuse_missing_text(GeneralText(), replay_share=0.0, max_increase=None)
    with pytest.raises(TrainingError, match=r"replay_share=0\.1.*no document with split=replay"):
        refuse_missing_text(GeneralText(), replay_share=0.1, max_increase=None)
    with pytest.raises(TrainingError, match=r"max_general_increase=0\.1.*split=held_out"):
        refuse_missing_text(replay_only, replay_share=0.1, max_increase=0.1)
