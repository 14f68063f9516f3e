"""The file of the answers: damage, and what is written together."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from teacher_server import TeacherEndpoint, make_rows, outcomes_of

from smartdevdigest_ops.labeling.asking import LabelRun
from smartdevdigest_ops.labeling.cache import CACHE_FILE, AnswerCache
from smartdevdigest_ops.labeling.errors import LabelingError
from smartdevdigest_ops.labeling.inquiry import Reply
from smartdevdigest_ops.labeling.prompt import TeacherAnswer


def test_a_damaged_answer_is_bought_again(
    run_with: Callable[..., LabelRun], endpoint: TeacherEndpoint, tmp_path: Path
) -> None:
    run_with(make_rows(2)).ask()
    with sqlite3.connect(tmp_path / "cache" / CACHE_FILE) as connection:
        connection.execute("UPDATE answers SET answer = '{' WHERE key = (SELECT min(key) FROM answers)")
    run = run_with(make_rows(2))
    run.ask()
    assert len(endpoint.requests) == 3
    assert all(isinstance(outcome, TeacherAnswer) for outcome in outcomes_of(run))


@pytest.mark.parametrize("damage", ["no database", "another version"])
def test_a_file_that_cannot_be_read_is_named_before_anything_is_sent(tmp_path: Path, damage: str) -> None:
    file = tmp_path / CACHE_FILE
    if damage == "no database":
        file.write_bytes(b"not a database" * 1000)
    else:
        with sqlite3.connect(file) as connection:
            connection.execute("PRAGMA user_version = 99")
    with pytest.raises(LabelingError, match=CACHE_FILE):
        AnswerCache(tmp_path, "making")


def test_a_reply_its_cost_and_the_answer_become_true_together(
    run_with: Callable[..., LabelRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    inquiry = next(iter(run_with(make_rows(1)).first.values()))

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(AnswerCache, "settle", die)
    inquiry.take(Reply("no label", is_declined=True))
    with pytest.raises(KeyboardInterrupt):
        inquiry.take(Reply("no label", is_declined=True))
    again = run_with(make_rows(1))
    assert again.metrics()["teacher_replies"] == 1  # the second one, which was to settle it, is not there at all
    assert next(iter(again.first.values())).is_open
