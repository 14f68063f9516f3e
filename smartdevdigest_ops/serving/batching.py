"""A bounded queue of documents, digested in batches by one thread.

Whoever submits gets a future per document and may cancel it at any time (the client left, its time is up): a document
that waits leaves the queue, one in a batch costs the others nothing, and a batch that nobody waits for any more is
given up at its next token. While a batch is digested the next one gathers, so the busier it is the fuller they are.
"""

import asyncio
import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from smartdevdigest_ops.contracts import CrawlRecord, Digest
from smartdevdigest_ops.digesting.model import DigestOutcome
from smartdevdigest_ops.errors import UserError
from smartdevdigest_ops.serving.errors import QueueFullError
from smartdevdigest_ops.serving.messages import Problem
from smartdevdigest_ops.serving.metrics import ServingMetrics
from smartdevdigest_ops.serving.models import ServedModel
from smartdevdigest_ops.settings import ServingSettings

LOG = logging.getLogger("smartdevdigest.serving")

# Weight of the newest batch in the running mean of seconds per document.
_NEWEST_WEIGHT = 0.3
_LONGEST_RETRY_AFTER_SECONDS = 600
_MODEL_FAILED = Problem(code="internal", message="The model failed on this document; the server's log has more.")


@dataclass(frozen=True)
class Served:
    """What came of one document: a digest or a problem, and the model that it came from."""

    digest: Digest | None
    problem: Problem | None
    model: str
    num_new_tokens: int = 0
    covered_share: float | None = None
    """Share of the document that the digest was made from; None without a digest."""


@dataclass(frozen=True, eq=False)
class _Waiting:
    document: CrawlRecord
    future: asyncio.Future[Served] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class _NobodyWaitsError(Exception):
    """Ends a batch whose futures are all cancelled."""


class MicroBatcher:
    """The queue and its worker. All methods belong to one event loop."""

    def __init__(
        self, settings: ServingSettings, model: Callable[[], ServedModel | None], metrics: ServingMetrics
    ) -> None:
        self._settings = settings
        self._model = model
        self._metrics = metrics
        self._queue: OrderedDict[_Waiting, None] = OrderedDict()  # first in, first out, and out from anywhere at once
        self._seconds_per_document = 1.0
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="digest")

    def refuse_if_full(self, num_documents: int) -> None:
        """Do nothing while so many more fit the queue.

        Raises:
            QueueFullError: they do not.
        """
        excess = len(self._queue) + num_documents - self._settings.max_queued_documents
        if excess > 0:
            seconds = min(_LONGEST_RETRY_AFTER_SECONDS, math.ceil(excess * self._seconds_per_document))
            raise QueueFullError(len(self._queue), self._settings.max_queued_documents, max(1, seconds))

    def submit(self, documents: Sequence[CrawlRecord]) -> list[asyncio.Future[Served]]:
        """A future per document, in order.

        Raises:
            QueueFullError: they do not all fit the queue; none is taken.
        """
        self.refuse_if_full(len(documents))
        waiting = [_Waiting(document) for document in documents]
        for entry in waiting:
            self._queue[entry] = None
            entry.future.add_done_callback(lambda _, entry=entry: self._leave_queue(entry))  # type: ignore[misc]
        self._metrics.queued_documents.set(len(self._queue))
        self._arrived.set()
        self._idle.clear()
        return [entry.future for entry in waiting]

    async def drained(self) -> None:
        """Wait until no document waits or is being digested."""
        await self._idle.wait()

    async def run(self) -> None:
        """Digest what is submitted, until cancelled."""
        while True:
            await self._arrived.wait()
            model = self._model()
            if model is None:  # nothing is accepted before the first model is there
                raise RuntimeError("Documents were queued before there was a model.")
            size = self._settings.batch_size or model.engine.settings.batch_size
            if len(self._queue) < size:
                await asyncio.sleep(self._settings.batch_wait_seconds)
            if batch := self._take(size):
                await self._digest(model, batch)
            if not self._queue:
                self._arrived.clear()
                self._idle.set()

    def close(self) -> None:
        """Give up what is left; the thread ends at the next token of its batch."""
        for entry in list(self._queue):
            entry.future.cancel()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _leave_queue(self, entry: _Waiting) -> None:
        self._queue.pop(entry, None)
        self._metrics.queued_documents.set(len(self._queue))

    def _take(self, size: int) -> list[_Waiting]:
        batch: list[_Waiting] = []
        while self._queue and len(batch) < size:
            entry, _ = self._queue.popitem(last=False)
            if not entry.future.done():
                batch.append(entry)
        self._metrics.queued_documents.set(len(self._queue))
        return batch

    async def _digest(self, model: ServedModel, batch: Sequence[_Waiting]) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        served = await loop.run_in_executor(self._executor, _digest_apart, model, batch)
        seconds = loop.time() - started
        self._metrics.batch_documents.observe(len(batch))
        self._metrics.batch_seconds.observe(seconds)
        self._metrics.new_tokens.inc(sum(result.num_new_tokens for result in served if result))
        self._seconds_per_document += _NEWEST_WEIGHT * (seconds / len(batch) - self._seconds_per_document)
        for entry, result in zip(batch, served, strict=True):
            if result is not None and not entry.future.done():
                entry.future.set_result(result)


def _digest_apart(model: ServedModel, batch: Sequence[_Waiting]) -> list[Served | None]:
    """What came of each document of a batch; where the batch fails as a whole, each of them is digested by itself.

    None for documents that nobody waited for to the end. Runs in the batcher's thread: of the futures it only asks
    whether they are done.
    """
    try:
        return _digest_together(model, batch)
    except _NobodyWaitsError:
        return [None] * len(batch)
    except Exception as error:
        if len(batch) > 1:
            LOG.warning("A batch of %d documents failed (%s); digesting them one by one.", len(batch), error)
            return [served for entry in batch for served in _digest_apart(model, [entry])]
        LOG.error(
            "Model %s failed on a document of %d characters: %s",
            model.version,
            len(batch[0].document.content),
            error,
            exc_info=None if isinstance(error, UserError) else error,
        )
        return [Served(None, _MODEL_FAILED, model.version)]


def _digest_together(model: ServedModel, batch: Sequence[_Waiting]) -> list[Served | None]:
    def stop_if_nobody_waits(_: int) -> None:
        if all(entry.future.done() for entry in batch):
            raise _NobodyWaitsError

    stop_if_nobody_waits(0)
    outcomes = model.engine.digest([entry.document for entry in batch], on_step=stop_if_nobody_waits)
    return [
        Served(
            outcome.digest,
            _problem(outcome, model),
            model.version,
            outcome.num_new_tokens,
            round(outcome.covered_share, 4) if outcome.digest else None,
        )
        for outcome in outcomes
    ]


def _problem(outcome: DigestOutcome, model: ServedModel) -> Problem | None:
    if outcome.error is None:
        return None
    if outcome.fault == "document":
        return Problem(code="invalid_document", message=outcome.error)
    LOG.error("Model %s failed on a document: %s", model.version, outcome.error)
    return _MODEL_FAILED
