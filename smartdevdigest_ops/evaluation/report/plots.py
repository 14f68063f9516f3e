"""Plots of the report as PNG in base64, so that the page is one file that opens offline.

English only: matplotlib's own font has no Hangul.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from smartdevdigest_ops.evaluation.metrics.names import METRIC_TITLES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLOTTED_METRICS = (
    "rouge1",
    "rouge2",
    "rougeL",
    "rougeLsum",
    "bleu",
    "chrf_plus_plus",
    "keyword_f1",
    "difficulty_within_half",
)
# Okabe & Ito 2008: told apart by readers of every colour vision.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#f0e442")
_MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")
_LEGEND_COLUMNS = 3
_MARKED_POINTS = 40


def plot_metrics(title: str, by_system: Mapping[str, Mapping[str, Any]], systems: Mapping[str, str]) -> str:
    """Metrics of one language downwards, each system's value with its interval. Base64 PNG."""
    shown = [metric for metric in PLOTTED_METRICS if any(metric in by_name for by_name in by_system.values())]
    rows_high = 0.2 + 0.12 * len(by_system)
    figure, panel = _panel(height=rows_high * len(shown) + 1.9)
    for number, (system, by_name) in enumerate(by_system.items()):
        offset = (number - (len(by_system) - 1) / 2) * 0.8 / len(by_system)
        points = [(row + offset, by_name[metric]) for row, metric in enumerate(shown) if metric in by_name]
        _draw(panel, points, systems[system], number, across=True)
    panel.set_title(title)
    panel.set_yticks(range(len(shown)), [METRIC_TITLES[metric] for metric in shown])
    panel.set_ylim(len(shown) - 0.5, -0.5)
    panel.set_xlim(-0.02, 1.02)
    panel.grid(axis="x", alpha=0.3)
    _legend(figure, panel)
    return _as_png(figure)


def plot_bits_per_byte(stages: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str]) -> str:
    """Bits per byte through the stages, a line per language. Base64 PNG."""
    figure, panel = _panel(height=3.4)
    languages = sorted({language for by_language in stages.values() for language in by_language})
    for number, language in enumerate(languages):
        points = [(x, by[language]) for x, by in enumerate(stages.values()) if language in by]
        _draw(panel, points, language, number, across=False, line="-")
    panel.set_xticks(range(len(stages)), [titles[stage] for stage in stages])
    panel.set_xlim(-0.3, len(stages) - 0.7)
    panel.set_ylim(bottom=0)
    panel.set_ylabel("bits per byte")
    panel.grid(axis="y", alpha=0.3)
    _legend(figure, panel)
    return _as_png(figure)


def plot_quantization(by_language: Mapping[str, Mapping[str, Any]]) -> str:
    """Metrics downwards, per language the paired difference that quantizing made with its interval. Base64 PNG."""
    shown = [metric for metric in PLOTTED_METRICS if any(metric in by_name for by_name in by_language.values())]
    figure, panel = _panel(height=0.3 * len(shown) + 1.6)
    for number, (language, by_name) in enumerate(by_language.items()):
        offset = (number - (len(by_language) - 1) / 2) * 0.5 / len(by_language)
        points = [(row + offset, by_name[metric]) for row, metric in enumerate(shown) if metric in by_name]
        _draw(panel, points, language, number, across=True)
    panel.axvline(0, color="#888888", linewidth=1)
    panel.set_title("Candidate minus itself before quantization")
    panel.set_yticks(range(len(shown)), [METRIC_TITLES[metric] for metric in shown])
    panel.set_ylim(len(shown) - 0.5, -0.5)
    panel.grid(axis="x", alpha=0.3)
    _legend(figure, panel)
    return _as_png(figure)


def plot_training_curve(title: str, curve: Sequence[Mapping[str, float]]) -> str:
    """Loss of one training against its steps (rows of `training_curves.read_curve`), held-out loss where measured."""
    figure, panel = _panel(height=3.0)
    for number, (name, label, line) in enumerate((("loss", "training", "-"), ("held_out_loss", "held out", "--"))):
        points = [(row["step"], row[name]) for row in curve if name in row]
        if points:
            marker = _MARKERS[number] if len(points) <= _MARKED_POINTS else None
            panel.plot(*zip(*points, strict=True), color=_COLOURS[number], linestyle=line, marker=marker, label=label)
    panel.set_title(title)
    panel.set_xlabel("optimizer steps")
    panel.set_ylabel("loss, nats per token")
    panel.grid(alpha=0.3)
    _legend(figure, panel)
    return _as_png(figure)


def _panel(*, height: float) -> tuple["Figure", Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, height), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def _draw(
    panel: Any, points: Sequence[tuple[float, Any]], label: str, number: int, *, across: bool, line: str = ""
) -> None:
    defined = [(place, entry) for place, entry in points if entry["mean"] is not None]
    values = [entry["mean"] for _, entry in defined]
    # A bootstrap bound can lie past the value in tiny samples; a whisker cannot be negative.
    whiskers = [
        [max(0.0, entry["mean"] - entry["low"]) for _, entry in defined],
        [max(0.0, entry["high"] - entry["mean"]) for _, entry in defined],
    ]
    places = [place for place, _ in defined]
    x, y = (values, places) if across else (places, values)
    error = {"xerr": whiskers} if across else {"yerr": whiskers}
    style = {
        "color": _COLOURS[number % len(_COLOURS)],
        "marker": _MARKERS[number % len(_COLOURS)],
        "markersize": 5,
        "capsize": 3,
    }
    panel.errorbar(x, y, **error, label=label, linestyle=line or "none", **style)


def _legend(figure: "Figure", panel: Any) -> None:
    handles, labels = panel.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=min(_LEGEND_COLUMNS, max(1, len(labels))),
        frameon=False,
        fontsize="small",
    )


def _as_png(figure: "Figure") -> str:
    stream = io.BytesIO()
    # Without the version of matplotlib in the file, equal pictures are equal bytes.
    figure.savefig(stream, format="png", metadata={"Software": None})
    return base64.b64encode(stream.getvalue()).decode("ascii")
