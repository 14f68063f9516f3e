"""What labels will cost, before anything is sent, and what they did cost."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from smartdevdigest_ops.labeling.cache import AnswerCache, Spent, Usage
from smartdevdigest_ops.labeling.errors import LabelingError
from smartdevdigest_ops.labeling.inquiry import Inquiry
from smartdevdigest_ops.settings import EndpointSettings, PriceSettings, TeacherPriceSettings

# Tokens per character of the tokenizers in use, roughly: for the quote alone. What was used is counted by the endpoint.
_TOKENS_PER_ASCII_CHARACTER = 0.27
_TOKENS_PER_OTHER_CHARACTER = 0.75
_TOKENS_PER_MESSAGE = 8


def estimate_tokens(text: str) -> int:
    """About how many tokens a text is."""
    num_ascii = len(text.encode("ascii", errors="ignore"))
    return math.ceil(num_ascii * _TOKENS_PER_ASCII_CHARACTER + (len(text) - num_ascii) * _TOKENS_PER_OTHER_CHARACTER)


def prompt_tokens(inquiry: Inquiry[Any]) -> int:
    """About how many tokens the next question of an inquiry is."""
    return sum(estimate_tokens(message["content"]) + _TOKENS_PER_MESSAGE for message in inquiry.messages())


@dataclass(frozen=True)
class Quote:
    """What a run is about to ask of a teacher."""

    teacher: str
    num_documents: int
    num_cached: int
    num_to_send: int
    num_over_budget: int
    num_second_opinions: int
    """Further requests, for documents that are labeled twice."""
    prompt_tokens: int
    answer_tokens: int
    cost: float | None = None
    """None where no price is set."""
    currency: str = ""
    minutes: float | None = None
    """At the limits; None where none is set."""
    through_batch: bool = False

    def __str__(self) -> str:
        """One line for the log."""
        requests = f"{self.num_to_send} will be sent"
        if self.num_second_opinions:
            requests += f" and {self.num_second_opinions} asked for a second opinion"
        parts = [
            f"teacher {self.teacher}: {self.num_documents} documents without a recorded label; "
            f"{self.num_cached} answers are cached, {requests}",
            f"about {self.prompt_tokens:,} prompt and {self.answer_tokens:,} answer tokens",
        ]
        if self.num_to_send + self.num_second_opinions:
            parts.append(self._cost())
            parts.append(self._time())
        if self.num_over_budget:
            parts.append(f"{self.num_over_budget} exceed max_documents and wait")
        return "; ".join(part for part in parts if part)

    def _cost(self) -> str:
        return f"about {self.cost:,.2f} {self.currency}" if self.cost is not None else ""

    def _time(self) -> str:
        if self.through_batch:
            return "within 24 hours of each batch's submission"
        return f"at least {self.minutes:.1f} minutes at the limits" if self.minutes is not None else ""


def cost_of(usage: Usage, price: PriceSettings, *, through_batch: bool = False) -> float:
    """What tokens cost, in the currency of the prices; 0 where there are none."""
    if price.input_per_million is None or price.output_per_million is None:
        return 0.0
    uncached = usage.prompt_tokens - usage.cached_tokens
    inputs = (uncached + usage.cached_tokens * price.cached_input_share) * price.input_per_million
    cost = (inputs + usage.answer_tokens * price.output_per_million) / 1e6
    return cost * price.batch_share if through_batch and isinstance(price, TeacherPriceSettings) else cost


def cost_of_all(spent: Spent, price: PriceSettings) -> float:
    """What a making cost so far."""
    return cost_of(spent.direct, price) + cost_of(spent.batch, price, through_batch=True)


def quote_endpoint(
    settings: EndpointSettings, inquiries: Sequence[Inquiry[Any]], cache: AnswerCache, *, through_batch: bool = False
) -> tuple[Usage, float | None, float | None]:
    """Tokens, cost and minutes of asking the open ones of the inquiries once each."""
    asked = [inquiry for inquiry in inquiries if inquiry.is_open]
    if not asked:
        return Usage(), 0.0 if settings.price.known else None, 0.0
    each = cache.mean_answer_tokens(asked[0].question.teacher) or asked[0].usual_answer_tokens
    usage = Usage(prompt_tokens=sum(map(prompt_tokens, asked)), answer_tokens=round(len(asked) * each))
    cost = cost_of(usage, settings.price, through_batch=through_batch) if settings.price.known else None
    limits = settings.requests
    minutes = [
        needed / limit
        for needed, limit in (
            (len(asked), limits.requests_per_minute),
            (usage.prompt_tokens + usage.answer_tokens, limits.tokens_per_minute),
        )
        if limit
    ]
    return usage, cost, max(minutes, default=None)


def refuse_above(max_cost: float | None, quote: Quote, spent: float, where: str) -> None:
    """See that the run stays within the budget.

    Raises:
        LabelingError: it would not.
    """
    if max_cost is None or not quote.cost or spent + quote.cost <= max_cost:
        return  # what costs nothing is not refused, even where more was spent than the budget is now
    already = f", after {spent:,.2f} that this making spent before," if spent else ""
    requests = quote.num_to_send + quote.num_second_opinions
    affordable = math.floor((max_cost - spent) / quote.cost * requests)
    raise LabelingError(
        f"Labeling {quote.num_to_send} documents ({requests} requests) would cost about {quote.cost:,.2f} "
        f"{quote.currency}{already} and {where}.price.max_cost is {max_cost:,.2f}: nothing was sent. Raise max_cost, "
        f"or lower {where}.max_documents (the budget is enough for about {max(0, affordable)} requests)."
    )
