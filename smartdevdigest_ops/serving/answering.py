"""One request to `/v1/digest`: from its body to its answer, with every document counted by what became of it."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from smartdevdigest_ops.contracts import CrawlRecord, Digest
from smartdevdigest_ops.drops.records import Reject
from smartdevdigest_ops.serving.batching import Served
from smartdevdigest_ops.serving.body import discard_body, parse_documents, read_body
from smartdevdigest_ops.serving.errors import RequestError
from smartdevdigest_ops.serving.messages import BatchAnswer, DocumentResult, ErrorCode, Problem
from smartdevdigest_ops.serving.metrics import Outcome
from smartdevdigest_ops.serving.openapi import COVERED_HEADER, MODEL_HEADER
from smartdevdigest_ops.serving.service import DigestService

if TYPE_CHECKING:
    from starlette.requests import Request

_STATUS_OF: dict[ErrorCode, int] = {"invalid_document": 422, "internal": 500, "time_limit": 504}
_OUTCOME_OF: dict[ErrorCode, Outcome] = {
    "invalid_document": "refused",
    "internal": "failed",
    "time_limit": "time_limit",
}
_RETRY_SECONDS = "5"


class ClientLeftError(Exception):
    """Nobody reads the answer."""


async def answer(request: "Request", service: DigestService) -> tuple[Digest | BatchAnswer, dict[str, str]]:
    """The answer's body and headers.

    Raises:
        RequestError: the answer is an error.
        ClientLeftError, ClientDisconnect: there is nobody to answer.
    """
    try:
        refuse_unless_accepting(service)
        service.batcher.refuse_if_full(1)  # before a body is held for nothing
    except RequestError:
        await discard_body(request, service.settings)
        raise
    data = await read_body(request, service.settings)
    documents, is_array = parse_documents(data, service.settings.max_documents)
    del data  # megabytes, for as long as the documents wait
    counts = service.metrics.documents
    try:
        results = await _results(request, service, documents)
    except RequestError:
        counts.labels("turned_away").inc(len(documents))
        raise
    except ClientLeftError:
        counts.labels("abandoned").inc(len(documents))
        raise
    except asyncio.CancelledError:  # a stop cuts this request off; its task ends with this answer
        counts.labels("abandoned").inc(len(documents))
        raise _stopping() from None
    problems = [result.problem for result in results]
    for problem in problems:
        counts.labels(_OUTCOME_OF[problem.code] if problem else "digested").inc()
    first = problems[0]
    if first is not None and (not is_array or all(problem and problem.code == "time_limit" for problem in problems)):
        raise RequestError(_STATUS_OF[first.code], first.code, first.message)
    models = ", ".join(dict.fromkeys(result.model for result in results if result.model))
    headers = {MODEL_HEADER: models} if models else {}
    if not is_array and results[0].digest is not None:
        return results[0].digest, headers | {COVERED_HEADER: f"{results[0].covered_share:g}"}
    return BatchAnswer(results=[_result(served) for served in results]), headers


def _result(served: Served) -> DocumentResult:
    return DocumentResult(digest=served.digest, covered_share=served.covered_share, error=served.problem)


def refuse_unless_accepting(service: DigestService) -> None:
    """Do nothing while documents are accepted.

    Raises:
        RequestError: the server stops, or its model is not there yet.
    """
    if service.stopping:
        raise _stopping()
    if service.models.current is None:
        raise RequestError(
            503, "not_ready", "The model is still loading. Send it again later.", {"Retry-After": _RETRY_SECONDS}
        )


def _stopping() -> RequestError:
    return RequestError(
        503,
        "stopping",
        "The server is stopping and digests nothing more. Send it again, to another server or later.",
        {"Retry-After": _RETRY_SECONDS, "Connection": "close"},
    )


async def _results(
    request: "Request", service: DigestService, documents: Sequence[CrawlRecord | Reject]
) -> list[Served]:
    """What came of each document, in order."""
    refuse_unless_accepting(service)  # it may have begun to stop while the body came
    futures = service.batcher.submit([entry for entry in documents if isinstance(entry, CrawlRecord)])
    seconds = service.settings.time_limit_seconds
    try:
        await _wait(request, futures, seconds)
        late = Problem(code="time_limit", message=f"There was no digest within {seconds:g} s. Send fewer, or later.")
        digested = iter([future.result() if future.done() else Served(None, late, "") for future in futures])
    finally:
        for future in futures:
            future.cancel()  # what is done stays as it is
    return [
        Served(None, Problem(code="invalid_document", message=f"{entry.reason}."), "")
        if isinstance(entry, Reject)
        else next(digested)
        for entry in documents
    ]


async def _wait(request: "Request", futures: Sequence[asyncio.Future[Served]], seconds: float) -> None:
    """Until all futures are done or the time is up.

    Raises:
        ClientLeftError: the client left before.
    """
    if not futures:
        return
    leaving = asyncio.create_task(_client_leaves(request))
    finishing = asyncio.create_task(asyncio.wait(futures))
    try:
        done, _ = await asyncio.wait((leaving, finishing), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
        finishing.cancel()
    if leaving in done and finishing not in done:
        raise ClientLeftError


async def _client_leaves(request: "Request") -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
