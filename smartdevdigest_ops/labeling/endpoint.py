"""An OpenAI-compatible endpoint: its client, the bodies of requests, what replies and errors of it mean.

The key is read from the environment for the requests' header and goes nowhere else: `Endpoint.without_key` takes it out
of whatever the endpoint says before that is kept, logged or shown, because some endpoints repeat it.
"""

import os
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from smartdevdigest_ops.artifacts import canonical_json
from smartdevdigest_ops.labeling.cache import AnswerCache, Question, Usage
from smartdevdigest_ops.labeling.errors import LabelingError
from smartdevdigest_ops.labeling.inquiry import INVALID, Inquiry, Reply
from smartdevdigest_ops.labeling.prompt import TeacherAnswer, answer_schema, with_schema
from smartdevdigest_ops.labeling.quote import estimate_tokens, prompt_tokens
from smartdevdigest_ops.settings import OpenAITeacherSettings

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

ResponseFormat = Literal["json_schema", "json_object", "text"]
_WEAKER: dict[str, ResponseFormat] = {"json_schema": "json_object", "json_object": "text"}
# Codes of a refusal that is about the one document.
ABOUT_THE_DOCUMENT = (
    "content_filter",
    "content_policy_violation",
    "context_length_exceeded",
    "string_above_max_length",
)
# A 429 that no waiting helps against.
_OUT_OF_MONEY = ("insufficient_quota", "billing_hard_limit_reached")
KEPT = "Answers received so far are kept; the next run continues behind them."


class Endpoint:
    """One endpoint with one model."""

    def __init__(self, settings: OpenAITeacherSettings, cache: AnswerCache) -> None:
        self.settings = settings
        self.teacher = canonical_json(identity(settings))
        self._cache = cache
        self.response_format: ResponseFormat = next(
            (known for known in _WEAKER.values() if known == cache.ability(self.teacher)), "json_schema"
        )
        """The strongest kind of structured output that the endpoint is not known to refuse."""

    @property
    def name(self) -> str:
        """How the endpoint is called in messages."""
        return self.settings.base_url or "the default endpoint"

    def client(self) -> "AsyncOpenAI":
        """A client; retries are ours, so that all requests pause together and every try is counted.

        Raises:
            LabelingError: there is no key.
        """
        import openai

        return openai.AsyncOpenAI(
            api_key=self._key(),
            base_url=self.settings.base_url,
            timeout=self.settings.requests.timeout_seconds,
            max_retries=0,
        )

    def refuse_without_key(self) -> None:
        """See that the key is there.

        Raises:
            LabelingError: it is not.
        """
        self._key()

    def _key(self) -> str:
        name = self.settings.api_key_environment
        key = os.environ.get(name, "").strip()
        if not key:
            raise LabelingError(
                f"labeling.teacher is openai, and the environment variable {name} (labeling.openai."
                "api_key_environment) is not set: no document can be sent. Set it (to any text for a server that "
                "wants no key), or set labeling.teacher to recorded."
            )
        return key

    def without_key(self, text: str) -> str:
        """The text with the key taken out."""
        key = os.environ.get(self.settings.api_key_environment, "").strip()
        return text.replace(key, "***") if key else text

    def request(self, inquiry: Inquiry) -> dict[str, Any]:
        """Body of a chat completion that asks what the inquiry asks now."""
        settings = self.settings
        messages = inquiry.messages()
        body: dict[str, Any] = {
            "model": settings.model,
            "messages": messages,
            settings.requests.answer_tokens_parameter: settings.requests.max_answer_tokens,
        }
        for name in ("temperature", "seed"):
            if (value := getattr(inquiry.sampling, name)) is not None:
                body[name] = value
        if self.response_format == "json_schema":
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "label", "strict": True, "schema": answer_schema()},
            }
        else:
            body["messages"] = with_schema(messages)
        if self.response_format == "json_object":
            body["response_format"] = {"type": "json_object"}
        return body

    def most_tokens(self, inquiry: Inquiry) -> Usage:
        """What a request can cost at most, by the estimate of its prompt."""
        return Usage(prompt_tokens(inquiry), 0, self.settings.requests.max_answer_tokens)

    def read_reply(self, completion: Mapping[str, Any], inquiry: Inquiry) -> Reply:
        """The reply that a chat completion (its JSON) holds; whatever is missing makes it an empty one."""
        message = _first_message(completion)
        content = message.get("content")
        text = self.without_key(content) if isinstance(content, str) else ""
        estimated = Usage(prompt_tokens(inquiry), 0, estimate_tokens(text), num_estimated=1)
        return Reply(
            text=text,
            usage=_read_usage(completion.get("usage")) or estimated,
            is_cut_off=message["finish_reason"] == "length",
            is_declined=message["finish_reason"] == "content_filter" or (bool(message.get("refusal")) and not text),
        )

    def keep_unasked(self, completion: Mapping[str, Any], question: Question) -> None:
        """Keep the answer to a question that nobody asks any more, if it can be read: it was paid for."""
        text = self.without_key(str(_first_message(completion).get("content")))
        usage = _read_usage(completion.get("usage")) or Usage(0, 0, estimate_tokens(text), num_estimated=1)
        try:
            answer = TeacherAnswer.model_validate_json(text)
        except ValidationError:
            answer = None
        with self._cache.transaction():
            problem = INVALID if answer is None else None
            self._cache.take_reply(question, usage, through_batch=True, problem=problem, text=text)
            if answer is not None:
                self._cache.settle(question, answer)

    def weaken_format(self, asked: Mapping[str, Any], status: int, message: str) -> bool:
        """Whether a refusal was about the response format of this body; if so, a weaker one is asked for from now on.

        It is remembered: an endpoint that does not take a JSON Schema is found out once.
        """
        said = message.lower()
        about_format = any(
            word in said for word in ("response_format", "json_schema", "json_object", "response format")
        )
        if status not in (400, 404, 415, 422, 501) or not about_format or "response_format" not in asked:
            return False
        if asked["response_format"]["type"] == self.response_format:  # else another request found it out already
            self.response_format = _WEAKER[self.response_format]
            self._cache.note_ability(self.teacher, self.response_format)
        return True

    def explain(self, error: Exception) -> str:
        """The message of an error that ends the run."""
        import openai

        settings = self.settings
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            # Not the server's own words: some repeat the key in them.
            return (
                f"{self.name} refused the key in {settings.api_key_environment} (HTTP {error.status_code}). "
                f"Put a valid key for model {settings.model} there. {KEPT}"
            )
        said = self.without_key(str(error))[:300]
        return (
            f"{self.name} could not label with model {settings.model}: {type(error).__name__}: {said}. Check "
            f"labeling.openai.base_url and labeling.openai.model, or run again later. {KEPT}"
        )


def _first_message(completion: Mapping[str, Any]) -> dict[str, Any]:
    """The first choice's message with its `finish_reason`; whatever is not there is missing in it."""
    choices = completion.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], Mapping) else {}
    message = choice.get("message")
    return {**(message if isinstance(message, Mapping) else {}), "finish_reason": choice.get("finish_reason")}


def _read_usage(said: Any) -> Usage | None:
    if not isinstance(said, Mapping):
        return None
    prompt, answer = said.get("prompt_tokens"), said.get("completion_tokens")
    if not (isinstance(prompt, int) and isinstance(answer, int) and prompt >= 0 and answer >= 0):
        return None
    details = said.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, Mapping) else 0
    return Usage(prompt, min(cached, prompt) if isinstance(cached, int) else 0, answer)


def identity(settings: OpenAITeacherSettings) -> dict[str, Any]:
    """What tells this teacher from others, for the cache's keys."""
    return {"teacher": "openai", "base_url": settings.base_url, "model": settings.model}


def error_message(error: "APIStatusError") -> str:
    """What the endpoint says of an error: its message, parameter and code."""
    body = error.body if isinstance(error.body, Mapping) else {}
    return " ".join(str(part) for part in (error.message, body.get("param"), body.get("code")) if part)


def is_about_the_document(error: "APIStatusError") -> bool:
    """Whether the endpoint refuses this document, and would take another."""
    body = error.body if isinstance(error.body, Mapping) else {}
    return error.status_code == 413 or body.get("code") in ABOUT_THE_DOCUMENT


def is_transient(error: Exception) -> bool:
    """Whether the same request may succeed later: no connection, time-outs, 429, 5xx, a body that is cut off."""
    import openai

    if isinstance(error, openai.APIStatusError):
        body = error.body if isinstance(error.body, Mapping) else {}
        if body.get("code") in _OUT_OF_MONEY or body.get("type") in _OUT_OF_MONEY:
            return False
        return error.status_code in (408, 409, 425, 429) or (error.status_code >= 500 and error.status_code != 501)
    return isinstance(error, openai.APIConnectionError | openai.APIResponseValidationError | ValueError)


def retry_after_seconds(error: Exception, now: float | None = None) -> float | None:
    """The pause that the endpoint asks for (Retry-After in seconds or as a date, retry-after-ms), if it does."""
    headers = getattr(getattr(error, "response", None), "headers", {})
    try:
        if (value := headers.get("retry-after-ms")) is not None:
            return max(0.0, float(value) / 1000)
        if (value := headers.get("retry-after")) is None:
            return None
        try:
            return max(0.0, float(value))
        except ValueError:
            return max(0.0, parsedate_to_datetime(value).timestamp() - (time.time() if now is None else now))
    except (ValueError, TypeError, OverflowError):
        return None
