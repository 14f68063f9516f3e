from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from running_server import LeavingClient

from smartdevdigest_ops.contracts import Digest
from smartdevdigest_ops.digesting.errors import GenerationError
from smartdevdigest_ops.digesting.model import failed_outcome
from smartdevdigest_ops.digesting.prompt import PromptError
from smartdevdigest_ops.serving.metrics import OUTCOMES


@pytest.fixture
def clients():
    with ThreadPoolExecutor(32) as pool:
        yield pool


def error_code(response: httpx.Response) -> str:
    return response.json()["error"]["code"]


def test_clients_that_come_while_a_batch_is_digested_share_the_next_one(start, gated, clients, documents):
    server = start(gated)
    first = clients.submit(server.digest, documents[0])
    gated.await_batch()
    others = [clients.submit(server.digest, document) for document in documents[1:13]]
    server.await_metric("queued_documents", 12)
    gated.let_pass(2)
    for response in [first, *others]:
        Digest.model_validate_json(response.result().raise_for_status().content)
    assert server.metric("batch_documents_count") == 2
    assert server.metric("batch_documents_sum") == 13
    assert server.metric("batch_documents_bucket", le="1.0") == 1
    assert server.metric("answers_total", status="200") == 13
    assert server.metric("documents_total", outcome="digested") == 13
    assert server.metric("new_tokens_total") > 13


def test_batches_are_no_larger_than_the_setting(start, documents):
    server = start(batch_size=2)
    results = server.digest(documents[:3]).raise_for_status().json()["results"]
    assert all(result["digest"] for result in results)
    assert server.metric("batch_documents_count") == 2


def test_a_full_queue_is_answered_with_when_to_come_again_and_takes_nothing(start, gated, clients, documents):
    server = start(gated, max_queued_documents=3, max_documents=3)
    running = clients.submit(server.digest, documents[0])
    gated.await_batch()
    waiting = clients.submit(server.digest, documents[1:3])
    server.await_metric("queued_documents", 2)
    too_many = server.digest(documents[3:5])
    assert (too_many.status_code, error_code(too_many)) == (429, "queue_full")
    assert int(too_many.headers["Retry-After"]) >= 1
    filling = clients.submit(server.digest, documents[5])
    server.await_metric("queued_documents", 3)
    assert server.digest({"no": "document"}).status_code == 429  # before the body is read
    gated.let_pass(3)
    assert [response.result().status_code for response in (running, waiting, filling)] == [200] * 3
    assert server.metric("documents_total", outcome="turned_away") == 2
    assert server.metric("queued_documents") == 0


def test_a_document_that_takes_too_long_is_answered_with_504_and_leaves_the_queue(start, gated, clients, documents):
    server = start(gated, time_limit_seconds=0.2)
    running = clients.submit(server.digest, documents[0])
    gated.await_batch()
    late = server.digest(documents[1:3])
    assert (late.status_code, error_code(late)) == (504, "time_limit")
    assert running.result().status_code == 504
    server.await_metric("queued_documents", 0)
    assert server.metric("documents_total", outcome="time_limit") == 3
    gated.let_pass()
    server.await_metric("batch_documents_count", 1)
    assert server.metric("batch_documents_sum") == 1  # the two that waited never made a batch


def test_of_an_array_what_was_digested_in_time_is_answered(start, gated, clients, documents):
    server = start(gated, batch_size=1, time_limit_seconds=4)
    response = clients.submit(server.digest, documents[:2])
    gated.let_pass()
    results = response.result().raise_for_status().json()["results"]
    assert results[0]["error"] is None
    assert results[1]["error"]["code"] == "time_limit"


def test_a_client_that_leaves_does_not_stop_the_others_of_its_batch(start, gated, clients, documents):
    server = start(gated)
    first = clients.submit(server.digest, documents[0])
    gated.await_batch()
    leaving = LeavingClient(server, documents[1])
    staying = clients.submit(server.digest, documents[2])
    server.await_metric("queued_documents", 2)
    gated.let_pass()
    gated.await_batch()
    leaving.leave()
    server.await_metric("documents_total", 1, outcome="abandoned")
    gated.let_pass()
    assert [response.result().status_code for response in (first, staying)] == [200, 200]
    assert server.metric("batch_documents_sum") == 3
    assert server.metric("answers_total", status="499") == 1


def test_a_batch_that_nobody_waits_for_is_given_up(start, gated, documents):
    server = start(gated)
    leaving = LeavingClient(server, documents[0])
    gated.await_batch()
    leaving.leave()
    server.await_metric("documents_total", 1, outcome="abandoned")
    gated.let_pass()
    server.await_metric("batch_documents_count", 1)
    assert server.metric("new_tokens_total") == 0
    gated.let_pass()
    assert server.digest(documents[1]).status_code == 200


class FailingEngine:
    """The real digester, which runs out of memory on a batch that holds a certain document."""

    def __init__(self, digester, culprit: str) -> None:
        self.settings = digester.settings
        self._digester = digester
        self._culprit = culprit

    def digest(self, documents, *, on_step=None):
        if any(document.content == self._culprit for document in documents):
            raise MemoryError("out of memory")
        return self._digester.digest(documents, on_step=on_step)


def test_a_document_that_breaks_its_batch_gets_the_error_alone(start, digester, documents, caplog):
    server = start(FailingEngine(digester, documents[1]["content"]))
    results = server.digest(documents[:3]).raise_for_status().json()["results"]
    assert [result["digest"] is not None for result in results] == [True, False, True]
    assert results[1]["error"]["code"] == "internal"
    assert "out of memory" not in results[1]["error"]["message"]
    assert "out of memory" in caplog.text
    assert server.digest(documents[1]).status_code == 500
    assert server.digest(documents[0]).status_code == 200


class FaultyEngine:
    """Digests nothing: every outcome is the error that it was made with."""

    def __init__(self, digester, error) -> None:
        self.settings = digester.settings
        self._error = error

    def digest(self, documents, *, on_step=None):
        return (failed_outcome(index, self._error, 0.1) for index in range(len(documents)))


def test_a_model_that_fails_is_not_answered_as_the_clients_fault(start, digester, documents, caplog):
    server = start(FaultyEngine(digester, GenerationError("logits are not finite numbers")))
    failed = server.digest(documents[0])
    assert (failed.status_code, error_code(failed)) == (500, "internal")
    assert "logits" not in failed.text
    assert "logits are not finite numbers" in caplog.text
    assert server.metric("documents_total", outcome="failed") == 1


def test_a_document_that_no_prompt_can_be_made_of_is_answered_with_why(start, digester, documents):
    refused = start(FaultyEngine(digester, PromptError("the title is too long"))).digest(documents[0])
    assert (refused.status_code, error_code(refused)) == (422, "invalid_document")
    assert "the title is too long" in refused.text


def test_documents_are_counted_once_each_by_what_became_of_them(start, digester, documents):
    server = start(FailingEngine(digester, documents[1]["content"]), max_queued_documents=5, max_documents=5)
    server.digest([*documents[:2], {}])
    server.digest({})
    server.digest(documents[:6])  # too many: never at the queue's door
    counts = {outcome: server.metric("documents_total", outcome=outcome) for outcome in OUTCOMES}
    assert counts == {
        "digested": 1, "refused": 2, "failed": 1, "turned_away": 0, "time_limit": 0, "abandoned": 0
    }  # fmt: skip
