"""One document's way to its label: what is asked next, what a reply is worth, and when it is enough."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from smartdevdigest_ops.artifacts import canonical_json, content_hash
from smartdevdigest_ops.labeling.cache import AnswerCache, Question, Refused, Usage
from smartdevdigest_ops.labeling.prompt import (
    PROMPT_VERSION,
    Messages,
    TeacherAnswer,
    build_messages,
    document_data,
    repair_turns,
)
from smartdevdigest_ops.labeling.sanity import SoundLabel, hold_against_document

# Why a document has no label.
OVER_BUDGET = "teacher_budget"
INVALID = "teacher_answer_invalid"
DECLINED = "teacher_declined"
FAILED = "teacher_failed"

_MAX_REPAIRED_CHARACTERS = 8000
_MAX_FAILED_RUNS = 2


@dataclass(frozen=True)
class Reply:
    """What a teacher said."""

    text: str
    usage: Usage = field(default_factory=Usage)
    is_cut_off: bool = False
    """It ended at the token limit."""
    is_declined: bool = False
    """The teacher, or a filter of its endpoint, would not label this document."""


@dataclass(frozen=True)
class Sampling:
    """How an answer is drawn."""

    temperature: float | None
    seed: int | None


def make_question(
    row: Mapping[str, Any],
    *,
    max_characters: int,
    identity: Mapping[str, Any],
    sampling: Sampling,
    other_parameters: Mapping[str, Any] | None = None,
    refusal_round: int = 0,
) -> Question:
    """The question about one document (title, content, language), with its key."""
    data = document_data(
        title=row["title"], content=row["content"], language=row["language"], max_characters=max_characters
    )
    parts = {
        "content_hash": content_hash(data),
        "prompt_version": PROMPT_VERSION,
        "teacher": canonical_json(identity),
        "parameters": canonical_json(
            {"temperature": sampling.temperature, "seed": sampling.seed, **(other_parameters or {})}
        ),
    }
    return Question(key=content_hash(canonical_json(parts)), data=data, refusal_round=refusal_round, **parts)


class Inquiry:
    """The state of one question. It survives a kill: what was replied so far is in the cache."""

    def __init__(
        self, question: Question, row: Mapping[str, Any], sampling: Sampling, cache: AnswerCache, max_answers: int
    ) -> None:
        self.question = question
        self.row = row
        self.sampling = sampling
        self._cache = cache
        self._max_answers = max_answers
        self._refused = cache.refused(question)
        self.outcome: TeacherAnswer | str | None = cache.outcome(question)
        self.is_settled = True
        """False: the outcome is for this run alone, and the next one asks again."""

    @property
    def is_open(self) -> bool:
        """Whether there is something left to ask."""
        return self.outcome is None

    def messages(self) -> Messages:
        """What to ask now. A refused answer is held up to the teacher once; if that does not help, it starts anew."""
        messages = build_messages(self.question.data)
        last = self._refused[-1] if self._refused else None
        if last is None or last.problem == DECLINED or not last.text.strip():
            return messages
        if last.problem == INVALID and sum(one.problem == INVALID for one in self._refused) % 2 == 0:
            return messages
        return messages + repair_turns(last.text[:_MAX_REPAIRED_CHARACTERS], last.problem, self.row["language"])

    def take(self, reply: Reply, *, through_batch: bool = False) -> None:
        """Judge a reply and write down what came of it, with what it cost."""
        judged = judge(reply, self.row)
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
        """End because the requests failed. The next run asks again; where that fails too, the document is left out."""
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


def judge(reply: Reply, row: Mapping[str, Any]) -> TeacherAnswer | str:
    """The answer, if a label can be made of it, or what is wrong with it."""
    if reply.is_declined:
        return DECLINED
    if reply.is_cut_off:
        return INVALID
    try:
        answer = TeacherAnswer.model_validate(json.loads(reply.text))
    except (ValidationError, ValueError, RecursionError):
        return INVALID
    sound = hold_against_document(
        answer.as_label("unnamed", row["language"]),
        title=row["title"], content=row["content"], language=row["language"],
    )  # fmt: skip
    return answer if isinstance(sound, SoundLabel) else sound
