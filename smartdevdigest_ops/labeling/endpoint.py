"""An OpenAI-compatible endpoint: its client, the bodies of requests, what replies and errors of it mean.

The key is read from the environment for the requests' header and goes nowhere else: `Endpoint.without_key` takes it out
of whatever the endpoint says before that is kept, logged or shown, because some endpoints repeat it.
"""

import os
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Literal

from smartdevdigest_ops.artifacts import canonical_json
from smartdevdigest_ops.labeling.cache import AnswerCache, Usage
from smartdevdigest_ops.labeling.errors import LabelingError
from smartdevdigest_ops.labeling.inquiry import Inquiry, Reply, TokenChoice
from smartdevdigest_ops.labeling.prompt import with_schema
from smartdevdigest_ops.labeling.quote import estimate_tokens, prompt_tokens
from smartdevdigest_ops.settings import EndpointSettings

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
_ABOUT_THE_FORMAT = ("response_format", "response format", "json_schema", "json_object")
_UNSUPPORTED = (400, 404, 415, 422, 501)
# What endpoints take as top_logprobs: most of them 20, some 5, some none.
_MOST_LOGPROBS = (20, 5, 0)
# A 429 that no waiting helps against.
_OUT_OF_MONEY = ("insufficient_quota", "billing_hard_limit_reached")
KEPT = "Answers received so far are kept; the next run continues behind them."


class Endpoint:
    """One endpoint with one model; `where` is the path of its settings, for messages."""

    def __init__(self, settings: EndpointSettings, cache: AnswerCache, where: str) -> None:
        self.settings = settings
        self.where = where
        self.teacher = canonical_json(identity(settings))
        self._cache = cache
        self.response_format: ResponseFormat = next(
            (known for known in _WEAKER.values() if known == cache.ability(self.teacher)), "json_schema"
        )
        """The strongest kind of structured output that the endpoint is not known to refuse."""
        self.num_logprobs = _MOST_LOGPROBS[0]
        """So many of a token's alternatives are asked for, where they are wanted."""

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
                f"{self.where} names a model to ask, and the environment variable {name} ({self.where}."
                "api_key_environment) is not set: nothing can be sent. Set it (to any text for a server that wants no "
                f"key), or set {self.where.rpartition('.')[0]}.teacher to another."
            )
        return key

    def without_key(self, text: str) -> str:
        """The text with the key taken out."""
        key = os.environ.get(self.settings.api_key_environment, "").strip()
        return text.replace(key, "***") if key else text

    def request(self, inquiry: Inquiry[Any]) -> dict[str, Any]:
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
        if inquiry.wants_logprobs and self.num_logprobs:
            body |= {"logprobs": True, "top_logprobs": self.num_logprobs}
        schema = inquiry.answer_schema()
        if schema is not None and self.response_format == "json_schema":
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": schema},
            }
        elif schema is not None:
            body["messages"] = with_schema(messages, schema)
            if self.response_format == "json_object":
                body["response_format"] = {"type": "json_object"}
        return body

    def most_tokens(self, inquiry: Inquiry[Any]) -> Usage:
        """What a request can cost at most, by the estimate of its prompt."""
        return Usage(prompt_tokens(inquiry), 0, self.settings.requests.max_answer_tokens)

    def read_reply(self, completion: Mapping[str, Any], inquiry: Inquiry[Any]) -> Reply:
        """The reply that a chat completion (its JSON) holds; whatever is missing makes it an empty one."""
        message = first_message(completion)
        content = message.get("content")
        text = self.without_key(content) if isinstance(content, str) else ""
        estimated = Usage(prompt_tokens(inquiry), 0, estimate_tokens(text), num_estimated=1)
        return Reply(
            text=text,
            usage=read_usage(completion.get("usage")) or estimated,
            is_cut_off=message["finish_reason"] == "length",
            is_declined=message["finish_reason"] == "content_filter" or (bool(message.get("refusal")) and not text),
            choices=read_choices(completion) if inquiry.wants_logprobs else (),
        )

    def weaken(self, asked: Mapping[str, Any], status: int, message: str) -> bool:
        """Whether a refusal was about the response format or the logprobs of this body; if so, less is asked for.

        That an endpoint does not take a JSON Schema is remembered, and found out once.
        """
        if status not in _UNSUPPORTED:
            return False
        said = message.lower()
        if "response_format" in asked and any(word in said for word in _ABOUT_THE_FORMAT):
            if asked["response_format"]["type"] == self.response_format:  # else another request found it out already
                self.response_format = _WEAKER[self.response_format]
                self._cache.note_ability(self.teacher, self.response_format)
            return True
        if "top_logprobs" in asked and "logprobs" in said:
            fewer = [number for number in _MOST_LOGPROBS if number < asked["top_logprobs"]]
            self.num_logprobs = min(self.num_logprobs, max(fewer))
            return True
        return False

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
            f"{self.name} could not answer with model {settings.model}: {type(error).__name__}: {said}. Check "
            f"{self.where}.base_url and {self.where}.model, or run again later. {KEPT}"
        )


def _first_choice(completion: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = completion.get("choices")
    return choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], Mapping) else {}


def first_message(completion: Mapping[str, Any]) -> dict[str, Any]:
    """The first choice's message with its `finish_reason`; whatever is not there is missing in it."""
    choice = _first_choice(completion)
    message = choice.get("message")
    return {**(message if isinstance(message, Mapping) else {}), "finish_reason": choice.get("finish_reason")}


def read_choices(completion: Mapping[str, Any]) -> tuple[TokenChoice, ...]:
    """The first choice's tokens with their likeliest alternatives; none where they are not given in full."""
    logprobs = _first_choice(completion).get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    try:
        return tuple(
            TokenChoice(
                str(entry["token"]),
                {str(one["token"]): float(one["logprob"]) for one in (*entry["top_logprobs"], entry)},
            )
            for entry in content or ()
            if entry["top_logprobs"]
        )
    except (KeyError, TypeError, ValueError):
        return ()  # another format: the answer counts without it


def read_usage(said: Any) -> Usage | None:
    """The tokens that a reply says it cost; None where it does not."""
    if not isinstance(said, Mapping):
        return None
    prompt, answer = said.get("prompt_tokens"), said.get("completion_tokens")
    if not (isinstance(prompt, int) and isinstance(answer, int) and prompt >= 0 and answer >= 0):
        return None
    details = said.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, Mapping) else 0
    return Usage(prompt, min(cached, prompt) if isinstance(cached, int) else 0, answer)


def identity(settings: EndpointSettings) -> dict[str, Any]:
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


def is_server_error(error: Exception) -> bool:
    """Whether the server broke on this request (500), which is no outage: others may get through."""
    import openai

    return isinstance(error, openai.APIStatusError) and error.status_code == 500


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
