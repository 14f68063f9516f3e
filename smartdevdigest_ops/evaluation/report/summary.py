"""What the asset shows of a report: figures that plot over its makings, and Markdown."""

from collections.abc import Iterator, Mapping
from typing import Any

from smartdevdigest_ops.evaluation.evaluate import Report
from smartdevdigest_ops.evaluation.judge.markdown import judge_markdown
from smartdevdigest_ops.evaluation.report.page import LANGUAGE_TITLES
from smartdevdigest_ops.evaluation.report.plots import plot_metrics
from smartdevdigest_ops.evaluation.report.verdict import format_interval
from smartdevdigest_ops.evaluation.systems import CANDIDATE
from smartdevdigest_ops.stage import StageContext
from smartdevdigest_ops.stage.demand import making_behind

_REPORTED_METRICS = ("rougeL", "chrf_plus_plus", "keyword_f1", "difficulty_mae", "difficulty_qwk")


def summary_metrics(report: Report, seconds: Mapping[str, float]) -> dict[str, float]:
    """The candidate's headline figures that are defined, by name; and `seconds`, those that systems took a document."""
    figures = _candidate_figures(report)
    for origin, tables in report["other_origins"].items():
        figures |= {f"{name}_{origin}": value for name, value in _candidate_figures(tables).items()}
        figures[f"num_documents_{origin}"] = sum(tables["num_documents"].values())
    figures |= {
        f"bits_per_byte_{language}_{stage}": entry["mean"]
        for stage, by_language in report["bits_per_byte"].items()
        for language, entry in by_language.items()
    }
    figures["valid_json_rate"] = report["valid_json_rate"][CANDIDATE]["mean"]
    figures |= {f"seconds_per_document_{system}": value for system, value in seconds.items()}
    figures["num_documents"] = sum(report["num_documents"].values())
    return {name: value for name, value in figures.items() if value is not None}  # undefined is no number


def _candidate_figures(tables: Mapping[str, Any]) -> dict[str, Any]:
    return {
        f"{name}_{language}": by_system[CANDIDATE][name]["mean"]
        for language, by_system in tables["languages"].items()
        for name in _REPORTED_METRICS
        if name in by_system[CANDIDATE]  # people may have given summaries or levels alone
    }


def summary_markdown(report: Report, seconds: Mapping[str, float], context: StageContext) -> str:
    """Verdict, main plots, headline figures, `seconds` a document by system, and what making the models took.

    Times differ between two runs of the same thing, so they stand here, in the record, and not in the report.
    """
    lines = [report["verdict"], "", *_figure_lines(report, report)]
    for origin, tables in report["other_origins"].items():
        lines += ["", f"Against gold of another origin: {origin}", "", *_figure_lines(report, tables)]
    for language, by_system in report["languages"].items():
        title = LANGUAGE_TITLES.get(language, language)
        plot = plot_metrics(title, by_system, report["systems"])
        lines += ["", f"![{title}: metrics with intervals](data:image/png;base64,{plot})"]
    lines += ["", *judge_markdown(report["judge"], report["systems"])]
    return "\n".join([*lines, "", *_speed_lines(report, seconds), "", *_cost_lines(context)])


def _figure_lines(report: Report, tables: Mapping[str, Any]) -> Iterator[str]:
    yield "| | " + " | ".join(_REPORTED_METRICS) + " |"
    yield "|---" * (1 + len(_REPORTED_METRICS)) + "|"
    for language, by_system in tables["languages"].items():
        for system, by_name in by_system.items():
            cells = [format_interval(by_name[name]) if name in by_name else "-" for name in _REPORTED_METRICS]
            yield f"| {language}, {report['systems'][system]} | {' | '.join(cells)} |"


def _speed_lines(report: Report, seconds: Mapping[str, float]) -> Iterator[str]:
    yield "| answers | seconds a document | tokens a document |"
    yield "|---|---:|---:|"
    for system, value in seconds.items():
        tokens = report["generation"][system]["new_tokens_per_document"]
        yield f"| {report['systems'][system]} | {value:.2f} | {tokens:.0f} |"


def _cost_lines(context: StageContext) -> list[str]:
    lines = ["| asset | seconds | peak memory, MiB | peak GPU memory, MiB | energy, kJ |", "|---|---:|---:|---:|---:|"]
    for asset in ("base_model", "m1_checkpoint", "m2_adapter", "quantized_model"):
        making = making_behind(context.store, asset, context.input(asset).version)
        if making is not None and making.resources:
            used = making.resources
            gpu, energy = used["peak_gpu_bytes"], used.get("energy_joules")
            lines.append(
                f"| {asset} | {used['wall_seconds']:.0f} | {used['peak_rss_bytes'] / 2**20:.0f} | "
                f"{'-' if gpu is None else f'{gpu / 2**20:.0f}'} | "
                f"{'not readable' if energy is None else f'{energy / 1000:.1f}'} |"
            )
    return lines
