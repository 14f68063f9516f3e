"""The gate: whether a candidate is no worse than the release, field by field and language by language.

Non-inferiority. Where the report has both models' answers to the same documents, the interval of candidate minus
release must not reach below minus the tolerance; for errors, above plus the tolerance. Otherwise the figures that the
release was accepted with are compared, though they may be of other documents: neither bound of the candidate's interval
may lie more than the tolerance below the same bound of the release's.

Source: Piaggio et al. 2012, Reporting of noninferiority and equivalence randomized trials, figure 1 (paired intervals).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from smartdevdigest_ops.evaluation.metrics.names import LOWER_IS_BETTER
from smartdevdigest_ops.evaluation.report.verdict import format_interval
from smartdevdigest_ops.evaluation.systems import CANDIDATE
from smartdevdigest_ops.release.pointer import ReleaseError

RELEASE = "release"
"""The system of a report that the candidate is compared with: the release of that time."""

Figures = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Language -> field -> {"mean", "low", "high", "n"}."""


@dataclass(frozen=True)
class Comparison:
    """One field of one language, candidate beside release."""

    language: str
    field: str
    passed: bool
    sentence: str
    margin: float | None
    """How far the deciding bound is from the one it must keep; negative where it fails, None where undefined."""

    def __str__(self) -> str:
        return f"{self.field} {self.language}: {self.sentence}"


def candidate_figures(report: Mapping[str, Any], fields: Sequence[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """The candidate's figures of `fields` in a report, per language.

    Raises:
        ReleaseError: the report has no such field.
    """
    figures: dict[str, dict[str, dict[str, Any]]] = {}
    for language, by_system in report["languages"].items():
        measured = by_system[CANDIDATE]
        unknown = [name for name in fields if name not in measured]
        if unknown:
            raise ReleaseError(
                f"release.fields names {', '.join(unknown)}, which the evaluation report does not hold for {language}. "
                f"Nothing was released. Fields there: {', '.join(measured)}."
            )
        figures[language] = {name: dict(measured[name]) for name in fields}
    return figures


def compare(candidate: Figures, release: Figures, paired: Figures, *, tolerance: float) -> list[Comparison]:
    """Every field of either model, failures first.

    `candidate` and `release` are each model's own figures, `paired` those of candidate minus release on the same
    documents, where there are any.
    """
    languages = [*release, *(language for language in paired if language not in release)]
    found = []
    for language in languages:
        old, new = release.get(language, {}), candidate.get(language, {})
        for name in [*old, *(name for name in paired.get(language, {}) if name not in old and name in new)]:
            difference = paired.get(language, {}).get(name)
            if difference is not None and difference["low"] is not None:
                found.append(_of_pairs(language, name, difference, tolerance))
            else:
                found.append(_of_intervals(language, name, old.get(name), new.get(name), tolerance))
    return sorted(found, key=lambda comparison: comparison.passed)


def is_loss(name: str, difference: Mapping[str, Any], bound: float) -> bool:
    """Whether the whole interval of a paired difference lies on the worse side of `bound`: a loss that is shown."""
    if difference["low"] is None:
        return False
    return bool(difference["low"] > bound if name in LOWER_IS_BETTER else difference["high"] < -bound)


def _of_pairs(language: str, name: str, difference: Mapping[str, Any], tolerance: float) -> Comparison:
    is_error = name in LOWER_IS_BETTER
    margin = tolerance - difference["high"] if is_error else difference["low"] + tolerance
    needed = f"upper bound at most {tolerance:+.3f}" if is_error else f"lower bound at least {-tolerance:+.3f}"
    sentence = (
        f"candidate minus release {format_interval(difference, signed=True)} on the same {difference['n']} documents; "
        f"{needed} needed"
    )
    return Comparison(language, name, margin >= -_ROUNDING, sentence, margin)


def _of_intervals(
    language: str, name: str, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None, tolerance: float
) -> Comparison:
    if old is None or old["mean"] is None:
        return Comparison(language, name, True, "undefined for the release, not compared", None)
    if new is None or new["mean"] is None:
        what = "not measured" if new is None else "undefined"
        return Comparison(language, name, False, f"release {format_interval(old)}, of the candidate {what}", None)
    is_error = name in LOWER_IS_BETTER
    sign = -1 if is_error else 1
    margin = min(sign * (new[bound] - old[bound]) for bound in ("low", "high")) + tolerance
    needed = f"bounds at most {tolerance:.3f} {'above' if is_error else 'below'} the release's needed"
    sentence = (
        f"candidate {format_interval(new)} on {new['n']} documents, release {format_interval(old)} on {old['n']}; "
        f"{needed}"
    )
    return Comparison(language, name, margin >= -_ROUNDING, sentence, margin)


# Figures have 6 decimals.
_ROUNDING = 1e-9
