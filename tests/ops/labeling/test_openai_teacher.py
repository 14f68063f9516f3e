"""The openai teacher against a real HTTP server on the loopback interface."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from teacher_server import TeacherEndpoint, label_of, make_rows, outcomes_of

from smartdevdigest_ops.labeling.asking import LabelRun
from smartdevdigest_ops.labeling.errors import LabelingError
from smartdevdigest_ops.labeling.inquiry import DECLINED, INVALID
from smartdevdigest_ops.labeling.prompt import TeacherAnswer, instruction

KEY = "sk-very-secret-0123456789"
GOOD = label_of(make_rows(1)[0])
ANSWER = TeacherAnswer.model_validate(GOOD)

RunWith = Callable[..., LabelRun]


def ask(run: LabelRun) -> list[Any]:
    run.ask()
    return outcomes_of(run)


def test_a_good_answer_is_asked_for_by_schema_and_becomes_a_label(run_with: RunWith, endpoint: TeacherEndpoint) -> None:
    assert ask(run_with(make_rows(1))) == [ANSWER]
    (request,) = endpoint.requests
    body = request["body"]
    assert request["key"] == f"Bearer {KEY}"
    assert (body["model"], body["temperature"], body["max_completion_tokens"]) == ("teacher", 0.0, 1500)
    assert body["response_format"]["json_schema"]["strict"] is True
    assert "seed" not in body


def test_models_that_take_no_temperature_and_servers_that_know_max_tokens_alone_are_asked_their_way(
    run_with: RunWith, endpoint: TeacherEndpoint
) -> None:
    ask(run_with(make_rows(1), temperature=None, seed=3, requests={"answer_tokens_parameter": "max_tokens"}))
    (body,) = endpoint.bodies
    assert "temperature" not in body
    assert (body["seed"], body["max_tokens"]) == (3, 1500)


def test_a_second_run_sends_nothing_and_says_so_before(run_with: RunWith, endpoint: TeacherEndpoint) -> None:
    first = ask(run_with(make_rows(6)))
    assert len(endpoint.requests) == 6
    again = run_with(make_rows(6), making="another")
    (quote,) = again.quotes()
    assert "6 answers are cached, 0 will be sent" in str(quote)
    assert ask(again) == first
    assert len(endpoint.requests) == 6


def test_documents_come_to_the_same_answers_whatever_is_under_way(run_with: RunWith, endpoint: TeacherEndpoint) -> None:
    answers = ask(run_with(make_rows(9), requests={"max_in_flight": 3}))
    assert answers == [TeacherAnswer.model_validate(label_of(row)) for row in make_rows(9)]


@pytest.mark.parametrize(
    "change", [{"model": "other"}, {"temperature": 0.5}, {"max_document_characters": 5}, {"seed": 1}]
)
def test_another_question_is_asked_again(run_with: RunWith, endpoint: TeacherEndpoint, change: dict[str, Any]) -> None:
    ask(run_with(make_rows(1)))
    ask(run_with(make_rows(1), **change))
    assert len(endpoint.requests) == 2


@pytest.mark.parametrize("change", [{"requests": {"timeout_seconds": 9}}, {"max_document_characters": 99}])
def test_what_changes_no_answer_buys_none(run_with: RunWith, endpoint: TeacherEndpoint, change: dict[str, Any]) -> None:
    ask(run_with(make_rows(1)))
    ask(run_with(make_rows(1), **change))
    assert len(endpoint.requests) == 1


def test_an_answer_that_is_no_label_is_held_up_once_and_then_asked_for_anew(
    run_with: RunWith, endpoint: TeacherEndpoint
) -> None:
    endpoint.reply('{"summary": "cut off in the mid')
    endpoint.reply(GOOD | {"difficulty_factors": {"technical_terms": 9}})
    endpoint.reply(GOOD)
    assert ask(run_with(make_rows(1))) == [ANSWER]
    first, repair, anew = (body["messages"] for body in endpoint.bodies)
    assert [message["role"] for message in repair] == ["system", "user", "assistant", "user"]
    assert repair[:2] == first == anew
    assert repair[2]["content"] == '{"summary": "cut off in the mid'
    assert "not the label's JSON object" in repair[3]["content"]


def test_an_answer_that_ended_at_the_token_limit_is_not_used(run_with: RunWith, endpoint: TeacherEndpoint) -> None:
    endpoint.reply(GOOD, finish_reason="length")
    endpoint.reply(GOOD)
    assert ask(run_with(make_rows(1))) == [ANSWER]
    assert len(endpoint.requests) == 2


def test_answers_that_never_become_a_label_cost_their_document_alone_and_are_not_asked_for_again(
    run_with: RunWith, endpoint: TeacherEndpoint
) -> None:
    ask(run_with(make_rows(1)))
    endpoint.reply("I would rather not.")
    assert ask(run_with(make_rows(2), max_answers=2)) == [ANSWER, INVALID]
    assert len(endpoint.requests) == 3
    assert ask(run_with(make_rows(2), max_answers=2)) == [ANSWER, INVALID]
    assert len(endpoint.requests) == 3
    endpoint.replies.clear()
    answers = ask(run_with(make_rows(2), max_answers=2, refusal_round=1))
    assert answers[0] == ANSWER
    assert isinstance(answers[1], TeacherAnswer)
    assert len(endpoint.requests) == 4


def test_a_model_that_labels_nothing_is_found_out_before_it_is_paid_for_every_document(
    run_with: RunWith, endpoint: TeacherEndpoint
) -> None:
    endpoint.reply("I would rather not.")
    with pytest.raises(LabelingError, match="gave 20 questions no answer that can be read"):
        ask(run_with(make_rows(60), max_answers=1, requests={"max_in_flight": 4}))
    assert len(endpoint.requests) <= 20 + 3


@pytest.mark.parametrize(
    ("bad", "reason", "said"),
    [
        ({"summary": "이것은 한국어 요약이다."}, "summary_language", "must be in English"),
        ({"summary": make_rows(1)[0]["content"]}, "summary_copied", "in your own words"),
    ],
)
def test_a_summary_in_the_wrong_language_or_copied_whole_is_asked_for_again_once_and_then_counted(
    run_with: RunWith, endpoint: TeacherEndpoint, bad: dict[str, Any], reason: str, said: str
) -> None:
    endpoint.reply(GOOD | bad)
    endpoint.reply(GOOD)
    assert ask(run_with(make_rows(1))) == [ANSWER]
    assert said in endpoint.bodies[1]["messages"][3]["content"]
    endpoint.reply(GOOD | bad)
    endpoint.replies.pop(0)
    assert ask(run_with(make_rows(1), model="stubborn")) == [reason]
    assert len(endpoint.requests) == 4


def test_an_endpoint_without_json_schema_is_found_out_once_and_asked_in_json_mode_with_the_schema_in_words(
    run_with: RunWith, endpoint: TeacherEndpoint
) -> None:
    endpoint.takes_json_schema = False
    ask(run_with(make_rows(2), requests={"max_in_flight": 1}))
    formats = [body["response_format"]["type"] for body in endpoint.bodies]
    assert formats == ["json_schema", "json_object", "json_object"]
    system = endpoint.bodies[1]["messages"][0]["content"]
    assert system.startswith(instruction())
    assert "JSON Schema of the answer: {" in system
    ask(run_with(make_rows(3)))  # another run, the same endpoint
    assert [body["response_format"]["type"] for body in endpoint.bodies[3:]] == ["json_object"]


def test_an_endpoint_without_json_mode_is_asked_in_words_alone(run_with: RunWith, endpoint: TeacherEndpoint) -> None:
    refused = {"error": {"message": "Unsupported parameter", "param": "response_format"}}
    endpoint.reply(refused, status=400)
    endpoint.reply(refused, status=422)
    endpoint.reply(GOOD)
    assert ask(run_with(make_rows(1))) == [ANSWER]
    assert "response_format" not in endpoint.bodies[2]
    assert "JSON Schema of the answer" in endpoint.bodies[2]["messages"][0]["content"]


def test_a_document_that_the_endpoint_will_not_take_is_left_out_alone(
    run_with: RunWith, endpoint: TeacherEndpoint
) -> None:
    endpoint.reply({"error": {"message": "too long", "code": "context_length_exceeded"}}, status=400)
    endpoint.reply(label_of(make_rows(2)[1]))
    answers = ask(run_with(make_rows(2), requests={"max_in_flight": 1}))
    assert answers[0] == DECLINED
    assert isinstance(answers[1], TeacherAnswer)
    ask(run_with(make_rows(2)))
    assert len(endpoint.requests) == 2


def test_a_teacher_that_declines_twice_is_not_asked_a_third_time(run_with: RunWith, endpoint: TeacherEndpoint) -> None:
    endpoint.reply("", message={"role": "assistant", "content": None, "refusal": "I cannot help with that."})
    assert ask(run_with(make_rows(1))) == [DECLINED]
    assert len(endpoint.requests) == 2


def test_a_busy_endpoint_is_asked_again(run_with: RunWith, endpoint: TeacherEndpoint) -> None:
    endpoint.reply({"error": {"message": "slow down"}}, status=429, headers={"retry-after-ms": "1"})
    endpoint.reply(GOOD)
    assert ask(run_with(make_rows(1))) == [ANSWER]
    assert len(endpoint.requests) == 2


def test_a_pause_longer_than_anybody_waits_for_ends_the_run(run_with: RunWith, endpoint: TeacherEndpoint) -> None:
    endpoint.reply({"error": {"message": "slow down"}}, status=429, headers={"Retry-After": "3600"})
    with pytest.raises(LabelingError, match="asks for a pause of 3600 s"):
        ask(run_with(make_rows(4), requests={"max_in_flight": 1}))
    assert len(endpoint.requests) == 1


def test_an_endpoint_that_stays_busy_ends_the_run_with_what_was_bought_kept(
    run_with: RunWith, endpoint: TeacherEndpoint
) -> None:
    ask(run_with(make_rows(1)))
    endpoint.reply({"error": {"message": "slow down"}}, status=429, headers={"Retry-After": "0"})
    with pytest.raises(LabelingError, match=r"RateLimitError: .*slow down.* next run continues"):
        ask(run_with(make_rows(2), requests={"max_retries": 1}))
    assert run_with(make_rows(2)).quotes()[0].num_cached == 1


def test_an_account_without_money_is_not_waited_for(run_with: RunWith, endpoint: TeacherEndpoint) -> None:
    endpoint.reply({"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}, status=429)
    with pytest.raises(LabelingError, match="exceeded your quota"):
        ask(run_with(make_rows(1)))
    assert len(endpoint.requests) == 1


def test_a_refused_key_is_a_clear_error_without_the_key(
    run_with: RunWith, endpoint: TeacherEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint.reply({"error": {"message": f"Incorrect API key provided: {KEY}"}}, status=401)
    with caplog.at_level(logging.DEBUG), pytest.raises(LabelingError, match="refused the key in TEACHER_KEY") as caught:
        ask(run_with(make_rows(3)))
    assert KEY not in str(caught.value)
    assert KEY not in caplog.text


def test_an_error_that_repeats_the_key_is_shown_without_it(run_with: RunWith, endpoint: TeacherEndpoint) -> None:
    endpoint.reply({"error": {"message": f"unknown model for {KEY}"}}, status=404)
    with pytest.raises(LabelingError, match=r"unknown model for \*\*\*"):
        ask(run_with(make_rows(1)))


def test_an_answer_that_repeats_the_key_is_kept_without_it(
    run_with: RunWith, endpoint: TeacherEndpoint, tmp_path: Path
) -> None:
    endpoint.reply(GOOD | {"prerequisites": [KEY]})
    (answer,) = ask(run_with(make_rows(1)))
    assert answer.prerequisites == ["***"]
    endpoint.replies.clear()
    endpoint.reply(f"Your key is {KEY}")
    assert ask(run_with(make_rows(1), model="other", max_answers=1)) == [INVALID]
    assert all(KEY.encode() not in file.read_bytes() for file in (tmp_path / "cache").iterdir())


def test_a_missing_key_is_named_before_anything_is_sent(
    run_with: RunWith, endpoint: TeacherEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TEACHER_KEY")
    with pytest.raises(LabelingError, match="environment variable TEACHER_KEY"):
        ask(run_with(make_rows(1)))
    assert endpoint.requests == []


def test_documents_beyond_the_budget_wait_and_are_bought_next_time(
    run_with: RunWith, endpoint: TeacherEndpoint
) -> None:
    (quote,) = run_with(make_rows(5), max_documents=2).quotes()
    assert (quote.num_to_send, quote.num_over_budget) == (2, 3)
    assert len(ask(run_with(make_rows(5), max_documents=2))) == 2
    assert len(ask(run_with(make_rows(5), max_documents=2))) == 4
    assert len(endpoint.requests) == 4


def test_a_making_that_was_killed_sends_what_it_had_planned_and_not_as_many_again(
    run_with: RunWith, endpoint: TeacherEndpoint, tmp_path: Path
) -> None:
    run_with(make_rows(5), max_documents=2, scratch=tmp_path)  # planned, and killed before it asked
    ask(run_with(make_rows(1)))  # one of them was bought meanwhile
    assert len(ask(run_with(make_rows(5), max_documents=2, scratch=tmp_path))) == 2
    assert len(endpoint.requests) == 2


def test_an_unreachable_endpoint_is_a_clear_error(run_with: RunWith) -> None:
    with pytest.raises(LabelingError, match="APIConnectionError"):
        ask(run_with(make_rows(1), base_url="http://127.0.0.1:9/v1", requests={"max_retries": 0}))


def test_what_was_used_and_what_it_cost_is_what_the_endpoint_said(run_with: RunWith, endpoint: TeacherEndpoint) -> None:
    endpoint.fault = lambda content, attempt: "no_label" if attempt == 1 else None
    price = {"input_per_million": 10.0, "output_per_million": 100.0, "cached_input_share": 0.5}
    run = run_with(make_rows(2), price=price)
    run.ask()
    metrics = run.metrics()
    assert metrics["teacher_replies"] == 4  # refused ones are paid for too
    assert metrics["teacher_replies_refused"] == 2
    assert metrics["teacher_prompt_tokens"] == 400
    assert metrics["teacher_answer_tokens"] == 160
    # 40 of 100 prompt tokens at 10, 60 at half of it, 40 answer tokens at 100, per million; four times.
    assert metrics["teacher_cost"] == pytest.approx(4 * (40 * 10 + 60 * 5 + 40 * 100) / 1e6)
    assert run_with(make_rows(2), making="next", price=price).metrics()["teacher_cost"] == 0


def test_a_run_that_comes_to_cost_more_than_the_budget_is_stopped_with_what_was_bought_kept(
    run_with: RunWith, endpoint: TeacherEndpoint
) -> None:
    # The quote holds; the answers turn out to cost a hundred times as much.
    endpoint.reply(GOOD, usage={"prompt_tokens": 100, "completion_tokens": 50_000})
    price = {"input_per_million": 0.0, "output_per_million": 100.0, "max_cost": 6.0}
    rows = [row | {"content": f"{row['document_id']} {make_rows(1)[0]['content']}"} for row in make_rows(40)]
    with pytest.raises(LabelingError, match="max_cost=6 does not hold it"):
        ask(run_with(rows, price=price, requests={"max_in_flight": 1}))
    assert len(endpoint.requests) == 2


def test_where_nothing_is_left_to_send_a_budget_that_is_used_up_refuses_nothing(
    run_with: RunWith, endpoint: TeacherEndpoint
) -> None:
    price = {"input_per_million": 0.0, "output_per_million": 100.0}
    bought = ask(run_with(make_rows(2), price=price))
    assert ask(run_with(make_rows(2), price=price | {"max_cost": 0.001})) == bought
    with pytest.raises(LabelingError, match=r"max_cost is 0\.00: nothing was sent"):
        ask(run_with(make_rows(3), price=price | {"max_cost": 0.001}))
    assert len(endpoint.requests) == 2


def test_a_budget_that_holds_all_answers_but_not_the_longest_possible_ones_at_once_is_enough(
    run_with: RunWith, endpoint: TeacherEndpoint
) -> None:
    # An answer of 40 tokens costs 0.004; what is set aside for one, 0.15. All eight at once would be 1.2.
    price = {"input_per_million": 0.0, "output_per_million": 100.0, "max_cost": 0.5}
    run = run_with(make_rows(8), price=price, requests={"max_in_flight": 8})
    assert all(isinstance(answer, TeacherAnswer) for answer in ask(run))
