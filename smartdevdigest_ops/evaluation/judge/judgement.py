"""One question to the judge, and the digit that answers it.

The score is the mean of the digits, each weighted by the probability that the judge gives it: finer than the digit that
it writes, and without the noise of a draw.

Source: Liu et al. 2023, G-Eval (arXiv 2303.16634), section 2 (probability-weighted scores).
"""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from smartdevdigest_ops.evaluation.gold import TestDocument
from smartdevdigest_ops.evaluation.judge.prompt import (
    PROMPT_VERSION,
    preference_data,
    preference_instruction,
    rating_data,
    rating_instruction,
    repair_turns,
)
from smartdevdigest_ops.labeling.cache import AnswerCache, Question
from smartdevdigest_ops.labeling.inquiry import DECLINED, INVALID, Inquiry, Reply, Sampling, TokenChoice
from smartdevdigest_ops.labeling.prompt import Messages

_ALONE = re.compile(r"[\W_]*([1-9])[\W_]*")
_THOUGHTS = re.compile(r".*</think>", re.DOTALL)


@dataclass(frozen=True)
class Judgement(ABC):
    """What is put to the judge of one document."""

    document: TestDocument
    reference: str | None
    """The gold summary as the judge sees it; None where gold itself is judged."""

    num_digits = 5

    @property
    @abstractmethod
    def version(self) -> str:
        """Of the instruction, with which of them it is."""

    @abstractmethod
    def instruction(self) -> str:
        """The system message."""

    @abstractmethod
    def data(self, max_characters: int) -> str:
        """The user's turn, the document cut after so many characters."""


@dataclass(frozen=True)
class Rating(Judgement):
    """How good is the summary in this dimension, 1-5?"""

    dimension: str
    summary: str

    @property
    def version(self) -> str:
        """Of the instruction, with which of them it is."""
        return f"judge-{self.dimension}-{PROMPT_VERSION}"

    def instruction(self) -> str:
        """The system message."""
        return rating_instruction(self.dimension)

    def data(self, max_characters: int) -> str:
        """The user's turn, the document cut after so many characters."""
        return rating_data(self.document, self.reference, self.summary, max_characters)


@dataclass(frozen=True)
class Preference(Judgement):
    """Which summary is better, 1 or 2?"""

    first: str
    second: str

    num_digits = 2

    @property
    def version(self) -> str:
        """Of the instruction, with which of them it is."""
        return f"judge-preference-{PROMPT_VERSION}"

    def instruction(self) -> str:
        """The system message."""
        return preference_instruction()

    def data(self, max_characters: int) -> str:
        """The user's turn, the document cut after so many characters."""
        return preference_data(self.document, self.reference, self.first, self.second, max_characters)


class DigitAnswer(BaseModel):
    """A digit, and how probable each was at its place."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    digit: int
    probabilities: tuple[float, ...] | None
    """Of 1, 2, ..., adding up to 1; None where the model does not say."""

    @property
    def expected(self) -> float:
        """The probability-weighted mean of the digits; the digit itself where the probabilities are unknown."""
        if self.probabilities is None:
            return float(self.digit)
        return sum(digit * probability for digit, probability in enumerate(self.probabilities, 1))


class DigitInquiry(Inquiry[DigitAnswer]):
    """The state of one judgement."""

    answer_type = DigitAnswer
    usual_answer_tokens = 4
    wants_logprobs = True

    def __init__(
        self,
        question: Question,
        judgement: Judgement,
        repeat: int,
        sampling: Sampling,
        cache: AnswerCache,
        max_answers: int,
    ) -> None:
        super().__init__(question, sampling, cache, max_answers)
        self.judgement = judgement
        self.repeat = repeat
        """0: it is asked for the first time."""

    def first_messages(self) -> Messages:
        """The instruction, and the data."""
        return [
            {"role": "system", "content": self.judgement.instruction()},
            {"role": "user", "content": self.question.data},
        ]

    def repair_turns(self, text: str, problem: str) -> Messages:
        """The answer, and that a digit is wanted."""
        return repair_turns(text, self.judgement.num_digits)

    def data_within(self, max_characters: int) -> str:
        """The data with the document cut."""
        return self.judgement.data(max_characters)

    def read(self, reply: Reply) -> DigitAnswer | str:
        """The digit that the reply is, if it is one and nothing else; what a model thought before does not count."""
        if reply.is_declined:
            return DECLINED
        match = _ALONE.fullmatch(_THOUGHTS.sub("", reply.text))
        if match is None or int(match[1]) > self.judgement.num_digits:
            return INVALID
        digit = int(match[1])
        return DigitAnswer(
            digit=digit, probabilities=digit_probabilities(reply.choices, digit, self.judgement.num_digits)
        )


def digit_probabilities(choices: Sequence[TokenChoice], digit: int, num_digits: int) -> tuple[float, ...] | None:
    """Probabilities of 1, 2, ... where `digit` was written, of those digits alone; None where they are not known."""
    written = next((choice for choice in reversed(choices) if _digit_of(choice.token) == digit), None)
    if written is None:
        return None
    mass = [0.0] * num_digits
    for token, logprob in written.logprobs.items():
        found = _digit_of(token)
        if found is not None and found <= num_digits and not math.isnan(logprob):
            mass[found - 1] += math.exp(min(logprob, 0.0))
    total = sum(mass)
    return tuple(round(one / total, 6) for one in mass) if total > 0 else None


def _digit_of(token: str) -> int | None:
    match = _ALONE.fullmatch(token)
    return int(match[1]) if match else None
