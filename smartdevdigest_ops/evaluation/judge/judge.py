"""The judge: what is put to it, how often, and what it says.

A question is asked once. Where the answer comes with the digits' probabilities, that is enough; where an endpoint gives
none, it is asked `repeats` times in all, each with another seed, and the digits are averaged (as G-Eval does with
models that do not show probabilities). Answers are kept as labels are (`labeling.cache`): bought once.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from smartdevdigest_ops.artifacts import canonical_json
from smartdevdigest_ops.evaluation.judge.judgement import DigitAnswer, DigitInquiry, Judgement
from smartdevdigest_ops.evaluation.judge.local import LocalJudge
from smartdevdigest_ops.labeling.cache import AnswerCache, Spent, Usage
from smartdevdigest_ops.labeling.errors import LabelingError
from smartdevdigest_ops.labeling.inquiry import Sampling, make_question
from smartdevdigest_ops.labeling.local import Machine
from smartdevdigest_ops.labeling.openai import EndpointModel
from smartdevdigest_ops.labeling.quote import cost_of_all
from smartdevdigest_ops.models.resolve import source_files
from smartdevdigest_ops.settings import JudgeSettings, Settings

CACHE_DIRECTORY = "judge_cache"
WHERE = "evaluation.judge"


class JudgeModel(Protocol):
    """The model that answers."""

    @property
    def name(self) -> str:
        """How it is called in messages."""

    def identity(self) -> Mapping[str, Any]:
        """What tells it from others."""

    def quote(self, inquiries: Sequence[DigitInquiry]) -> tuple[Usage, float | None, float | None]:
        """Tokens, cost and minutes of asking the open inquiries once each."""

    def ask(self, inquiries: Sequence[DigitInquiry]) -> None:
        """Ask until every inquiry has an outcome."""


class EndpointJudge(EndpointModel):
    """A judge behind an endpoint."""

    who = "judge"


class Judge:
    """Puts judgements to a model."""

    def __init__(self, settings: JudgeSettings, machine: Machine, cache: AnswerCache) -> None:
        self.settings = settings
        self._cache = cache
        self._is_local = settings.teacher == "local"
        self._model: JudgeModel = (
            LocalJudge(settings.local, machine, f"{WHERE}.local")
            if self._is_local
            else EndpointJudge(settings.openai, cache, f"{WHERE}.openai")
        )
        self._inquiries: dict[str, DigitInquiry] = {}
        """By the question's key: what two judgements ask alike is asked once."""

    @property
    def name(self) -> str:
        """How the judge is called."""
        return self._model.name

    def quote(self, judgements: Sequence[Judgement]) -> str:
        """One line on what asking them will cost; nothing is sent.

        Raises:
            LabelingError: it would cost more than the budget.
        """
        inquiries = self._all(judgements, 0)
        usage, cost, minutes = self._model.quote(inquiries)
        to_send = sum(inquiry.is_open for inquiry in inquiries)
        parts = [
            f"judge {self.name}: {len(inquiries)} questions; {len(inquiries) - to_send} answers are cached, "
            f"{to_send} will be sent, about {usage.prompt_tokens:,} prompt tokens"
        ]
        price = self.settings.openai.price
        if not self._is_local:
            if cost is not None:
                parts.append(f"about {cost:,.2f} {price.currency}")
            if minutes is not None:
                parts.append(f"at least {minutes:.1f} minutes at the limits")
            parts.append(f"{self.settings.repeats} times as many requests if the endpoint gives no logprobs")
            spent = self.cost_of_making()
            if cost and price.max_cost is not None and spent + cost > price.max_cost:
                raise LabelingError(
                    f"Judging ({to_send} questions) would cost about {cost:,.2f} {price.currency} after {spent:,.2f} "
                    f"that this making spent before, and {WHERE}.openai.price.max_cost is {price.max_cost:,.2f}: "
                    f"nothing was sent. Raise max_cost, or lower {WHERE}.max_documents."
                )
        return "; ".join(parts)

    def ask(self, judgements: Sequence[Judgement]) -> None:
        """Put them to the model; what has an answer already is not asked.

        Raises:
            LabelingError: it would cost more than the budget, or the model cannot be asked; what was answered is kept.
        """
        self._ask(self._all(judgements, 0))
        by_digits = [one for one in judgements if self._needs_repeats(one)]
        self._ask([one for repeat in range(1, self.settings.repeats) for one in self._all(by_digits, repeat)])

    def value(self, judgement: Judgement) -> float | None:
        """The digit that the judge answers with, expected or averaged: 1-5, of a preference 1-2; None: no answer."""
        first = self._inquiry(judgement, 0).outcome
        if not isinstance(first, DigitAnswer):
            return None
        if first.probabilities is not None:
            return first.expected
        given = [self._inquiry(judgement, repeat).outcome for repeat in range(self.settings.repeats)]
        digits = [answer.expected for answer in given if isinstance(answer, DigitAnswer)]
        return sum(digits) / len(digits)

    def readings(self) -> dict[str, int]:
        """How many questions came to a value by probabilities, how many by repeated digits, and how many to none."""
        firsts = [one.outcome for one in self._inquiries.values() if one.repeat == 0]
        answers = [one for one in firsts if isinstance(one, DigitAnswer)]
        by_probabilities = sum(one.probabilities is not None for one in answers)
        return {
            "by_probabilities": by_probabilities,
            "by_digits": len(answers) - by_probabilities,
            "unanswered": len(firsts) - len(answers),
        }

    def usage(self) -> dict[str, Any]:
        """Replies, tokens and cost of all that was asked, whichever making paid for it."""
        return self._bill(self._cache.spent_on(list(self._inquiries)))

    def usage_of_making(self) -> dict[str, Any]:
        """Replies, tokens and cost that this making paid for, killed runs of it included."""
        return self._bill(self._cache.spent(canonical_json(self._model.identity())))

    def cost_of_making(self) -> float:
        """What this making paid, in the currency of the prices."""
        return cost_of_all(self._cache.spent(canonical_json(self._model.identity())), self.settings.openai.price)

    def _bill(self, spent: Spent) -> dict[str, Any]:
        bill: dict[str, Any] = {
            "replies": spent.num_replies,
            "replies_refused": spent.num_refused,
            "prompt_tokens": spent.direct.prompt_tokens,
            "answer_tokens": spent.direct.answer_tokens,
        }
        price = self.settings.openai.price
        if not self._is_local and price.known:
            bill |= {"cost": round(cost_of_all(spent, price), 6), "currency": price.currency}
        return bill

    def _ask(self, inquiries: Sequence[DigitInquiry]) -> None:
        if any(inquiry.is_open for inquiry in inquiries):
            self._model.ask(inquiries)

    def _needs_repeats(self, judgement: Judgement) -> bool:
        first = self._inquiry(judgement, 0).outcome
        return isinstance(first, DigitAnswer) and first.probabilities is None

    def _all(self, judgements: Sequence[Judgement], repeat: int) -> list[DigitInquiry]:
        found = [self._inquiry(judgement, repeat) for judgement in judgements]
        return list({inquiry.question.key: inquiry for inquiry in found}.values())

    def _inquiry(self, judgement: Judgement, repeat: int) -> DigitInquiry:
        settings = self.settings
        seed = None if settings.seed is None else settings.seed + repeat
        sampling = Sampling(None, None) if self._is_local else Sampling(settings.temperature, seed)
        question = make_question(
            judgement.data(settings.max_document_characters),
            prompt_version=judgement.version,
            identity=self._model.identity(),
            sampling=sampling,
            other_parameters={"repeat": repeat} | ({"max_length": settings.local.max_length} if self._is_local else {}),
            refusal_round=settings.refusal_round,
        )
        if question.key not in self._inquiries:
            self._inquiries[question.key] = DigitInquiry(
                question, judgement, repeat, sampling, self._cache, settings.max_answers
            )
        return self._inquiries[question.key]


def judge_files(settings: Settings) -> list[Path]:
    """Files of a judge of this machine: other contents are another judge."""
    judge = settings.evaluation.judge
    return source_files(str(judge.local.model), settings.model.accept_terms) if judge.teacher == "local" else []
