"""A model behind any OpenAI-compatible endpoint, asked question by question.

So many workers as `requests.max_in_flight` take questions in turn, each asking until its question has come to an
outcome. Transport failures are tried again with growing pauses, and all workers pause together when the endpoint asks
for it. A reply is in the cache before the next request of its question is sent.

A failure that would hit every question (a refused key, an unknown model, nobody gets through any more) ends the run:
nothing more is sent, and what is under way is waited for, because it will have been paid for.

A question that is answered with 500 at every try may be what breaks the server: the run that it ends is counted against
it, and in a second run it is given up and the others go on. A run that an outage ends (502, 503, 504, 529, no
connection) says nothing about a question.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from smartdevdigest_ops.labeling.batch import BatchBuyer, has_open_batches
from smartdevdigest_ops.labeling.cache import AnswerCache, Usage
from smartdevdigest_ops.labeling.endpoint import (
    KEPT,
    Endpoint,
    error_message,
    identity,
    is_about_the_document,
    is_server_error,
    is_transient,
    retry_after_seconds,
)
from smartdevdigest_ops.labeling.errors import LabelingError
from smartdevdigest_ops.labeling.inquiry import INVALID, Inquiry, Reply, Sampling
from smartdevdigest_ops.labeling.limits import Limits
from smartdevdigest_ops.labeling.quote import cost_of, cost_of_all, quote_endpoint
from smartdevdigest_ops.settings import EndpointSettings, OpenAITeacherSettings

if TYPE_CHECKING:
    from openai import AsyncOpenAI

# So many questions given up before one got an answer, and the model or endpoint is the wrong one, not the questions.
_HOPELESS_QUESTIONS = 20


class EndpointModel:
    """Answers inquiries through `/chat/completions`."""

    who = "model"
    unit = "question"

    def __init__(self, settings: EndpointSettings, cache: AnswerCache, where: str) -> None:
        """Make one.

        Args:
            settings: Of the endpoint.
            cache: What was answered before.
            where: Path of the settings, for messages.
        """
        self._cache = cache
        self._endpoint = Endpoint(settings, cache, where)

    @property
    def name(self) -> str:
        """How the model is called in messages."""
        return self._endpoint.settings.model

    def identity(self) -> Mapping[str, Any]:
        """What tells this model from others."""
        return identity(self._endpoint.settings)

    def quote(self, inquiries: Sequence[Inquiry[Any]]) -> tuple[Usage, float | None, float | None]:
        """Tokens, cost and minutes at the limits of asking the open inquiries once each."""
        return quote_endpoint(self._endpoint.settings, inquiries, self._cache)

    def ask(self, inquiries: Sequence[Inquiry[Any]]) -> None:
        """Ask until every inquiry has an outcome.

        Raises:
            LabelingError: the key is missing or refused, the endpoint does not answer, or the budget is used up.
        """
        self._endpoint.refuse_without_key()
        if left := [inquiry for inquiry in inquiries if inquiry.is_open]:
            buyer = _DirectBuyer(self._endpoint, self._cache)
            asyncio.run(buyer.buy(left, who=self.who, unit=self.unit))


class OpenAITeacher(EndpointModel):
    """Labels through `/chat/completions`, or through the Batch API where the settings say so."""

    who = "teacher"
    unit = "document"

    def __init__(self, settings: OpenAITeacherSettings, cache: AnswerCache, where: str) -> None:
        super().__init__(settings, cache, where)
        self.settings = settings

    def parameters(self) -> Mapping[str, Any]:
        """What decides its answers besides the sampling: nothing."""
        return {}

    def sampling(self) -> Sampling:
        """How its answers are drawn."""
        return Sampling(self.settings.temperature, self.settings.seed)

    def quote(self, inquiries: Sequence[Inquiry[Any]]) -> tuple[Usage, float | None, float | None]:
        """Tokens, cost and minutes at the limits of asking the open inquiries once each."""
        return quote_endpoint(self.settings, inquiries, self._cache, through_batch=self.settings.batch.enabled)

    def ask(self, inquiries: Sequence[Inquiry[Any]]) -> None:
        """Ask until every inquiry has an outcome.

        Raises:
            LabelingError: the key is missing or refused, the endpoint does not answer, or the budget is used up.
        """
        self._endpoint.refuse_without_key()
        if self.settings.batch.enabled or has_open_batches(self._cache, self._endpoint.teacher):
            # Batches under way are collected even where no further ones are wanted: they are paid for.
            asyncio.run(BatchBuyer(self._endpoint, self._cache, self.settings).buy(inquiries))
        super().ask(inquiries)


class _EndOfRun(Exception):
    """Another worker found out that there is nothing more to get; this one stops quietly."""


class _DirectBuyer:
    """One run of requests."""

    def __init__(self, endpoint: Endpoint, cache: AnswerCache) -> None:
        self._endpoint = endpoint
        self._settings = endpoint.settings.requests
        self._limits = Limits(self._settings)
        self._error: LabelingError | None = None
        self._num_replies = 0
        self._num_given_up = 0
        self._has_answers = cache.has_answers(endpoint.teacher)
        self._spent_cost = cost_of_all(cache.spent(endpoint.teacher), endpoint.settings.price)
        self._reserved_cost = 0.0
        self._num_under_way = 0
        self._one_ended = asyncio.Event()

    async def buy(self, inquiries: Sequence[Inquiry[Any]], *, who: str, unit: str) -> None:
        from tqdm import tqdm  # noqa: PLC0415 - beside what it measures

        waiting = iter(inquiries)
        with tqdm(total=len(inquiries), desc=who, unit=unit) as bar:
            async with self._endpoint.client() as client:

                async def work() -> None:
                    for inquiry in waiting:
                        try:
                            await self._settle(client, inquiry)
                        except _EndOfRun:
                            return
                        bar.update()

                await asyncio.gather(*(work() for _ in range(min(self._settings.max_in_flight, len(inquiries)))))
        if self._error is not None:
            raise self._error

    async def _settle(self, client: "AsyncOpenAI", inquiry: Inquiry[Any]) -> None:
        while inquiry.is_open:
            reply = await self._request(client, inquiry)
            if reply is None:
                break
            inquiry.take(reply)
        if not isinstance(inquiry.outcome, str):
            self._has_answers = True
            return
        self._num_given_up += inquiry.outcome == INVALID
        if self._num_given_up >= _HOPELESS_QUESTIONS and not self._has_answers:
            self._end(
                f"{self._endpoint.name} gave {self._num_given_up} questions no answer that can be read, and none a "
                f"good one: model {self._endpoint.settings.model} does not follow the instruction. Nothing more was "
                f"sent. Name another model in {self._endpoint.where}.model, or raise {self._endpoint.where}.requests."
                "max_answer_tokens if its answers are cut off; refusal_round asks these questions again."
            )

    async def _request(self, client: "AsyncOpenAI", inquiry: Inquiry[Any]) -> Reply | None:
        """The reply to what the inquiry asks now; None where it has come to an outcome without one."""
        failures = server_errors = 0
        replies_before = self._num_replies
        while True:
            most = self._endpoint.most_tokens(inquiry)
            cost = await self._reserve(most)
            body = self._endpoint.request(inquiry)
            try:
                await self._limits.turn(most.prompt_tokens + most.answer_tokens)
                self._stop_if_ended()
                reply = await self._send(client, body, inquiry)
            except Exception as error:  # noqa: BLE001 - sorted out below, unknown ones are raised again
                server_errors += is_server_error(error)
                every_try_was_500 = server_errors == failures + 1
                pause = self._pause_after(error, body, inquiry, failures, replies_before, every_try_was_500)
                if pause is None:
                    return None
                failures += is_transient(error)
                await asyncio.sleep(pause)
                continue
            finally:
                self._release(cost)
            self._num_replies += 1
            used = reply.usage
            self._spent_cost += cost_of(used, self._endpoint.settings.price)
            self._limits.correct(most.prompt_tokens + most.answer_tokens, used.prompt_tokens + used.answer_tokens)
            return reply

    async def _send(self, client: "AsyncOpenAI", body: Mapping[str, Any], inquiry: Inquiry[Any]) -> Reply:
        # The raw body: what an endpoint leaves out or adds must not cost an answer that is otherwise whole.
        response = await client.chat.completions.with_raw_response.create(**body)
        completion = response.http_response.json()
        if not isinstance(completion, Mapping):
            raise ValueError("the body is no JSON object")
        return self._endpoint.read_reply(completion, inquiry)

    def _pause_after(
        self,
        error: Exception,
        body: Mapping[str, Any],
        inquiry: Inquiry[Any],
        failures: int,
        replies_before: int,
        every_try_was_500: bool,
    ) -> float | None:
        """Seconds until the request is tried again; None where the inquiry was ended. Ends the run where it must."""
        import openai

        if isinstance(error, openai.APIStatusError):
            if self._endpoint.weaken(body, error.status_code, error_message(error)):
                return 0.0
            if is_about_the_document(error) or (error.status_code in (400, 422) and self._has_answers):
                inquiry.decline()
                return None
        if not isinstance(error, openai.APIError | ValueError):
            raise error
        if not is_transient(error):
            self._end(self._endpoint.explain(error))
            raise _EndOfRun
        if failures >= self._settings.max_retries:
            others_got_through = self._num_replies > replies_before
            if others_got_through or every_try_was_500:
                inquiry.give_up()
            if others_got_through or (every_try_was_500 and inquiry.is_settled):
                return None
            noted = " What it failed on is left out if that run fails on it too." if every_try_was_500 else ""
            self._end(self._endpoint.explain(error) + noted)
            raise _EndOfRun
        asked_for = retry_after_seconds(error)
        if asked_for is None:
            return float(min(self._settings.first_pause_seconds * 2**failures, self._settings.max_pause_seconds))
        if asked_for > self._settings.max_pause_seconds:
            self._end(
                f"{self._endpoint.name} asks for a pause of {asked_for:.0f} s, which is more than "
                f"{self._endpoint.where}.requests.max_pause_seconds={self._settings.max_pause_seconds:g}. Run again "
                f"after it, or raise that. {KEPT}"
            )
            raise _EndOfRun
        self._limits.hold(asked_for)
        return 0.0

    async def _reserve(self, most: Usage) -> float:
        """Set aside what a request can cost; ends the run where the budget does not hold it.

        What is under way seldom costs all that is set aside for it: its end is waited for before the run is ended.
        """
        price = self._endpoint.settings.price
        cost = cost_of(most, price)
        self._stop_if_ended()
        while price.max_cost is not None and self._spent_cost + self._reserved_cost + cost > price.max_cost:
            if not self._num_under_way:
                self._end(
                    f"The next request could cost {cost:.4f} {price.currency}; with {self._spent_cost:,.4f} spent, "
                    f"{self._endpoint.where}.price.max_cost={price.max_cost:g} does not hold it. Nothing more was "
                    f"sent. Raise max_cost or lower max_documents. {KEPT}"
                )
                raise _EndOfRun
            self._one_ended.clear()
            await self._one_ended.wait()
            self._stop_if_ended()
        self._reserved_cost += cost
        self._num_under_way += 1
        return cost

    def _release(self, cost: float) -> None:
        self._reserved_cost -= cost
        self._num_under_way -= 1
        self._one_ended.set()

    def _end(self, message: str) -> None:
        """Send nothing more; what is under way is still waited for."""
        if self._error is None:
            self._error = LabelingError(message)

    def _stop_if_ended(self) -> None:
        if self._error is not None:
            raise _EndOfRun
