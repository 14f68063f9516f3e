"""The Batch API: questions in files, answered within a day at a lower price.

A batch goes through these states, each on the disk before the next step:

    planned     it has a token of ours and its lines, and may or may not have reached the endpoint
    submitted   the endpoint gave it an id
    collected   its answers, their cost and its failed lines are in the cache (one transaction)
    dropped     the endpoint does not have it: refused as a whole, deleted, or never received

The token travels in the batch's metadata. Whoever finds a planned batch after a kill, or whose submission got no
answer, looks for the token among the endpoint's batches before anything is sent: no batch is submitted twice. What
failed in a batch (lines, answers that are no label, a batch that expired half done) goes into a further one.
"""

import asyncio
import json
import math
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from smartdevdigest_ops.labeling.cache import AnswerCache, Question, Usage
from smartdevdigest_ops.labeling.endpoint import (
    ABOUT_THE_DOCUMENT,
    KEPT,
    Endpoint,
    first_message,
    is_transient,
    read_usage,
    retry_after_seconds,
)
from smartdevdigest_ops.labeling.errors import LabelingError
from smartdevdigest_ops.labeling.inquiry import INVALID, Inquiry
from smartdevdigest_ops.labeling.prompt import TeacherAnswer
from smartdevdigest_ops.labeling.quote import cost_of, cost_of_all, estimate_tokens, prompt_tokens, quote_endpoint
from smartdevdigest_ops.settings import OpenAITeacherSettings

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types import Batch

_Result = TypeVar("_Result")

_TOKEN_NAME = "smartdevdigest"
_ENDED = ("completed", "expired", "cancelled")
_QUEUE_IS_FULL = "token_limit_exceeded"
# Batches in which a document's line may fail before it is given up: each can take a day.
_MAX_FAILED_LINES = 5
# Batches in a row that the endpoint refuses because too much is enqueued, by others too.
_MAX_FULL_QUEUES = 100
_BYTES_PER_MEBIBYTE = 1024 * 1024


def has_open_batches(cache: AnswerCache, teacher: str) -> bool:
    """Whether a batch of this teacher is under way, or may be."""
    return bool(_open_batches(cache, teacher))


def _open_batches(cache: AnswerCache, teacher: str) -> list[tuple[str, str | None]]:
    """(token, id) of each, in the order of their submission."""
    return list(
        cache.connection.execute(
            "SELECT token, id FROM batches WHERE teacher = ? AND state IN ('planned', 'submitted') ORDER BY token",
            (teacher,),
        )
    )


class BatchBuyer:
    """One run's way through its batches, and through those that earlier runs left open."""

    def __init__(self, endpoint: Endpoint, cache: AnswerCache, settings: OpenAITeacherSettings) -> None:
        self._endpoint = endpoint
        self._cache = cache
        self._settings = settings
        self._enqueue_limit: float | None = self._settings.batch.max_enqueued_tokens
        self._num_full_queues = 0
        self._inquiries: dict[str, Inquiry[Any]] = {}

    async def buy(self, inquiries: Sequence[Inquiry[Any]]) -> None:
        """Collect open batches, and submit further ones until every inquiry has an outcome (where batches are wanted).

        Raises:
            LabelingError: the endpoint refuses, or the budget is used up; what is under way can be collected later.
        """
        from tqdm import tqdm  # noqa: PLC0415 - beside what it measures

        self._inquiries = {inquiry.question.key: inquiry for inquiry in inquiries if inquiry.is_open}
        with tqdm(total=len(self._inquiries), desc="teacher, by batch", unit="document") as bar:
            async with self._endpoint.client() as client:
                for token, batch_id in self._open():
                    if batch_id is None:
                        await self._find_or_drop(client, token)
                while True:
                    await self._submit_what_fits(client)
                    if not (is_open := self._open()):
                        return
                    changed = [await self._look_at(client, token, str(batch_id)) for token, batch_id in is_open]
                    bar.update(sum(not one.is_open for one in self._inquiries.values()) - bar.n)
                    if not any(changed):
                        await asyncio.sleep(self._settings.batch.poll_seconds)

    def _open(self) -> list[tuple[str, str | None]]:
        return _open_batches(self._cache, self._endpoint.teacher)

    def _waiting(self) -> list[Inquiry[Any]]:
        """Inquiries that have something to ask and are in no open batch."""
        under_way = {
            key
            for token, _ in self._open()
            for (key,) in self._cache.connection.execute("SELECT key FROM batch_lines WHERE token = ?", (token,))
        }
        return [one for key, one in self._inquiries.items() if one.is_open and key not in under_way]

    async def _submit_what_fits(self, client: "AsyncOpenAI") -> None:
        if not self._settings.batch.enabled:
            return
        waiting = self._waiting()
        while waiting:
            chunk, body = self._next_chunk(waiting)
            if not chunk:
                return
            token = self._plan(chunk)
            await self._submit(client, token, body)
            waiting = waiting[len(chunk) :]

    def _enqueued_tokens(self) -> int:
        (tokens,) = self._cache.connection.execute(
            "SELECT coalesce(sum(prompt_tokens), 0) FROM batches WHERE teacher = ? "
            "AND state IN ('planned', 'submitted')",
            (self._endpoint.teacher,),
        ).fetchone()
        return int(tokens)

    def _next_chunk(self, waiting: Sequence[Inquiry[Any]]) -> tuple[list[Inquiry[Any]], bytes]:
        """The first of the waiting that fit into one batch now, and the batch's file."""
        batch = self._settings.batch
        enqueued = self._enqueued_tokens()
        room = math.inf if self._enqueue_limit is None else self._enqueue_limit - enqueued
        chunk: list[Inquiry[Any]] = []
        lines: list[bytes] = []
        tokens = size = 0
        for inquiry in waiting[: batch.max_requests]:
            line = self._line(inquiry)
            tokens += prompt_tokens(inquiry)
            size += len(line)
            # One request goes alone if it must, however large: the endpoint has the last word.
            if (chunk or enqueued) and tokens > room:
                break
            if chunk and size > batch.max_mebibytes * _BYTES_PER_MEBIBYTE:
                break
            chunk.append(inquiry)
            lines.append(line)
        return chunk, b"".join(lines)

    def _line(self, inquiry: Inquiry[Any]) -> bytes:
        request = {
            "custom_id": inquiry.question.key,
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": self._endpoint.request(inquiry),
        }
        return json.dumps(request, ensure_ascii=False).encode() + b"\n"

    def _plan(self, chunk: Sequence[Inquiry[Any]]) -> str:
        """Write the batch down before it is sent; returns its token."""
        self._refuse_above_budget(chunk)
        with self._cache.transaction() as connection:
            (number,) = connection.execute("SELECT count(*) FROM batches").fetchone()
            token = f"{number:06d}-{secrets.token_hex(8)}"
            connection.execute(
                "INSERT INTO batches VALUES (?, ?, ?, ?, ?, 'planned', NULL)",
                (
                    token, self._endpoint.teacher, self._cache.making, self._endpoint.response_format,
                    sum(map(prompt_tokens, chunk)),
                ),
            )  # fmt: skip
            connection.executemany(
                "INSERT INTO batch_lines (token, key, question) VALUES (?, ?, ?)",
                [(token, one.question.key, json.dumps(asdict(one.question) | {"data": ""})) for one in chunk],
            )
        return token

    def _refuse_above_budget(self, chunk: Sequence[Inquiry[Any]]) -> None:
        price = self._settings.price
        if price.max_cost is None:
            return
        usage, cost, _ = quote_endpoint(self._settings, chunk, self._cache, through_batch=True)
        (enqueued,) = self._cache.connection.execute(
            "SELECT count(*) FROM batch_lines JOIN batches USING (token) WHERE state IN ('planned', 'submitted') "
            "AND teacher = ?",
            (self._endpoint.teacher,),
        ).fetchone()
        each = cost_of(usage, price, through_batch=True) / len(chunk)
        already = cost_of_all(self._cache.spent(self._endpoint.teacher), price) + each * enqueued
        if already + (cost or 0) > price.max_cost:
            raise LabelingError(
                f"A further batch of {len(chunk)} requests would cost about {cost or 0:,.4f} {price.currency}; with "
                f"{already:,.4f} spent or under way, {self._endpoint.where}.price.max_cost={price.max_cost:g} does not "
                f"hold it. It was not submitted. Raise max_cost or lower max_documents. {KEPT}"
            )

    async def _submit(self, client: "AsyncOpenAI", token: str, body: bytes) -> None:
        async def upload() -> str:
            return (await client.files.create(file=(f"{token}.jsonl", body), purpose="batch")).id

        async def create() -> "Batch":
            # After a try without an answer nobody knows whether there is a batch now.
            if found := await self._find(client, token):
                return found
            return await client.batches.create(
                input_file_id=file_id,
                endpoint="/v1/chat/completions",
                completion_window="24h",
                metadata={_TOKEN_NAME: token},
            )

        file_id = await self._persistently(upload)
        batch = await self._persistently(create)
        self._set_state(token, "submitted", batch.id)

    async def _find_or_drop(self, client: "AsyncOpenAI", token: str) -> None:
        """What became of a batch that was planned by a run that was killed, or that got no answer."""
        batch = await self._persistently(lambda: self._find(client, token))
        if batch is None:
            self._set_state(token, "dropped")
        else:
            self._set_state(token, "submitted", batch.id)

    async def _find(self, client: "AsyncOpenAI", token: str) -> "Batch | None":
        async for batch in client.batches.list(limit=100):
            if (batch.metadata or {}).get(_TOKEN_NAME) == token:
                return batch
        return None

    async def _look_at(self, client: "AsyncOpenAI", token: str, batch_id: str) -> bool:
        """Whether the batch is no longer open: it was collected, or it is no more."""
        import openai

        try:
            batch = await self._persistently(lambda: client.batches.retrieve(batch_id), expected=openai.NotFoundError)
        except openai.NotFoundError:
            self._set_state(token, "dropped")  # deleted there: what it would have answered cannot be had any more
            return True
        if batch.status == "failed":
            await self._give_up_batch(token, batch)
            return True
        if batch.status not in _ENDED:
            return False
        lines: dict[str, Mapping[str, Any]] = {}
        for file_id in (batch.output_file_id, batch.error_file_id):
            if file_id is not None:
                lines |= await self._persistently(lambda file_id=file_id: self._read_lines(client, file_id))  # type: ignore[misc]
        # What an expired batch did not come to says nothing against the documents, unless it came to nothing at all.
        self._collect(token, lines, missing_has_failed=batch.status == "completed" or not lines)
        if batch.status == "completed":
            self._note_room()
        return True

    def _note_room(self) -> None:
        """The endpoint took a batch and answered it: the queue is not full any more, and may hold twice as much."""
        self._num_full_queues = 0
        if self._enqueue_limit is not None:
            limit = self._settings.batch.max_enqueued_tokens
            self._enqueue_limit = min(2 * self._enqueue_limit, limit or math.inf)

    async def _give_up_batch(self, token: str, batch: "Batch") -> None:
        """A batch that the endpoint refused as a whole: nothing of it was answered, nothing is paid."""
        errors = batch.errors.data if batch.errors and batch.errors.data else []
        (tokens,) = self._cache.connection.execute(
            "SELECT prompt_tokens FROM batches WHERE token = ?", (token,)
        ).fetchone()
        self._set_state(token, "dropped")
        if any(error.code == _QUEUE_IS_FULL for error in errors) and self._num_full_queues < _MAX_FULL_QUEUES:
            self._num_full_queues += 1
            self._enqueue_limit = max(1, tokens // 2)
            await asyncio.sleep(self._settings.batch.poll_seconds)
            return
        said = self._endpoint.without_key("; ".join(f"{error.code}: {error.message}" for error in errors))[:300]
        raise LabelingError(
            f"{self._endpoint.name} refused the batch {batch.id} as a whole ({said or 'it does not say why'}). Mend "
            f"that, or set {self._endpoint.where}.batch.enabled to false to ask document by document. {KEPT}"
        )

    @staticmethod
    async def _read_lines(client: "AsyncOpenAI", file_id: str) -> dict[str, Mapping[str, Any]]:
        """Lines of a result file by custom_id; a file that is cut off raises ValueError, and is read again."""
        content = await client.files.content(file_id)
        lines = [json.loads(line) for line in content.content.decode().split("\n") if line.strip()]
        return {str(line["custom_id"]): line for line in lines if isinstance(line, Mapping) and "custom_id" in line}

    def _collect(self, token: str, lines: Mapping[str, Mapping[str, Any]], *, missing_has_failed: bool) -> None:
        asked = {
            key: Question(**json.loads(question))
            for key, question in self._cache.connection.execute(
                "SELECT key, question FROM batch_lines WHERE token = ? ORDER BY key", (token,)
            )
        }
        with self._cache.transaction():
            for key, question in asked.items():
                if key in lines or missing_has_failed:
                    self._take_line(token, question, lines.get(key, {}))
            self._set_state(token, "collected")

    def _take_line(self, token: str, question: Question, line: Mapping[str, Any]) -> None:
        response = line.get("response") or {}
        body = response.get("body") if isinstance(response, Mapping) else None
        inquiry = self._inquiries.get(question.key)
        if isinstance(body, Mapping) and response.get("status_code") == 200:
            if inquiry is None:
                # Its document is no longer asked about. The answer was paid for, and may be wanted again.
                self._keep_unasked(body, question)
            elif inquiry.is_open:
                inquiry.take(self._endpoint.read_reply(body, inquiry), through_batch=True)
            return
        if inquiry is None or not inquiry.is_open:
            return
        error = (body or {}).get("error") or line.get("error") or {}
        code = error.get("code") if isinstance(error, Mapping) else None
        (response_format,) = self._cache.connection.execute(
            "SELECT response_format FROM batches WHERE token = ?", (token,)
        ).fetchone()
        asked = {"response_format": {"type": response_format}} if response_format != "text" else {}
        status = response.get("status_code") if isinstance(response, Mapping) else None
        if self._endpoint.weaken(asked, status or 0, json.dumps(error)):
            return
        if code in ABOUT_THE_DOCUMENT:
            inquiry.decline()
            return
        self._cache.connection.execute(
            "UPDATE batch_lines SET has_failed = 1 WHERE token = ? AND key = ?", (token, question.key)
        )
        (num_failed,) = self._cache.connection.execute(
            "SELECT count(*) FROM batch_lines JOIN batches USING (token) WHERE key = ? AND has_failed AND making = ?",
            (question.key, self._cache.making),
        ).fetchone()
        if num_failed >= _MAX_FAILED_LINES:
            inquiry.give_up()

    def _keep_unasked(self, completion: Mapping[str, Any], question: Question) -> None:
        """Keep the label of a document that nobody asks about any more, if it can be read: it was paid for."""
        text = self._endpoint.without_key(str(first_message(completion).get("content")))
        usage = read_usage(completion.get("usage")) or Usage(0, 0, estimate_tokens(text), num_estimated=1)
        try:
            answer = TeacherAnswer.model_validate_json(text)
        except ValidationError:
            answer = None
        with self._cache.transaction():
            problem = INVALID if answer is None else None
            self._cache.take_reply(question, usage, through_batch=True, problem=problem, text=text)
            if answer is not None:
                self._cache.settle(question, answer)

    def _set_state(self, token: str, state: str, batch_id: str | None = None) -> None:
        with self._cache.transaction() as connection:
            connection.execute(
                "UPDATE batches SET state = ?, id = coalesce(?, id) WHERE token = ?", (state, batch_id, token)
            )

    async def _persistently(
        self, call: Callable[[], Awaitable[_Result]], expected: type[Exception] | None = None
    ) -> _Result:
        """Result of a call that is tried again while that can help; `expected` errors are the caller's."""
        import openai

        limits = self._settings.requests
        failures = 0
        while True:
            try:
                return await call()
            except (openai.APIError, ValueError) as error:
                if expected is not None and isinstance(error, expected):
                    raise
                pause = retry_after_seconds(error)
                if pause is None:
                    pause = min(limits.first_pause_seconds * 2**failures, limits.max_pause_seconds)
                if not is_transient(error) or failures == limits.max_retries or pause > limits.max_pause_seconds:
                    raise LabelingError(self._endpoint.explain(error)) from None
                failures += 1
                await asyncio.sleep(pause)
