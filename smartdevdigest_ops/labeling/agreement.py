"""How far two labels of one document agree: what the difficulty of a label can be trusted for.

Agreement per factor is Cohen's weighted kappa with quadratic weights (Cohen 1968), with its bootstrap interval, over
the documents that both labels give a digit; where one has a digit and the other null (code or no code), that is counted
apart. Documents that differ much are listed, with both labels, for a person to look at.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from smartdevdigest_ops.artifacts import content_hash
from smartdevdigest_ops.contracts import DifficultyFactors, Label
from smartdevdigest_ops.contracts.label import FACTOR_NAMES
from smartdevdigest_ops.evaluation.statistics.intervals import Bootstrap, Interval
from smartdevdigest_ops.evaluation.statistics.ordinal import kappa

_BOOTSTRAP = Bootstrap(num_samples=1000, confidence=0.95, seed=17)
_MOST_LISTED_IN_MARKDOWN = 20
_HASH_RANGE = 16**16


def is_asked_twice(document_id: str, share: float) -> bool:
    """Whether a document is among the `share` that gets two labels; the same however the corpus grows."""
    return int(content_hash(f"agreement {document_id}"), 16) < share * _HASH_RANGE


@dataclass(frozen=True)
class Comparison:
    """Two labels of one document."""

    document_id: str
    url: str
    language: str
    first: Label
    second: Label

    @property
    def score_difference(self) -> float:
        """Between the two scores, 0-4."""
        first, second = self.first.difficulty_factors, self.second.difficulty_factors
        return round(abs(first.score() - second.score()), 1)

    @property
    def largest_factor_difference(self) -> int:
        """Of the factors that both give a digit, 0-4."""
        return max(
            abs(a - b) for a, b in self._factors() if a is not None and b is not None
        )  # fmt: skip

    @property
    def differs_on_code(self) -> bool:
        """Whether only one of them found code."""
        return (self.first.difficulty_factors.code_complexity is None) != (
            self.second.difficulty_factors.code_complexity is None
        )

    def is_far_apart(self, listed_difference: float) -> bool:
        """Whether a person should look: the scores differ so far, or one factor twice as far."""
        return self.score_difference >= listed_difference or self.largest_factor_difference >= 2 * listed_difference

    def _factors(self) -> list[tuple[int | None, int | None]]:
        return [
            (getattr(self.first.difficulty_factors, name), getattr(self.second.difficulty_factors, name))
            for name in FACTOR_NAMES
        ]

    def as_row(self, listed_difference: float) -> dict[str, Any]:
        """Plain JSON, for `agreement.jsonl`."""
        return {
            "document_id": self.document_id,
            "url": self.url,
            "language": self.language,
            "score_difference": self.score_difference,
            "largest_factor_difference": self.largest_factor_difference,
            "differs_on_code": self.differs_on_code,
            "to_look_at": self.is_far_apart(listed_difference),
            "first": self.first.answer(),
            "second": self.second.answer(),
        }


@dataclass(frozen=True)
class Agreement:
    """What the comparisons say together."""

    num_documents: int
    num_to_look_at: int
    kappa: Mapping[str, Mapping[str, Interval]]
    """`all`, ko, en -> factor -> weighted kappa."""
    score_difference: Mapping[str, Interval]
    """`all`, ko, en -> mean difference of the scores."""
    share_differing_on_code: Mapping[str, Interval]

    def metrics(self) -> dict[str, float]:
        """Numbers that plot as series; what is undefined (too few documents, one digit only) is left out."""
        found: dict[str, float | None] = {
            "agreement_documents": self.num_documents,
            "agreement_documents_to_look_at": self.num_to_look_at,
        }
        for group, factors in self.kappa.items():
            suffix = "" if group == "all" else f"_{group}"
            found |= {f"agreement_kappa_{factor}{suffix}": interval.mean for factor, interval in factors.items()}
            found[f"agreement_score_difference{suffix}"] = self.score_difference[group].mean
            found[f"agreement_differs_on_code{suffix}"] = self.share_differing_on_code[group].mean
        return {name: value for name, value in found.items() if value is not None}

    def as_note(self) -> dict[str, Any]:
        """Plain JSON with the intervals."""
        return {
            "num_documents": self.num_documents,
            "num_to_look_at": self.num_to_look_at,
            "kappa": {
                group: {factor: interval.as_dict() for factor, interval in factors.items()}
                for group, factors in self.kappa.items()
            },
            "score_difference": {group: interval.as_dict() for group, interval in self.score_difference.items()},
            "differs_on_code": {group: interval.as_dict() for group, interval in self.share_differing_on_code.items()},
        }


def measure_agreement(comparisons: Sequence[Comparison], listed_difference: float) -> Agreement:
    """Agreement over all documents and per language."""
    groups = {"all": list(comparisons)}
    for language in sorted({one.language for one in comparisons}):
        groups[language] = [one for one in comparisons if one.language == language]
    return Agreement(
        num_documents=len(comparisons),
        num_to_look_at=sum(one.is_far_apart(listed_difference) for one in comparisons),
        kappa={group: _kappa_by_factor(members) for group, members in groups.items()},
        score_difference={
            group: _BOOTSTRAP.mean([one.score_difference for one in members]) for group, members in groups.items()
        },
        share_differing_on_code={
            group: _BOOTSTRAP.mean([float(one.differs_on_code) for one in members]) for group, members in groups.items()
        },
    )


def _kappa_by_factor(comparisons: Sequence[Comparison]) -> dict[str, Interval]:
    import numpy as np

    def digits(factors: DifficultyFactors, name: str) -> float:
        value = getattr(factors, name)
        return np.nan if value is None else float(value)

    found = {}
    for name in FACTOR_NAMES:
        first = np.array([digits(one.first.difficulty_factors, name) for one in comparisons], dtype=np.float64)
        second = np.array([digits(one.second.difficulty_factors, name) for one in comparisons], dtype=np.float64)
        both = ~(np.isnan(first) | np.isnan(second))
        a, b = first[both], second[both]
        found[name] = _BOOTSTRAP.interval(range(len(a)), lambda weights, a=a, b=b: kappa(a, b, weights))  # type: ignore[misc]
    return found


def agreement_markdown(agreement: Agreement, comparisons: Sequence[Comparison], listed_difference: float) -> str:
    """Agreement, and the documents to look at, the farthest apart first, for a reader."""
    lines = [
        f"## Agreement of two labels, {agreement.num_documents} documents",
        "",
        "| quadratic weighted kappa | " + " | ".join(agreement.kappa) + " |",
        "|---|" + "---|" * len(agreement.kappa),
    ]
    for factor in FACTOR_NAMES:
        cells = [_cell(factors[factor]) for factors in agreement.kappa.values()]
        lines.append(f"| {factor} | " + " | ".join(cells) + " |")
    for title, intervals in (
        ("mean difference of the scores", agreement.score_difference),
        ("share where one found code, the other none", agreement.share_differing_on_code),
    ):
        lines.append(f"| {title} | " + " | ".join(map(_cell, intervals.values())) + " |")
    far = [one for one in comparisons if one.is_far_apart(listed_difference)]
    far.sort(key=lambda one: (-one.score_difference, -one.largest_factor_difference, one.document_id))
    if far:
        lines += [
            "",
            f"### To look at: {len(far)}",
            "",
            "| document | language | first | second |",
            "|---|---|---|---|",
        ]
        lines += [
            f"| {_escaped(one.url)} | {one.language} | {_digits(one.first)} | {_digits(one.second)} |"
            for one in far[:_MOST_LISTED_IN_MARKDOWN]
        ]
        if len(far) > _MOST_LISTED_IN_MARKDOWN:
            num_more = len(far) - _MOST_LISTED_IN_MARKDOWN
            lines.append(f"\n{num_more} more, and both labels of each, are in agreement.jsonl.")
    return "\n".join(lines) + "\n"


def _cell(interval: Interval) -> str:
    if interval.mean is None:
        return f"undefined (n={interval.n})"
    return f"{interval.mean:.2f} [{interval.low:.2f}, {interval.high:.2f}] (n={interval.n})"


def _digits(label: Label) -> str:
    values = [getattr(label.difficulty_factors, name) for name in FACTOR_NAMES]
    return f"{label.difficulty_factors.score()} ({' '.join('-' if value is None else str(value) for value in values)})"


def _escaped(url: str) -> str:
    return url.replace("|", "%7C").replace("<", "%3C").replace("\n", "")
