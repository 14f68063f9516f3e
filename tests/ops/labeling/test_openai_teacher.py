"""The openai teacher against a real HTTP server on the loopback interface."""

import logging
from pathlib import Path
from typing import Any

import pytest

from smartdevdigest_ops.labeling.errors import LabelingError
from smartdevdigest_ops.labeling.openai import INVALID, NOT_SENT, OpenAITeacher
from smartdevdigest_ops.labeling.prompt import TeacherAnswer
from smartdevdigest_ops.settings import OpenAITeacherSettings

KEY = "sk-very-secret-0123456789"
ANSWER = {
    "summary": "Containers share the host kernel.",
    "keywords": ["container"],
    "difficulty_factors": {
        "technical_terms": 2,
        "concept_complexity": 2,
        "background_knowledge": 2,
        "code_complexity": None,
    },
    "prerequisites": [],
    "technical_terms": [{"term": "kernel", "explanation": "The core of an operating system."}],
}
AT_ONCE = {"retry-after-ms": "1"}


def rows(number: int) -> list[dict[str, Any]]:
    return [
        {"title": None, "content": f"Document {number}: a container and the kernel.", "language": "en"}
        for number in range(number)
    ]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEACHER_KEY", KEY)


@pytest.fixture
def make_teacher(teacher_server: Any, tmp_path: Path) -> Any:
    def make(**changes: Any) -> OpenAITeacher:
        settings = OpenAITeacherSettings(
            **{"base_url": teacher_server.base_url, "model": "teacher", "api_key_environment": "TEACHER_KEY"} | changes
        )
        return OpenAITeacher(settings, tmp_path / "cache")

    return make


def test_a_good_answer_is_asked_for_by_schema_and_becomes_a_label(make_teacher: Any, teacher_server: Any) -> None:
    teacher_server.reply(ANSWER)
    answers = make_teacher().answer_all(rows(1))
    assert answers == [TeacherAnswer.model_validate(ANSWER)]
    (request,) = teacher_server.requests
    assert request["path"] == "/v1/chat/completions"
    assert request["key"] == f"Bearer {KEY}"
    assert request["body"]["model"] == "teacher"
    assert request["body"]["temperature"] == 0.0
    assert request["body"]["response_format"]["json_schema"]["strict"] is True


def test_a_second_run_sends_nothing_and_says_so_before(make_teacher: Any, teacher_server: Any) -> None:
    teacher_server.reply(ANSWER)
    first = make_teacher().answer_all(rows(6))
    assert len(teacher_server.requests) == 6
    assert "6 answers are cached, 0 will be sent" in str(make_teacher().bill(rows(6)))
    assert make_teacher().answer_all(rows(6)) == first
    assert len(teacher_server.requests) == 6


@pytest.mark.parametrize("change", [{"model": "other"}, {"temperature": 0.5}, {"max_document_characters": 5}])
def test_another_question_is_asked_again(make_teacher: Any, teacher_server: Any, change: dict[str, Any]) -> None:
    teacher_server.reply(ANSWER)
    make_teacher().answer_all(rows(1))
    make_teacher(**change).answer_all(rows(1))
    assert len(teacher_server.requests) == 2


def test_an_answer_that_is_no_label_is_asked_for_again(make_teacher: Any, teacher_server: Any) -> None:
    teacher_server.reply('{"summary": "cut off in the mid')
    teacher_server.reply(ANSWER | {"difficulty_factors": {"technical_terms": 9}})
    teacher_server.reply(ANSWER)
    assert make_teacher().answer_all(rows(1)) == [TeacherAnswer.model_validate(ANSWER)]
    assert len(teacher_server.requests) == 3


def test_answers_that_never_become_a_label_cost_their_document_alone_and_are_not_cached(
    make_teacher: Any, teacher_server: Any, tmp_path: Path
) -> None:
    teacher_server.reply("I would rather not.")
    assert make_teacher(max_retries=1).answer_all(rows(1)) == [INVALID]
    assert len(teacher_server.requests) == 2
    assert list((tmp_path / "cache").rglob("*.json")) == []


def test_a_busy_endpoint_is_asked_again(make_teacher: Any, teacher_server: Any) -> None:
    teacher_server.reply({"error": {"message": "slow down"}}, status=429, headers=AT_ONCE)
    teacher_server.reply(ANSWER)
    assert make_teacher().answer_all(rows(1)) == [TeacherAnswer.model_validate(ANSWER)]
    assert len(teacher_server.requests) == 2


def test_an_endpoint_that_stays_busy_ends_the_run_with_what_was_bought_kept(
    make_teacher: Any, teacher_server: Any
) -> None:
    teacher_server.reply(ANSWER)
    make_teacher().answer_all(rows(1))
    teacher_server.replies.clear()
    teacher_server.reply({"error": {"message": "slow down"}}, status=429, headers=AT_ONCE)
    with pytest.raises(LabelingError, match=r"RateLimitError: .*slow down.* next run continues"):
        make_teacher(max_retries=1).answer_all(rows(2))
    assert make_teacher().bill(rows(2)).num_cached == 1


def test_a_refused_key_is_a_clear_error_without_the_key(
    make_teacher: Any, teacher_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    teacher_server.reply({"error": {"message": f"Incorrect API key provided: {KEY}"}}, status=401)
    with caplog.at_level(logging.INFO), pytest.raises(LabelingError, match="refused the key in TEACHER_KEY") as caught:
        make_teacher().answer_all(rows(3))
    assert KEY not in str(caught.value)
    assert KEY not in caplog.text


def test_an_error_that_repeats_the_key_is_shown_without_it(make_teacher: Any, teacher_server: Any) -> None:
    teacher_server.reply({"error": {"message": f"unknown model for {KEY}"}}, status=404)
    with pytest.raises(LabelingError, match=r"unknown model for \*\*\*"):
        make_teacher().answer_all(rows(1))


def test_a_missing_key_is_named_before_anything_is_sent(
    make_teacher: Any, teacher_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TEACHER_KEY")
    with pytest.raises(LabelingError, match="environment variable TEACHER_KEY"):
        make_teacher().answer_all(rows(1))
    assert teacher_server.requests == []


def test_documents_beyond_the_budget_wait_and_are_bought_next_time(make_teacher: Any, teacher_server: Any) -> None:
    teacher_server.reply(ANSWER)
    teacher = make_teacher(max_documents=2)
    assert (teacher.bill(rows(5)).num_to_send, teacher.bill(rows(5)).num_over_budget) == (2, 3)
    assert teacher.answer_all(rows(5)).count(NOT_SENT) == 3
    assert teacher.answer_all(rows(5)).count(NOT_SENT) == 1
    assert len(teacher_server.requests) == 4


def test_a_damaged_cache_file_is_bought_again(make_teacher: Any, teacher_server: Any, tmp_path: Path) -> None:
    teacher_server.reply(ANSWER)
    make_teacher().answer_all(rows(1))
    (file,) = (tmp_path / "cache").rglob("*.json")
    file.write_text("{")
    assert make_teacher().answer_all(rows(1)) == [TeacherAnswer.model_validate(ANSWER)]
    assert len(teacher_server.requests) == 2
    assert KEY not in file.read_text()


def test_an_unreachable_endpoint_is_a_clear_error(make_teacher: Any) -> None:
    teacher = make_teacher(base_url="http://127.0.0.1:9/v1", max_retries=0)
    with pytest.raises(LabelingError, match="APIConnectionError"):
        teacher.answer_all(rows(1))
