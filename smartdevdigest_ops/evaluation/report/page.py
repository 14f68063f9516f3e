"""The report as one HTML file: no script, no outside file, readable offline, narrow or wide, dark or light.

Document text is data: Jinja escapes every value, and the page's policy forbids scripts and outside loads besides.
"""

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from smartdevdigest_ops.evaluation.judge.judging import describe_accuracy
from smartdevdigest_ops.evaluation.judge.known_answers import KINDS
from smartdevdigest_ops.evaluation.judge.markdown import UNRELIABLE
from smartdevdigest_ops.evaluation.leakage import LEAKS
from smartdevdigest_ops.evaluation.metrics.names import FACTOR_METRICS, LOWER_IS_BETTER, METRICS
from smartdevdigest_ops.evaluation.report.plots import (
    plot_bits_per_byte,
    plot_metrics,
    plot_quantization,
    plot_training_curve,
)
from smartdevdigest_ops.evaluation.report.verdict import format_interval, outcome
from smartdevdigest_ops.evaluation.systems import CANDIDATE, ROUNDED, SYSTEM_NAMES, UNQUANTIZED

STAGE_TITLES = {
    "base_model": "Base model",
    "m1_checkpoint": "M1",
    UNQUANTIZED: "M2",
    ROUNDED: "Rounded M2",
    "quantized_model": "Quantized M2",
}
"""Models whose bits per byte are shown, in the order in which they come from each other."""
CURVE_TITLES = {"m1_checkpoint": "M1", "m2_adapter": "M2"}
LANGUAGE_TITLES = {"ko": "Korean", "en": "English"}
_LEVEL_NAMES = ("beginner", "elementary", "intermediate", "advanced", "expert")
_MARKS = {"better": "▲", "worse": "▼", "no difference shown": "≈"}


def render_report(report: Mapping[str, Any]) -> str:
    """The page for a report made by `evaluate`."""
    environment = Environment(
        loader=PackageLoader("smartdevdigest_ops.evaluation", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["interval"] = format_interval
    environment.filters["accuracy"] = describe_accuracy
    page = environment.get_template("report/page.html.jinja").render(
        report=report,
        tables=_tables(report, report),
        other_tables={origin: _tables(report, of_origin) for origin, of_origin in report["other_origins"].items()},
        metrics_plots={
            language: plot_metrics(LANGUAGE_TITLES.get(language, language), by_system, report["systems"])
            for language, by_system in report["languages"].items()
        },
        bits_plot=plot_bits_per_byte(report["bits_per_byte"], STAGE_TITLES) if report["bits_per_byte"] else None,
        quantization_plot=plot_quantization(
            {language: others.get(UNQUANTIZED, {}) for language, others in report["comparisons"].items()}
        )
        if report["quantization"]
        else None,
        curve_plots={
            stage: plot_training_curve(f"Training of {CURVE_TITLES[stage]}", curve)
            for stage, curve in report["training_curves"].items()
            if curve
        },
        stage_titles=STAGE_TITLES,
        language_titles=LANGUAGE_TITLES,
        level_names=_LEVEL_NAMES,
        lower_is_better=LOWER_IS_BETTER,
        candidate=CANDIDATE,
        factor_metrics=FACTOR_METRICS,
        leak_titles=LEAKS,
        system_names=SYSTEM_NAMES,
        known_kinds=KINDS,
        unreliable="" if report["judge"].get("reliable") else f" {UNRELIABLE}",
        percent=100 * report["bootstrap"]["confidence"],
    )
    return page + "\n"


def _tables(report: Mapping[str, Any], of_origin: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One per language; `of_origin` are the report's tables against gold of one origin."""
    return [_table(report, of_origin, language) for language in of_origin["languages"]]


def _table(report: Mapping[str, Any], of_origin: Mapping[str, Any], language: str) -> dict[str, Any]:
    """A row per metric, below the title of its group, and a column per system."""
    by_system = of_origin["languages"][language]
    groups: dict[str, list[dict[str, Any]]] = {}
    for name, title in report["metrics"].items():
        if any(name in by_name for by_name in by_system.values()):
            cells = [_cell(report, of_origin, language, system, name) for system in by_system]
            groups.setdefault(METRICS[name].group, []).append({"name": name, "title": title, "cells": cells})
    return {
        "language": language,
        "n": of_origin["num_documents"][language],
        "systems": [{"title": report["systems"][name], "is_candidate": name == CANDIDATE} for name in by_system],
        "groups": groups,
    }


def _cell(
    report: Mapping[str, Any], of_origin: Mapping[str, Any], language: str, system: str, name: str
) -> dict[str, Any]:
    difference = of_origin["comparisons"][language].get(system, {}).get(name)
    is_generated = name != "valid_json_rate" or system in report["valid_json_rate"]
    mark = outcome(difference, name) if difference is not None and system != CANDIDATE else None
    return {
        "interval": of_origin["languages"][language][system].get(name) if is_generated else None,
        "is_candidate": system == CANDIDATE,
        "mark": _MARKS[mark] if mark else "",
        "meaning": f"candidate {mark}" if mark else "",
        "difference": difference,
    }
