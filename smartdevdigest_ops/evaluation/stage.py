"""The stage `evaluation_report`: the candidate measured on the test split, beside the untuned base and Lead-3."""

import gc
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smartdevdigest_ops.artifacts import content_hash
from smartdevdigest_ops.contracts import Label
from smartdevdigest_ops.corpus.read import read_split
from smartdevdigest_ops.digesting.model import load_digester
from smartdevdigest_ops.digesting.prompt import PROMPT_VERSION
from smartdevdigest_ops.evaluation.baselines import Baseline
from smartdevdigest_ops.evaluation.compression import bits_per_byte_by_language, choose_texts, document_bits
from smartdevdigest_ops.evaluation.evaluate import Report, Surroundings, evaluate, write_report
from smartdevdigest_ops.evaluation.gold import TestDocument, choose_documents
from smartdevdigest_ops.evaluation.intervals import Bootstrap
from smartdevdigest_ops.evaluation.overlap import korean_self_check
from smartdevdigest_ops.evaluation.systems import (
    CANDIDATE,
    LEAD3,
    UNTUNED_BASE,
    Answer,
    baseline_answers,
    generated_answers,
    with_settings_of,
)
from smartdevdigest_ops.evaluation.verdict import format_interval, outcome
from smartdevdigest_ops.stage import Check, CheckResult, Stage, StageContext, StageReport

# Contradictory Korean that shares two Latin words: ROUGE-L measured 0.15.
_MOST_CONTRADICTORY_ROUGE = 0.2
_REPORTED_METRICS = ("rougeL", "chrf_plus_plus", "keyword_f1", "difficulty_mae", "difficulty_qwk")


def make(context: StageContext) -> StageReport:
    """Digest the test documents with every system, measure, and write the report."""
    settings = context.settings
    pairs, corpus = context.input("labeled_pairs").path, context.input("corpus_snapshot").path
    weights = settings.digesting.factor_weights.model_dump()
    documents = choose_documents(read_split(pairs, "test"), settings.evaluation.max_documents, weights)
    train_pairs, train_rows = read_split(pairs, "train"), read_split(corpus, "train")
    context.log(f"evaluating on {len(documents)} test documents")
    answers = _answers(context, documents, train_rows, train_pairs)
    bootstrap = Bootstrap(settings.evaluation.bootstrap_samples, settings.evaluation.confidence, settings.seed)
    bits = _bits_per_byte(context, read_split(corpus, "test"), bootstrap)
    report = evaluate(documents, answers, bootstrap=bootstrap, surroundings=Surroundings(bits))
    write_report(context.out, report, answers)
    context.log(report["verdict"])
    return StageReport(
        metrics=_metrics(report),
        checks=(
            check_outputs_are_valid(report),
            check_every_metric_has_an_interval(report),
            check_korean_rouge(*korean_self_check()),
            check_candidate_beats_lead3(report),
            check_no_test_document_in_train(documents, [*train_rows, *train_pairs]),
        ),
        notes={"markdown": _markdown(report), "report_html": "report.html"},
    )


def _answers(
    context: StageContext,
    documents: Sequence[TestDocument],
    train_rows: Sequence[Mapping[str, Any]],
    train_pairs: Sequence[Mapping[str, Any]],
) -> dict[str, list[Answer]]:
    candidate = context.input("quantized_model").path
    answers = {CANDIDATE: _generate(context, CANDIDATE, candidate, documents)}
    if context.settings.evaluation.untuned_base:
        linked = context.scratch / "untuned_base"
        shutil.rmtree(linked, ignore_errors=True)
        base = with_settings_of(candidate, context.input("base_model").path, linked)
        answers[UNTUNED_BASE] = _generate(context, UNTUNED_BASE, base, documents)
    labels = [Label.model_validate_json(row["label"]) for row in train_pairs]
    weights = context.settings.digesting.factor_weights.model_dump()
    return answers | {LEAD3: baseline_answers(Baseline.fit(train_rows, labels, weights), documents)}


def _generate(context: StageContext, system: str, model_dir: Path, documents: Sequence[TestDocument]) -> list[Answer]:

    model = context.settings.model
    digester = load_digester(model_dir, device=model.device, precision=model.precision, threads=model.threads)
    journal = context.scratch / f"digests-{system}.jsonl"
    answers = generated_answers(system, digester, documents, journal=journal)
    del digester
    gc.collect()  # the next system's model would double the peak
    return answers


def _bits_per_byte(
    context: StageContext, test_rows: Sequence[Mapping[str, Any]], bootstrap: Bootstrap
) -> dict[str, dict[str, dict[str, float | int | None]]]:
    texts = choose_texts(test_rows, context.settings.evaluation.bits_per_byte_documents)
    table = {}
    for stage in ("base_model", "m1_checkpoint", "quantized_model") if texts else ():
        bits = document_bits(
            context.input(stage).path,
            [text for _, text in texts],
            model_settings=context.settings.model,
            name=stage,
            journal=context.scratch / f"bits-{stage}.json",
        )
        table[stage] = bits_per_byte_by_language(texts, bits, bootstrap)
    return table


def check_outputs_are_valid(report: Report) -> CheckResult:
    """Every answer of the candidate is a digest of the contract."""
    valid = report["valid_json_rate"][CANDIDATE]
    num_valid = round(valid["mean"] * valid["n"])
    return CheckResult(
        "candidate_outputs_are_valid",
        num_valid == valid["n"],
        f"{num_valid} of {valid['n']} answers are valid digests; all must be.",
        {"valid_json_rate": valid["mean"]},
    )


def check_every_metric_has_an_interval(report: Report) -> CheckResult:
    """Every figure that is defined has bounds around it, and every language has figures."""
    missing = [
        f"{name} of {system} in {language}"
        for language, by_system in report["languages"].items()
        for system, by_name in by_system.items()
        for name, entry in by_name.items()
        if entry["mean"] is not None and (entry["low"] is None or entry["high"] is None or entry["low"] > entry["high"])
    ]
    figures = sum(len(by_name) for by_system in report["languages"].values() for by_name in by_system.values())
    return CheckResult(
        "every_metric_has_an_interval",
        not missing and figures > 0,
        f"{figures - len(missing)} of {figures} figures have an interval"
        + (f"; without: {', '.join(missing[:5])}" if missing else "."),
    )


def check_korean_rouge(identical: float, contradictory: float) -> CheckResult:
    """Korean ROUGE-L tells the same text from one that says the opposite."""
    return CheckResult(
        "korean_rouge_is_sound",
        identical == 1.0 and contradictory <= _MOST_CONTRADICTORY_ROUGE,
        f"ROUGE-L of a Korean text with itself is {identical:.3f} (must be 1), with its contradiction that shares two "
        f"Latin words {contradictory:.3f} (at most {_MOST_CONTRADICTORY_ROUGE}).",
        {"identical": identical, "contradictory": contradictory},
    )


def check_candidate_beats_lead3(report: Report) -> CheckResult:
    """In every language the interval of the candidate's ROUGE-L minus Lead-3's lies above 0."""
    lead = {language: others[LEAD3]["rougeL"] for language, others in report["comparisons"].items()}
    return CheckResult(
        "candidate_beats_lead3",
        all(outcome(difference, "rougeL") == "better" for difference in lead.values()),
        "ROUGE-L, candidate minus Lead-3: "
        + "; ".join(
            f"{language} {format_interval(difference, signed=True)} on {difference['n']} documents, "
            + outcome(difference, "rougeL")
            for language, difference in lead.items()
        ),
    )


def check_no_test_document_in_train(
    documents: Sequence[TestDocument], train_rows: Sequence[Mapping[str, Any]]
) -> CheckResult:
    """No test document's URL or content is among what the models were trained on."""
    train_urls = {row["url"] for row in train_rows}
    train_contents = {content_hash(row["content"]) for row in train_rows}
    leaked = [d.url for d in documents if d.url in train_urls or content_hash(d.content) in train_contents]
    return CheckResult(
        "no_test_document_in_train",
        not leaked,
        f"{len(leaked)} of {len(documents)} test documents are in the train split"
        + (f": {', '.join(leaked[:3])}" if leaked else "."),
    )


def _metrics(report: Report) -> dict[str, float]:
    figures = {
        f"{name}_{language}": by_system[CANDIDATE][name]["mean"]
        for language, by_system in report["languages"].items()
        for name in _REPORTED_METRICS
    }
    figures |= {
        f"bits_per_byte_{language}_{stage}": entry["mean"]
        for stage, by_language in report["bits_per_byte"].items()
        for language, entry in by_language.items()
    }
    figures["valid_json_rate"] = report["valid_json_rate"][CANDIDATE]["mean"]
    figures["num_documents"] = sum(report["num_documents"].values())
    return {name: value for name, value in figures.items() if value is not None}  # undefined is no number


def _markdown(report: Report) -> str:
    lines = [report["verdict"], "", "| | " + " | ".join(_REPORTED_METRICS) + " |", "|---" * 6 + "|"]
    for language, by_system in report["languages"].items():
        for system, by_name in by_system.items():
            cells = [format_interval(by_name[name]) for name in _REPORTED_METRICS]
            lines.append(f"| {language}, {report['systems'][system]} | {' | '.join(cells)} |")
    return "\n".join(lines)


STAGE = Stage(
    name="evaluation_report",
    make=make,
    code_version=f"3.{PROMPT_VERSION}",
    inputs=("base_model", "m1_checkpoint", "quantized_model", "labeled_pairs", "corpus_snapshot"),
    settings=("evaluation", "digesting.factor_weights", "model.max_length", "seed"),
    checks=(
        Check("candidate_outputs_are_valid", "Every answer of the candidate is a valid digest."),
        Check("every_metric_has_an_interval", "No figure is reported without its bounds."),
        Check("korean_rouge_is_sound", "Korean ROUGE is 1 for equal texts and near 0 for contradictory ones."),
        Check("candidate_beats_lead3", "The candidate's summaries are better than Lead-3's, per language.", False),
        Check("no_test_document_in_train", "No test document was trained on."),
    ),
    own_process=True,
)
