"""Documents whose requests fail to the end, told from an endpoint that fails for everybody."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from teacher_server import TeacherEndpoint, make_rows, outcomes_of

from smartdevdigest_ops.labeling.asking import LabelRun
from smartdevdigest_ops.labeling.errors import LabelingError
from smartdevdigest_ops.labeling.inquiry import FAILED
from smartdevdigest_ops.labeling.prompt import TeacherAnswer

RunWith = Callable[..., LabelRun]


def ask(run: LabelRun) -> list[Any]:
    run.ask()
    return outcomes_of(run)


def test_a_document_whose_requests_alone_fail_is_asked_again_by_the_next_run_and_then_left_out(
    run_with: RunWith, endpoint: TeacherEndpoint
) -> None:
    unlucky = make_rows(3)[1]["content"]
    others_got_through = threading.Event()
    endpoint.on_delivery = lambda number: others_got_through.set()

    def fault(content: str, attempt: int) -> str | None:
        if content != unlucky:
            return None
        others_got_through.wait(10)
        return "500"

    endpoint.fault = fault
    limits = {"max_in_flight": 2, "max_retries": 2}
    with pytest.raises(LabelingError, match="requests for 1 documents failed to the end"):
        ask(run_with(make_rows(3), requests=limits))
    others_got_through.clear()
    again = run_with(make_rows(4), requests=limits)
    again.ask()
    assert [isinstance(answer, TeacherAnswer) for answer in outcomes_of(again)] == [True, False, True, True]
    assert outcomes_of(again)[1] == FAILED
    assert all(number == 1 for number in endpoint.delivered.values())


def failing(unlucky: str, fault: str) -> Callable[[str, int], str | None]:
    return lambda content, attempt: fault if content == unlucky else None


def test_a_document_that_breaks_the_server_is_left_out_though_no_other_is_left_to_get_through(
    run_with: RunWith, endpoint: TeacherEndpoint
) -> None:
    endpoint.fault = failing(make_rows(3)[2]["content"], "500")
    limits = {"max_in_flight": 1, "max_retries": 1}
    # Asked last, nobody gets through after its first try; in the second run it is the only one.
    with pytest.raises(LabelingError, match=r"InternalServerError.*left out if that run fails on it too"):
        ask(run_with(make_rows(3), requests=limits))
    answers = ask(run_with(make_rows(3), requests=limits))
    assert [isinstance(answer, TeacherAnswer) for answer in answers] == [True, True, False]
    assert answers[2] == FAILED
    ask(run_with(make_rows(3), requests=limits))
    assert len(endpoint.requests) == 2 + 2 + 2


def test_a_document_that_breaks_the_server_does_not_keep_those_behind_it_from_being_asked(
    run_with: RunWith, endpoint: TeacherEndpoint
) -> None:
    endpoint.fault = failing(make_rows(3)[0]["content"], "500")
    limits = {"max_in_flight": 1, "max_retries": 1}
    with pytest.raises(LabelingError, match="InternalServerError"):
        ask(run_with(make_rows(3), requests=limits))
    answers = ask(run_with(make_rows(3), requests=limits))
    assert answers[0] == FAILED
    assert all(isinstance(answer, TeacherAnswer) for answer in answers[1:])


@pytest.mark.parametrize("fault", ["503_without_body", "no_answer", "429"])
def test_an_outage_never_counts_against_a_document(run_with: RunWith, endpoint: TeacherEndpoint, fault: str) -> None:
    limits = {"max_in_flight": 1, "max_retries": 1}
    endpoint.fault = lambda content, attempt: fault if attempt % 2 else "500"
    for _ in range(3):
        endpoint.attempts.clear()
        with pytest.raises(LabelingError):
            ask(run_with(make_rows(2), requests=limits))
    endpoint.fault = lambda content, attempt: None
    assert all(isinstance(answer, TeacherAnswer) for answer in ask(run_with(make_rows(2), requests=limits)))


def test_a_server_that_answers_everything_with_500_ends_the_run_at_the_first_question_that_had_not_failed(
    run_with: RunWith, endpoint: TeacherEndpoint
) -> None:
    endpoint.fault = lambda content, attempt: "500"
    limits = {"max_in_flight": 1, "max_retries": 0}
    for num_requests in (1, 3):
        with pytest.raises(LabelingError, match="InternalServerError"):
            ask(run_with(make_rows(5), requests=limits))
        assert len(endpoint.requests) == num_requests
