"""The judge's part of the report in Markdown, and its figures as text."""

from collections.abc import Mapping
from typing import Any

from smartdevdigest_ops.evaluation.judge.judging import describe_accuracy
from smartdevdigest_ops.evaluation.report.verdict import format_interval

UNRELIABLE = "unreliable"


def judged_figure(section: Mapping[str, Any], interval: Mapping[str, Any]) -> str:
    """A figure of the judge with its interval, marked where the judge is not reliable."""
    text = format_interval(interval)
    return text if section["reliable"] else f"{text} ({UNRELIABLE})"


def judge_markdown(section: Mapping[str, Any], systems: Mapping[str, str]) -> list[str]:
    """Lines: how far the judge can be believed, what it says of each system, whom it prefers."""
    if "not_run" in section:
        return [f"LLM judge: not run, {section['not_run']}"]
    dimensions = section["dimensions"]
    lines = [describe_accuracy(section), ""]
    if dimensions:
        lines += ["| judged, 1-5 | " + " | ".join(dimensions) + " |", "|---" * (len(dimensions) + 1) + "|"]
        for language, by_system in section["scores"].items():
            for system, by_dimension in by_system.items():
                cells = [judged_figure(section, by_dimension[dimension]) for dimension in dimensions]
                lines.append(f"| {language}, {systems[system]} | {' | '.join(cells)} |")
        lines.append("")
    if section["wins"]:
        lines += ["| candidate against | win rate | wins, ties, losses |", "|---|---|---|"]
        for language, by_other in section["wins"].items():
            for other, wins in by_other.items():
                lines.append(
                    f"| {language}, {systems[other]} | {judged_figure(section, wins['win_rate'])} | "
                    f"{wins['wins']}, {wins['ties']}, {wins['losses']} |"
                )
    return lines
