"""What `/metrics` tells, in Prometheus' text format.

Every document of a request that reached the queue's door is counted once in `smartdevdigest_documents_total`, by what
became of it: the outcomes add up to the documents that came.
"""

import time
from functools import partial
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

Outcome = Literal["digested", "refused", "turned_away", "failed", "time_limit", "abandoned"]
OUTCOMES: tuple[Outcome, ...] = ("digested", "refused", "turned_away", "failed", "time_limit", "abandoned")
"""digested; off the contract; queue full or stopping; the model failed; too late; the client left or a stop
cut it off."""

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320)
_DOCUMENTS = (1, 2, 4, 8, 16, 32, 64, 128)


class ServingMetrics:
    """Counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        histogram = partial(Histogram, registry=registry)
        self.answers = counter("smartdevdigest_answers", "Answers to /v1/digest by status.", ["status"])
        self.answer_seconds = histogram(
            "smartdevdigest_answer_seconds",
            "From a request's headers to its answer.",
            buckets=_SECONDS,
        )
        self.documents = counter("smartdevdigest_documents", "Documents by what became of them.", ["outcome"])
        for outcome in OUTCOMES:
            self.documents.labels(outcome)
        self.queued_documents = gauge("smartdevdigest_queued_documents", "Documents that wait for a batch.")
        self.batch_documents = histogram("smartdevdigest_batch_documents", "Documents per batch.", buckets=_DOCUMENTS)
        self.batch_seconds = histogram("smartdevdigest_batch_seconds", "Of one batch.", buckets=_SECONDS)
        self.new_tokens = counter("smartdevdigest_new_tokens", "Tokens generated.")
        self.model = gauge("smartdevdigest_model", "1 for the model that serves.", ["version"])
        self.model_since = gauge(
            "smartdevdigest_model_since_seconds",
            "Unix time at which the serving model was swapped in.",
        )
        self.loads = counter("smartdevdigest_loads", "Models that were loaded and swapped in.")
        self.failed_loads = counter("smartdevdigest_failed_loads", "Tries to load a release that failed.")
        self.release_failing = gauge(
            "smartdevdigest_release_failing", "1 while the current release could not be loaded."
        )
        self.stopping = gauge("smartdevdigest_stopping", "1 from SIGTERM on.")

    def note_model(self, version: str, swapped_in: float) -> None:
        """Another model serves from now (`swapped_in`, Unix seconds) on."""
        self.model.clear()
        self.model.labels(version).set(1)
        self.model_since.set(swapped_in)
        self.loads.inc()

    def text(self) -> tuple[bytes, str]:
        """The exposition, and its content type."""
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        return generate_latest(self.registry), CONTENT_TYPE_LATEST


class AnswerRecorder:
    """ASGI middleware that counts and times the answers to one path, whoever gives them."""

    def __init__(self, app: "ASGIApp", metrics: ServingMetrics, path: str) -> None:
        self._app = app
        self._metrics = metrics
        self._path = path

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Pass the request on."""
        if scope["type"] != "http" or scope["path"] != self._path:
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()

        async def record(message: "Message") -> None:
            if message["type"] == "http.response.start":
                self._metrics.answers.labels(message["status"]).inc()
                self._metrics.answer_seconds.observe(time.perf_counter() - started)
            await send(message)

        await self._app(scope, receive, record)
