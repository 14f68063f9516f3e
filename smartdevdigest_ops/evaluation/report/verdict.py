"""The report's first lines: what the numbers show, in sentences, and nothing that they do not show."""

from collections.abc import Mapping
from typing import Any

from smartdevdigest_ops.evaluation.metrics.names import LOWER_IS_BETTER, METRIC_TITLES
from smartdevdigest_ops.evaluation.systems import CANDIDATE, LEAD3, UNTUNED_BASE

HEADLINE_METRICS = ("rougeL", "keyword_f1", "difficulty_mae")
_OTHERS = {LEAD3: "Lead-3", UNTUNED_BASE: "the untuned base"}


def outcome(difference: Mapping[str, Any], metric: str) -> str:
    """`better`, `worse`, or `no difference shown` where the interval of candidate minus other holds 0."""
    low, high = difference["low"], difference["high"]
    if low is None or low <= 0 <= high:
        return "no difference shown"
    return "better" if (low > 0) != (metric in LOWER_IS_BETTER) else "worse"


def format_interval(interval: Mapping[str, Any], *, signed: bool = False) -> str:
    """`0.312 [0.280, 0.345]`, or `undefined`."""
    if interval["mean"] is None:
        return "undefined"
    spec = "+.3f" if signed else ".3f"
    return f"{interval['mean']:{spec}} [{interval['low']:{spec}}, {interval['high']:{spec}}]"


def write_verdict(report: Mapping[str, Any]) -> str:
    """Lines: validity, the candidate against each other system per language in the headline metrics, cautions."""
    valid = report["valid_json_rate"][CANDIDATE]
    num_valid = round(valid["mean"] * valid["n"])
    sentences = [f"{num_valid} of {valid['n']} answers of the candidate are valid digests."]
    for other, title in _OTHERS.items():
        for language, comparisons in report["comparisons"].items():
            if clauses := _clauses(comparisons.get(other, {})):
                sentences.append(f"Against {title}, {language}: {'; '.join(clauses)}.")
    if report["judge"].get("reliable"):
        sentences += _judged(report["judge"])
    if report["small_sample_warnings"]:
        few = [warning.split(":")[0] for warning in report["small_sample_warnings"]]
        sentences.append(f"Too few documents for sharp intervals: {', '.join(few)}.")
    return "\n".join(sentences)


def _judged(judge: Mapping[str, Any]) -> list[str]:
    """How often a reliable judge prefers the candidate; one that is not reliable has no say here."""
    return [
        f"Judged by {judge['name']}, {language}: preferred to {_OTHERS[other]} in "
        f"{format_interval(wins['win_rate'])} of {wins['win_rate']['n']} documents."
        for other in _OTHERS
        for language, by_other in judge["wins"].items()
        if (wins := by_other.get(other)) is not None
    ]


def _clauses(differences: Mapping[str, Any]) -> list[str]:
    clauses = []
    for wanted in ("better", "worse", "no difference shown"):
        changes = [
            f"{METRIC_TITLES[metric]} ({format_interval(differences[metric], signed=True)})"
            for metric in HEADLINE_METRICS
            if metric in differences and outcome(differences[metric], metric) == wanted
        ]
        if changes:
            clauses.append(f"{wanted} in {', '.join(changes)}")
    return clauses
