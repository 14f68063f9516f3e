"""The report of what systems answered, and its files report.json, report.html and digests.jsonl.

report.json is described by `contracts.evaluation_report` (contracts/schemas/evaluation_report.schema.json). What a
caller adds to what can be told from answers is `Surroundings`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from smartdevdigest_ops.contracts.evaluation_report import EvaluationReport
from smartdevdigest_ops.evaluation.gold import Origin, TestDocument, origins, seen_by
from smartdevdigest_ops.evaluation.judge.judging import NOT_CONFIGURED
from smartdevdigest_ops.evaluation.metrics.difficulty import calibration_table, confusion_table, factor_table
from smartdevdigest_ops.evaluation.metrics.generation import generation_counts
from smartdevdigest_ops.evaluation.metrics.names import COMPARED, METRIC_TITLES
from smartdevdigest_ops.evaluation.metrics.quantization_delta import quantization_delta
from smartdevdigest_ops.evaluation.metrics.scores import system_metrics, worst_documents
from smartdevdigest_ops.evaluation.report.page import render_report
from smartdevdigest_ops.evaluation.report.verdict import write_verdict
from smartdevdigest_ops.evaluation.statistics.intervals import SMALL_SAMPLE, Bootstrap
from smartdevdigest_ops.evaluation.statistics.significance import holm, randomisation_p_value
from smartdevdigest_ops.evaluation.statistics.statistic import Metric
from smartdevdigest_ops.evaluation.systems import CANDIDATE, GENERATING, ROUNDED, SYSTEM_NAMES, UNQUANTIZED, Answer

Report = dict[str, Any]
_NUM_WORST = 5


@dataclass(frozen=True)
class Surroundings:
    """What a report holds besides the answers' figures."""

    bits_per_byte: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """{stage: {language: {"mean", "low", "high", "n"}}}; empty where it was not measured."""
    training_curves: Mapping[str, Sequence[Mapping[str, float]]] = field(default_factory=dict)
    """{asset: rows of `training_curves.read_curve`}."""
    coverage: Mapping[str, int] = field(default_factory=dict)
    """{what was left out and why: count}."""
    systems_not_run: Mapping[str, str] = field(default_factory=dict)
    """{system: why}."""
    baselines_fitted_on: str = "nothing"
    leakage: Mapping[str, Sequence[Mapping[str, str]]] | None = None
    """{kind of leak: [{test URL, train URL}]}; None where no training data was at hand."""
    judge: Mapping[str, Any] = field(default_factory=lambda: dict(NOT_CONFIGURED))
    """What a judge says (`judge.judging.Judged.section`), or {"not_run": why}."""


def evaluate(
    documents: Sequence[TestDocument],
    answers: Mapping[str, Sequence[Answer]],
    *,
    bootstrap: Bootstrap,
    surroundings: Surroundings | None = None,
) -> Report:
    """The report of every system's answers (system -> one answer per document, in order); see the module's table.

    The main tables are against the teacher's gold where there is any. A document with gold of two origins is in the
    tables of both.
    """
    main_origin, *other_origins = origins(documents)
    main, main_answers = _of_origin(documents, answers, main_origin)
    languages = {
        language: _where(main, main_answers, lambda document, language=language: document.language == language)
        for language in sorted({document.language for document in main})
    }
    tables = _tables(main, main_answers, bootstrap)
    other_tables = {origin: _tables(*_of_origin(documents, answers, origin), bootstrap) for origin in other_origins}
    candidate = {language: (of, given[CANDIDATE]) for language, (of, given) in languages.items()}
    report: Report = {
        **tables,
        "origin": main_origin,
        "other_origins": other_tables,
        "valid_json_rate": {
            system: bootstrap.mean(
                [float(answer.valid) for answer in given], [document.sampling_unit for document in documents]
            ).as_dict()
            for system, given in answers.items()
            if system in GENERATING
        },
        "generation": generation_counts(answers),
        "difficulty_confusion": {
            language: table for language, pair in candidate.items() if (table := confusion_table(*pair))
        },
        "difficulty_calibration": {
            language: rows for language, pair in candidate.items() if (rows := calibration_table(*pair, bootstrap))
        },
        "difficulty_factors": {
            language: factors
            for language, (of, given) in languages.items()
            if (factors := factor_table(of, given, bootstrap))
        },
        "quantization": {
            language: deltas
            for language, (of, given) in languages.items()
            if (deltas := _quantization_deltas(of, given, bootstrap))
        },
        "systems": {system: SYSTEM_NAMES[system] for system in answers},
        "metrics": METRIC_TITLES,
        "small_sample_warnings": [
            *_small_sample_warnings(tables),
            *(w for origin, of in other_tables.items() for w in _small_sample_warnings(of, f" with {origin} gold")),
        ],
        "worst_digests": [entry for pair in candidate.values() for entry in worst_documents(*pair, count=_NUM_WORST)],
        "bootstrap": {
            "samples": bootstrap.num_samples,
            "confidence": bootstrap.confidence,
            "seed": bootstrap.seed,
        },
        **asdict(surroundings or Surroundings()),
    }
    return report | {"verdict": write_verdict(report)}


def _small_sample_warnings(tables: Mapping[str, Any], whose: str = "") -> list[str]:
    return [
        f"{language}{whose}: {count} "
        f"{'documents' if count == tables['num_documents'][language] else 'clusters of them'}. "
        f"Below {SMALL_SAMPLE}, bootstrap intervals are too narrow; read them as a lower bound of the uncertainty."
        for language, count in tables["num_clusters"].items()
        if count < SMALL_SAMPLE
    ]


def _quantization_deltas(
    documents: Sequence[TestDocument], answers: Mapping[str, Sequence[Answer]], bootstrap: Bootstrap
) -> dict[str, dict[str, Any]]:
    """Quantized system -> what changed; empty where the unquantized one did not run."""
    if UNQUANTIZED not in answers:
        return {}
    return {
        system: delta
        for system in (CANDIDATE, ROUNDED)
        if system in answers
        and (delta := quantization_delta(documents, answers[system], answers[UNQUANTIZED], bootstrap))
    }


def _of_origin(
    documents: Sequence[TestDocument], answers: Mapping[str, Sequence[Answer]], origin: Origin
) -> tuple[list[TestDocument], dict[str, list[Answer]]]:
    """The documents with gold of one origin, seen by that alone, and the answers to them."""
    seen = seen_by(documents, origin)
    return [*seen.values()], {system: [given[index] for index in seen] for system, given in answers.items()}


def _where(
    documents: Sequence[TestDocument], answers: Mapping[str, Sequence[Answer]], wanted: Callable[..., bool]
) -> tuple[list[TestDocument], dict[str, list[Answer]]]:
    chosen = [index for index, document in enumerate(documents) if wanted(document)]
    return [documents[index] for index in chosen], {
        system: [given[index] for index in chosen] for system, given in answers.items()
    }


def _tables(
    documents: Sequence[TestDocument], answers: Mapping[str, Sequence[Answer]], bootstrap: Bootstrap
) -> dict[str, Any]:
    """`languages`, `comparisons`, `num_documents` and `num_clusters` of documents with gold of one origin."""
    tables: dict[str, Any] = {"languages": {}, "comparisons": {}, "num_documents": {}, "num_clusters": {}}
    for language in sorted({document.language for document in documents}):
        of_language, given = _where(documents, answers, lambda d, language=language: d.language == language)
        metrics = {system: system_metrics(of_language, of_system) for system, of_system in given.items()}
        tables["languages"][language] = {
            system: {name: metric.interval(bootstrap).as_dict() for name, metric in by_name.items()}
            for system, by_name in metrics.items()
        }
        tables["comparisons"][language] = {
            system: _comparison(metrics[CANDIDATE], other, bootstrap)
            for system, other in metrics.items()
            if system != CANDIDATE
        }
        tables["num_documents"][language] = len(of_language)
        tables["num_clusters"][language] = len({document.sampling_unit for document in of_language})
    return tables


def _comparison(candidate: Mapping[str, Metric], other: Mapping[str, Metric], bootstrap: Bootstrap) -> dict[str, Any]:
    shared = [name for name in candidate if name in other and name in COMPARED]
    p_values = {name: randomisation_p_value(candidate[name], other[name], bootstrap) for name in shared}
    corrected = holm(p_values)
    return {
        name: candidate[name].lead_over(other[name], bootstrap).as_dict()
        | {"p": p_values[name], "p_holm": corrected[name]}
        for name in shared
    }


def write_report(out: Path, report: Report, answers: Mapping[str, Sequence[Answer]]) -> None:
    """Write report.json, report.html and digests.jsonl: equal reports give equal bytes."""
    EvaluationReport.model_validate(report)  # before anything is there for others to read
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report, ensure_ascii=False, indent=1, allow_nan=False)
    (out / "report.json").write_text(text + "\n", encoding="utf-8")
    (out / "report.html").write_text(render_report(report), encoding="utf-8")
    lines = [json.dumps(answer.as_record(), ensure_ascii=False) for given in answers.values() for answer in given]
    (out / "digests.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
