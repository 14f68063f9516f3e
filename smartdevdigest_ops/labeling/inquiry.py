"""One question's way to its answer: what is asked next, what a reply is worth, and when it is enough."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from smartdevdigest_ops.artifacts import canonical_json, content_hash
from smartdevdigest_ops.labeling.cache import AnswerCache, Question, Refused, Usage
from smartdevdigest_ops.labeling.prompt import Messages

# Why a question has no answer.
OVER_BUDGET = "teacher_budget"
INVALID = "teacher_answer_invalid"
DECLINED = "teacher_declined"
FAILED = "teacher_failed"

_MAX_REPAIRED_CHARACTERS = 8000
_MAX_FAILED_RUNS = 2

AnswerT = TypeVar("AnswerT", bound=BaseModel)


@dataclass(frozen=True)
class TokenChoice:
    """A token that a model wrote, and what it might have written there."""

    token: str
    logprobs: Mapping[str, float]
    """Natural logarithms of the likeliest tokens' probabilities, this one's included."""


@dataclass(frozen=True)
class Reply:
    """What a model said."""

    text: str
    usage: Usage = field(default_factory=Usage)
    is_cut_off: bool = False
    """It ended at the token limit."""
    is_declined: bool = False
    """The model, or a filter of its endpoint, would not answer this question."""
    choices: tuple[TokenChoice, ...] = ()
    """Token by token, where logprobs were asked for and given."""


@dataclass(frozen=True)
class Sampling:
    """How an answer is drawn."""

    temperature: float | None
    seed: int | None


def make_question(
    data: str,
    *,
    prompt_version: str,
    identity: Mapping[str, Any],
    sampling: Sampling,
    other_parameters: Mapping[str, Any] | None = None,
    refusal_round: int = 0,
) -> Question:
    """The question that `data`, the user's turn, is asked under an instruction of this version, with its key."""
    parts = {
        "content_hash": content_hash(data),
        "prompt_version": prompt_version,
        "teacher": canonical_json(identity),
        "parameters": canonical_json(
            {"temperature": sampling.temperature, "seed": sampling.seed, **(other_parameters or {})}
        ),
    }
    return Question(key=content_hash(canonical_json(parts)), data=data, refusal_round=refusal_round, **parts)


class Inquiry(ABC, Generic[AnswerT]):
    """The state of one question. It survives a kill: what was replied so far is in the cache."""

    answer_type: type[AnswerT]
    usual_answer_tokens: int
    """For the quote, where no answer is known yet."""
    wants_logprobs = False

    def __init__(self, question: Question, sampling: Sampling, cache: AnswerCache, max_answers: int) -> None:
        self.question = question
        self.sampling = sampling
        self._cache = cache
        self._max_answers = max_answers
        self._refused = cache.refused(question)
        self.outcome: AnswerT | str | None = cache.outcome(question, self.answer_type)
        self.is_settled = True
        """False: the outcome is for this run alone, and the next one asks again."""

    @abstractmethod
    def first_messages(self) -> Messages:
        """The question: a system message, and a user's turn that holds `question.data` and nothing else."""

    @abstractmethod
    def repair_turns(self, text: str, problem: str) -> Messages:
        """Turns that hold a refused answer up to the model and say what is wrong with it."""

    @abstractmethod
    def read(self, reply: Reply) -> AnswerT | str:
        """The answer, or what is wrong with the reply."""

    @abstractmethod
    def data_within(self, max_characters: int) -> str:
        """What the user's turn holds with the document cut after so many characters."""

    def answer_schema(self) -> dict[str, Any] | None:
        """JSON Schema that the endpoint holds the answer to; None: it is plain text."""
        return None

    @property
    def is_open(self) -> bool:
        """Whether there is something left to ask."""
        return self.outcome is None

    def messages(self) -> Messages:
        """What to ask now. A refused answer is held up to the model once; if that does not help, it starts anew."""
        messages = self.first_messages()
        last = self._refused[-1] if self._refused else None
        if last is None or last.problem == DECLINED or not last.text.strip():
            return messages
        if last.problem == INVALID and sum(one.problem == INVALID for one in self._refused) % 2 == 0:
            return messages
        return messages + self.repair_turns(last.text[:_MAX_REPAIRED_CHARACTERS], last.problem)

    def take(self, reply: Reply, *, through_batch: bool = False) -> None:
        """Judge a reply and write down what came of it, with what it cost."""
        judged = self.read(reply)
        problem = judged if isinstance(judged, str) else None
        if problem is not None:
            self._refused.append(Refused(problem, reply.text))
        outcome = judged if problem is None else self._reason_to_end(problem)
        with self._cache.transaction():
            self._cache.take_reply(
                self.question, reply.usage, through_batch=through_batch, problem=problem, text=reply.text
            )
            if outcome is not None:
                self._cache.settle(self.question, outcome)
        self.outcome = outcome

    def give_up(self) -> None:
        """End because the requests failed. The next run asks again; where that fails too, the question is left out."""
        self.outcome = FAILED
        with self._cache.transaction():
            if self._cache.note_failure(self.question) >= _MAX_FAILED_RUNS:
                self._cache.settle(self.question, FAILED)
            else:
                self.is_settled = False

    def decline(self) -> None:
        """The endpoint would not take this document: remembered, and not asked again."""
        self.outcome = DECLINED
        with self._cache.transaction():
            self._cache.settle(self.question, DECLINED)

    def _reason_to_end(self, problem: str) -> str | None:
        num_invalid = sum(one.problem == INVALID for one in self._refused)
        if problem == INVALID:
            return INVALID if num_invalid >= self._max_answers else None
        # Asked again once: a teacher that copies or mistakes the language twice will do it again.
        return problem if len(self._refused) - num_invalid >= 2 else None
