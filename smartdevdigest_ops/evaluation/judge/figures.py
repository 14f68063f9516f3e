"""From the judge's answers to figures with intervals: how right it is, how it rates, whom it prefers.

Resamples are of documents, in clusters where they are: the several pairs and questions of a document go together.
"""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from smartdevdigest_ops.evaluation.gold import TestDocument
from smartdevdigest_ops.evaluation.judge.judge import Judge
from smartdevdigest_ops.evaluation.judge.judgement import Judgement, Preference, Rating
from smartdevdigest_ops.evaluation.judge.known_answers import PREFERENCE, KnownPair
from smartdevdigest_ops.evaluation.statistics.intervals import Bootstrap

Interval = dict[str, float | int | None]
Verdict = Literal["first", "second", "tie"]
# A preference is the expected digit of two: below the middle the first summary, above it the second.
_MIDDLE = 1.5
_WORST = 1.0


@dataclass(frozen=True)
class SystemSummaries:
    """What the systems say of the documents: system -> summary of each document, None where there is no digest."""

    documents: Sequence[TestDocument]
    by_system: Mapping[str, Sequence[str | None]]
    candidate: str

    @property
    def others(self) -> list[str]:
        """The systems beside the candidate."""
        return [system for system in self.by_system if system != self.candidate]

    def rating(self, index: int, system: str, dimension: str) -> Judgement | None:
        """The question for one rating; None where there is nothing to be rated."""
        document, summary = self.documents[index], self.by_system[system][index]
        return None if summary is None else Rating(document, document.gold.summary, dimension, summary)

    def preferences(self, index: int, other: str) -> tuple[Judgement, Judgement] | None:
        """The question with the candidate first, and with it second; None where the answer is known."""
        document = self.documents[index]
        own, others = self.by_system[self.candidate][index], self.by_system[other][index]
        if own is None or others is None or own == others:
            return None
        gold = document.gold.summary
        return Preference(document, gold, own, others), Preference(document, gold, others, own)

    def judgements(self, dimensions: Sequence[str], *, pairwise: bool) -> list[Judgement]:
        """All that is put to the judge."""
        indices = range(len(self.documents))
        found = [
            self.rating(index, system, dimension)
            for index in indices
            for system in self.by_system
            for dimension in dimensions
        ]
        pairs = [self.preferences(index, other) for index in indices for other in self.others] if pairwise else []
        return [one for one in (*found, *(one for pair in pairs if pair for one in pair)) if one is not None]


def verdict(judge: Judge, orders: tuple[Judgement, Judgement]) -> tuple[Verdict, bool] | None:
    """Whom both orders prefer (a tie where they do not agree), and whether they followed the place instead.

    None where an order has no answer.
    """
    forward, backward = (judge.value(order) for order in orders)
    if forward is None or backward is None:
        return None
    if forward < _MIDDLE < backward:
        return "first", False
    if backward < _MIDDLE < forward:
        return "second", False
    return "tie", (forward - _MIDDLE) * (backward - _MIDDLE) > 0


def known_answers(judge: Judge, pairs: Sequence[KnownPair], bootstrap: Bootstrap) -> dict[str, Any]:
    """How often the judge is right about pairs with a known answer.

    `total`, by `languages`, and by `kinds` with their `tests` (dimensions and `preference`); `position_bias`: of the
    pairs that were compared in both orders, those whose verdict followed the place. What it gave no answer to counts as
    wrong; a rating is right where the better summary's is higher, a preference where both orders agree on it.
    """
    rows = [(pair, name, _is_right(judge, pair, name)) for pair in pairs for name in pair.asked]

    def mean(chosen: Sequence[tuple[KnownPair, str, bool]]) -> Interval:
        units = [pair.document.sampling_unit for pair, _, _ in chosen]
        return bootstrap.mean([float(right) for _, _, right in chosen], units).as_dict()

    kinds = list(dict.fromkeys(pair.kind for pair in pairs))
    bias = [
        (float(found[1]), pair.document.sampling_unit)
        for pair in pairs
        if PREFERENCE in pair.asked and (found := verdict(judge, pair.preferences())) is not None
    ]
    return {
        "total": mean(rows),
        "languages": {
            language: mean([row for row in rows if row[0].document.language == language])
            for language in sorted({pair.document.language for pair in pairs})
        },
        "kinds": {
            kind: {
                "total": mean([row for row in rows if row[0].kind == kind]),
                "tests": {
                    name: mean([row for row in rows if row[0].kind == kind and row[1] == name])
                    for name in next(pair.asked for pair in pairs if pair.kind == kind)
                },
                "num_pairs": sum(pair.kind == kind for pair in pairs),
            }
            for kind in kinds
        },
        "position_bias": _mean(bias, bootstrap),
    }


def _is_right(judge: Judge, pair: KnownPair, name: str) -> bool:
    if name == PREFERENCE:
        found = verdict(judge, pair.preferences())
        return found is not None and found[0] == "first"
    better, worse = (judge.value(rating) for rating in pair.ratings(name))
    return better is not None and worse is not None and better > worse


def scores(
    judge: Judge, summaries: SystemSummaries, dimensions: Sequence[str], bootstrap: Bootstrap
) -> dict[str, dict[str, dict[str, Interval]]]:
    """Language -> system -> dimension -> mean rating, 1-5.

    A document without a digest is rated 1, unasked: a system cannot gain by not answering. A question that the judge
    gave no answer to is left out.
    """

    def rated(index: int, system: str, dimension: str) -> float | None:
        rating = summaries.rating(index, system, dimension)
        return _WORST if rating is None else judge.value(rating)

    return {
        language: {
            system: {
                dimension: _mean(
                    [
                        (value, summaries.documents[index].sampling_unit)
                        for index in indices
                        if (value := rated(index, system, dimension)) is not None
                    ],
                    bootstrap,
                )
                for dimension in dimensions
            }
            for system in summaries.by_system
        }
        for language, indices in _by_language(summaries.documents).items()
    }


def win_rates(judge: Judge, summaries: SystemSummaries, bootstrap: Bootstrap) -> dict[str, dict[str, dict[str, Any]]]:
    """Language -> other system -> the candidate's `win_rate` with its interval, and `wins`, `ties`, `losses`.

    A tie, where the two orders do not agree, counts half. Who has no digest loses to who has one, unasked; two without,
    or with the same summary, tie.
    """
    table: dict[str, dict[str, dict[str, Any]]] = {}
    for language, indices in _by_language(summaries.documents).items():
        for other in summaries.others:
            found = [(_outcome(judge, summaries, index, other), index) for index in indices]
            known = [(points, index) for points, index in found if points is not None]
            counts = Counter(points for points, _ in known)
            units = [(points, summaries.documents[index].sampling_unit) for points, index in known]
            table.setdefault(language, {})[other] = {
                "win_rate": _mean(units, bootstrap),
                "wins": counts[1.0],
                "ties": counts[0.5],
                "losses": counts[0.0],
            }
    return table


def _outcome(judge: Judge, summaries: SystemSummaries, index: int, other: str) -> float | None:
    """1, 0.5 or 0 for the candidate; None where the judge gave no answer."""
    orders = summaries.preferences(index, other)
    if orders is None:
        own, others = summaries.by_system[summaries.candidate][index], summaries.by_system[other][index]
        return 0.5 if own == others else float(own is not None)
    found = verdict(judge, orders)
    return None if found is None else {"first": 1.0, "tie": 0.5, "second": 0.0}[found[0]]


def _by_language(documents: Sequence[TestDocument]) -> dict[str, list[int]]:
    return {
        language: [index for index, document in enumerate(documents) if document.language == language]
        for language in sorted({document.language for document in documents})
    }


def _mean(values: Sequence[tuple[float, Hashable]], bootstrap: Bootstrap) -> Interval:
    return bootstrap.mean([value for value, _ in values], [unit for _, unit in values]).as_dict()
