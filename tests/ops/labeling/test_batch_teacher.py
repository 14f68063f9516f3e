"""The Batch API against a real HTTP server: submitted once, resumed, collected whole, failures retried."""

import json
import random
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
from teacher_server import CALL_FAULTS, TeacherEndpoint, label_of, make_rows, outcomes_of, seeded_faults

from smartdevdigest_ops.labeling.asking import LabelRun
from smartdevdigest_ops.labeling.errors import LabelingError
from smartdevdigest_ops.labeling.inquiry import FAILED
from smartdevdigest_ops.labeling.prompt import TeacherAnswer
from smartdevdigest_ops.labeling.quote import prompt_tokens

RunWith = Callable[..., LabelRun]
BATCH = {"enabled": True}


def labels(number: int) -> list[TeacherAnswer]:
    return [TeacherAnswer.model_validate(label_of(row)) for row in make_rows(number)]


def lines_of(endpoint: TeacherEndpoint, batch: dict[str, Any]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in endpoint.files[batch["input_file_id"]].decode().splitlines()]


def test_a_batch_is_submitted_polled_and_collected_in_the_documents_order(
    run_with: RunWith, endpoint: TeacherEndpoint
) -> None:
    endpoint.polls_until_done = 3
    run = run_with(make_rows(5), batch=BATCH)
    run.ask()
    assert outcomes_of(run) == labels(5)  # the result file had them the other way round
    (batch,) = endpoint.batches
    assert batch["polls"] == 3
    assert endpoint.requests == []
    line = lines_of(endpoint, batch)[0]
    assert (line["method"], line["url"]) == ("POST", "/v1/chat/completions")
    assert line["body"]["response_format"]["type"] == "json_schema"
    assert run.metrics()["teacher_replies"] == 5
    run_with(make_rows(5), batch=BATCH).ask()
    assert len(endpoint.batches) == 1


def test_a_batch_costs_its_share_of_the_price(run_with: RunWith, endpoint: TeacherEndpoint) -> None:
    price = {"input_per_million": 10.0, "output_per_million": 100.0, "batch_share": 0.5}
    direct, batch = (
        run_with(make_rows(3), model=model, price=price, batch={"enabled": enabled})
        for model, enabled in (("direct", False), ("batch", True))
    )
    assert batch.quotes()[0].cost == pytest.approx(direct.quotes()[0].cost / 2)
    direct.ask()
    batch.ask()
    assert batch.metrics()["teacher_cost"] == pytest.approx(direct.metrics()["teacher_cost"] / 2) != 0


def test_what_failed_in_a_batch_goes_into_a_further_one_and_nothing_is_paid_twice(
    run_with: RunWith, endpoint: TeacherEndpoint
) -> None:
    endpoint.fault = seeded_faults(1)
    endpoint.batch_outcomes = ["expired"]
    run = run_with(make_rows(24), batch=BATCH)
    run.ask()
    assert outcomes_of(run) == labels(24)
    assert len(endpoint.batches) > 2
    assert set(endpoint.delivered.values()) == {1}
    assert endpoint.faults_given.total() - endpoint.faults_given["none"] >= 5


@pytest.mark.parametrize("seed", range(3))
def test_no_batch_is_submitted_twice_where_calls_fail_or_their_answers_are_lost(
    run_with: RunWith, endpoint: TeacherEndpoint, seed: int
) -> None:
    drawn = random.Random(seed)
    faults = [drawn.choice(CALL_FAULTS) if drawn.random() < 0.4 else None for _ in range(1000)]
    endpoint.call_fault = lambda number: faults[number]
    endpoint.polls_until_done = 3
    run = run_with(make_rows(9), batch=BATCH | {"max_requests": 3})
    run.ask()
    assert outcomes_of(run) == labels(9)
    assert len(endpoint.batches) == 3
    assert set(endpoint.delivered.values()) == {1}
    assert endpoint.faults_given.total() - endpoint.faults_given["none"] >= 5


def test_a_line_that_fails_in_five_batches_is_given_up_and_asked_once_more_by_the_next_run(
    run_with: RunWith, endpoint: TeacherEndpoint
) -> None:
    unlucky = make_rows(2)[1]["content"]
    endpoint.fault = lambda content, attempt: "500" if content == unlucky else None
    with pytest.raises(LabelingError, match="requests for 1 documents failed"):
        run_with(make_rows(2), batch=BATCH, making="first").ask()
    assert len(endpoint.batches) == 5
    again = run_with(make_rows(2), batch=BATCH, making="second")
    again.ask()
    assert outcomes_of(again)[1] == FAILED


def test_an_endpoint_without_json_schema_is_found_out_in_its_first_batch(
    run_with: RunWith, endpoint: TeacherEndpoint
) -> None:
    endpoint.takes_json_schema = False
    run = run_with(make_rows(3), batch=BATCH)
    run.ask()
    assert outcomes_of(run) == labels(3)
    formats = [lines_of(endpoint, batch)[0]["body"]["response_format"]["type"] for batch in endpoint.batches]
    assert formats == ["json_schema", "json_object"]


def test_batches_hold_no_more_than_they_may_and_wait_until_there_is_room_in_the_queue(
    run_with: RunWith, endpoint: TeacherEndpoint
) -> None:
    each = prompt_tokens(next(iter(run_with(make_rows(1)).first.values())))
    open_at_once: list[int] = []
    endpoint.after_batch_is_created = lambda: open_at_once.append(
        sum(batch["status"] == "validating" for batch in endpoint.batches)
    )
    run = run_with(make_rows(7), batch=BATCH | {"max_requests": 2, "max_enqueued_tokens": int(each * 4.5)})
    run.ask()
    assert outcomes_of(run) == labels(7)
    assert [len(lines_of(endpoint, batch)) for batch in endpoint.batches] == [2, 2, 2, 1]
    assert max(open_at_once) == 2


def test_a_batch_of_a_size_that_the_endpoint_does_not_take_is_made_of_fewer_requests(
    run_with: RunWith, endpoint: TeacherEndpoint
) -> None:
    run = run_with(make_rows(3), batch=BATCH | {"max_mebibytes": 0.02})
    run.ask()
    assert outcomes_of(run) == labels(3)
    assert [len(lines_of(endpoint, batch)) for batch in endpoint.batches] == [2, 1]


def test_a_full_queue_is_waited_for_with_smaller_batches(run_with: RunWith, endpoint: TeacherEndpoint) -> None:
    endpoint.batch_outcomes = ["queue_is_full"]
    run = run_with(make_rows(4), batch=BATCH)
    run.ask()
    assert outcomes_of(run) == labels(4)
    assert [len(lines_of(endpoint, batch)) for batch in endpoint.batches] == [4, 2, 2]


@pytest.mark.parametrize(
    ("limit", "num_full", "sizes"), [(None, 2, [14, 7, 3, 7, 4]), (4.5, 1, [4, 2, 4, 4, 4])], ids=["none", "limit"]
)
def test_a_queue_that_was_full_gets_as_much_as_before_once_batches_end_well_again(
    run_with: RunWith, endpoint: TeacherEndpoint, limit: float | None, num_full: int, sizes: list[int]
) -> None:
    rows = [row | {"content": f"{number:02d} {row['content'][-40:]}"} for number, row in enumerate(make_rows(14))]
    each = prompt_tokens(next(iter(run_with(rows).first.values())))
    endpoint.batch_outcomes = ["queue_is_full"] * num_full
    run_with(rows, batch=BATCH | {"max_enqueued_tokens": limit and int(each * limit)}).ask()
    assert [len(lines_of(endpoint, batch)) for batch in endpoint.batches] == sizes


def test_only_refusals_in_a_row_end_the_run_of_a_full_queue(
    run_with: RunWith, endpoint: TeacherEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smartdevdigest_ops.labeling.batch._MAX_FULL_QUEUES", 1)
    endpoint.batch_outcomes = ["queue_is_full", "completed"] * 2
    run = run_with(make_rows(5), batch=BATCH)
    run.ask()
    assert outcomes_of(run) == labels(5)
    endpoint.batch_outcomes = ["queue_is_full"] * 2
    with pytest.raises(LabelingError, match="token_limit_exceeded"):
        run_with(make_rows(5), model="other", batch=BATCH).ask()


def test_a_batch_that_is_refused_as_a_whole_ends_the_run_with_the_reason_and_is_asked_anew_next_time(
    run_with: RunWith, endpoint: TeacherEndpoint
) -> None:
    endpoint.batch_outcomes = ["failed"]
    with pytest.raises(LabelingError, match=r"refused the batch batch_0 as a whole \(invalid_file"):
        run_with(make_rows(2), batch=BATCH).ask()
    again = run_with(make_rows(2), batch=BATCH)
    again.ask()
    assert outcomes_of(again) == labels(2)


def test_a_batch_that_was_deleted_at_the_endpoint_is_submitted_again(
    run_with: RunWith, endpoint: TeacherEndpoint
) -> None:
    endpoint.after_batch_is_created = lambda: endpoint.batches.clear() if endpoint.files.keys() == {"file-0"} else None
    run = run_with(make_rows(2), batch=BATCH)
    run.ask()
    assert outcomes_of(run) == labels(2)


@pytest.mark.parametrize(
    "moment", ["before the endpoint had it", "after the endpoint had it", "while it was under way"]
)
def test_a_run_that_is_cut_off_resumes_its_batch_and_never_submits_it_twice(
    run_with: RunWith, endpoint: TeacherEndpoint, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """Ends the run where it stands, as a kill does: nothing after it is executed."""

    from smartdevdigest_ops.labeling.batch import BatchBuyer

    def die(*_: Any) -> Any:
        raise Killed

    async def die_later(*_: Any) -> Any:
        raise Killed

    set_state = BatchBuyer._set_state
    with monkeypatch.context() as patched:
        if moment == "before the endpoint had it":
            patched.setattr(BatchBuyer, "_submit", die_later)
        elif moment == "after the endpoint had it":
            patched.setattr(BatchBuyer, "_set_state", die)
        else:
            patched.setattr(BatchBuyer, "_look_at", die_later)
        with pytest.raises(Killed):
            run_with(make_rows(4), batch=BATCH).ask()
    assert BatchBuyer._set_state is set_state
    assert len(endpoint.batches) == (moment != "before the endpoint had it")
    again = run_with(make_rows(4), batch=BATCH)
    again.ask()
    assert outcomes_of(again) == labels(4)
    assert len(endpoint.batches) == 1


def test_a_batch_that_is_under_way_is_collected_even_where_none_is_wanted_any_more(
    run_with: RunWith, endpoint: TeacherEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    from smartdevdigest_ops.labeling.batch import BatchBuyer

    class Killed(BaseException):
        pass

    async def die(*_: Any) -> Any:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(BatchBuyer, "_look_at", die)
        with pytest.raises(Killed):
            run_with(make_rows(4), batch=BATCH).ask()
    run = run_with([row for row in make_rows(6) if row["document_id"] != "0001"])  # one document left the corpus
    run.ask()
    assert len(outcomes_of(run)) == 5
    assert len(endpoint.batches) == 1
    assert len(endpoint.requests) == 2
    # The answer about the document that had left was kept as well.
    back = run_with(make_rows(6))
    assert back.quotes()[0].num_to_send == 0


def test_a_process_killed_while_its_batch_is_being_created_finds_it_and_does_not_create_another(
    tmp_path: Any, run_with: RunWith, endpoint: TeacherEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    import subprocess
    import sys

    from smartdevdigest_ops.settings import PROJECT_DIR

    created, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        created.set()
        go_on.wait(30)

    endpoint.after_batch_is_created = hold
    run = run_with(make_rows(4), batch=BATCH)
    settings = run._settings.model_dump_json()
    code = f"""
import json, sys
from pathlib import Path
sys.path.insert(0, {str(PROJECT_DIR / "tests/ops")!r})
from teacher_server import make_rows
from smartdevdigest_ops.labeling.asking import LabelRun
from smartdevdigest_ops.labeling.cache import AnswerCache
from smartdevdigest_ops.settings import LabelingSettings
cache = AnswerCache(Path({str(tmp_path / "cache")!r}), "making")
LabelRun(LabelingSettings.model_validate_json({settings!r}), None, cache, unlabeled=make_rows(4), labeled=[]).ask()
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT_DIR)
    assert created.wait(60)
    process.send_signal(signal.SIGKILL)
    process.wait()
    go_on.set()
    endpoint.after_batch_is_created = lambda: None
    again = run_with(make_rows(4), batch=BATCH)
    again.ask()
    assert outcomes_of(again) == labels(4)
    assert len(endpoint.batches) == 1
