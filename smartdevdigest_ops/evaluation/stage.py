"""The stage `evaluation_report`: the candidate measured on the test split, beside other models and baselines."""

import gc
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smartdevdigest_ops.artifacts import ArtifactStore
from smartdevdigest_ops.corpus.read import read_split
from smartdevdigest_ops.digesting.model import load_digester
from smartdevdigest_ops.digesting.prompt import PROMPT_VERSION
from smartdevdigest_ops.errors import UserError
from smartdevdigest_ops.evaluation.baselines import fit_baselines
from smartdevdigest_ops.evaluation.checks import (
    CHECKS,
    check_candidate_beats_lead3,
    check_every_metric_has_an_interval,
    check_korean_rouge,
    check_no_test_document_in_train,
    check_outputs_are_valid,
)
from smartdevdigest_ops.evaluation.compression import bits_per_byte_by_language, choose_texts, document_bits
from smartdevdigest_ops.evaluation.evaluate import Report, Surroundings, evaluate, write_report
from smartdevdigest_ops.evaluation.gold import TestDocument, choose_documents
from smartdevdigest_ops.evaluation.intervals import Bootstrap
from smartdevdigest_ops.evaluation.judge.judge import judge_files
from smartdevdigest_ops.evaluation.judge.judging import judge_answers
from smartdevdigest_ops.evaluation.judge.markdown import judge_markdown
from smartdevdigest_ops.evaluation.leakage import audit_leakage
from smartdevdigest_ops.evaluation.overlap import korean_self_check
from smartdevdigest_ops.evaluation.systems import (
    CANDIDATE,
    M1,
    RELEASE,
    UNTUNED_BASE,
    Answer,
    baseline_answers,
    generated_answers,
    with_settings_of,
)
from smartdevdigest_ops.evaluation.verdict import format_interval
from smartdevdigest_ops.release import RELEASE_FILE, read_release, release_before
from smartdevdigest_ops.settings import Settings
from smartdevdigest_ops.stage import Stage, StageContext, StageReport

_REPORTED_METRICS = ("rougeL", "chrf_plus_plus", "keyword_f1", "difficulty_mae", "difficulty_qwk")


def make(context: StageContext) -> StageReport:
    """Digest the test documents with every system, measure, and write the report."""
    settings = context.settings
    pairs, corpus = context.input("labeled_pairs").path, context.input("corpus_snapshot").path
    weights = settings.digesting.factor_weights.model_dump()
    test_rows = read_split(corpus, "test")
    clusters = {row["url"]: row["cluster"] for row in test_rows if row.get("cluster")}
    documents = choose_documents(read_split(pairs, "test"), settings.evaluation.max_documents, weights, clusters)
    train_pairs, train_rows = read_split(pairs, "train"), read_split(corpus, "train")
    context.log(f"evaluating on {len(documents)} test documents")
    answers, not_run = _answers(context, documents, train_rows, train_pairs)
    bootstrap = Bootstrap(settings.evaluation.bootstrap_samples, settings.evaluation.confidence, settings.seed)
    judged = judge_answers(
        documents,
        answers,
        settings=settings.evaluation.judge,
        model=settings.model,
        seed=settings.seed,
        bootstrap=bootstrap,
        store_dir=context.store.root,
        making=context.scratch.name,
        log=context.log,
    )
    surroundings = Surroundings(
        bits_per_byte=_bits_per_byte(context, test_rows, bootstrap),
        systems_not_run=not_run,
        baselines_fitted_on="the train split",
        leakage=audit_leakage(documents, [*train_rows, *train_pairs]),
        judge=judged.section,
    )
    report = evaluate(documents, answers, bootstrap=bootstrap, surroundings=surroundings)
    write_report(context.out, report, answers)
    context.log(report["verdict"])
    return StageReport(
        metrics=_metrics(report) | dict(judged.metrics),
        checks=(
            check_outputs_are_valid(report),
            check_every_metric_has_an_interval(report),
            check_korean_rouge(*korean_self_check()),
            check_candidate_beats_lead3(report),
            check_no_test_document_in_train(report),
        ),
        notes={"markdown": _markdown(report), "report_html": "report.html"},
    )


def _answers(
    context: StageContext,
    documents: Sequence[TestDocument],
    train_rows: Sequence[Mapping[str, Any]],
    train_pairs: Sequence[Mapping[str, Any]],
) -> tuple[dict[str, list[Answer]], dict[str, str]]:
    """System -> its answers, and why a system has none."""
    settings, candidate = context.settings.evaluation, context.input("quantized_model").path
    answers = {CANDIDATE: _generate(context, CANDIDATE, candidate, documents)}
    not_run: dict[str, str] = {}
    try:
        released = _released_model(context)
        if isinstance(released, Path):
            answers[RELEASE] = _generate(context, RELEASE, released, documents)
        else:
            not_run[RELEASE] = released
    except UserError as error:
        context.log(f"the previous release is left out: {error}")
        not_run[RELEASE] = "it is damaged, or was made for another version of the prompt; the log says which"
    for system, asset, wanted in (
        (M1, "m1_checkpoint", settings.m1_without_m2),
        (UNTUNED_BASE, "base_model", settings.untuned_base),
    ):
        if not wanted:
            not_run[system] = "switched off in the settings"
            continue
        linked = context.scratch / system
        shutil.rmtree(linked, ignore_errors=True)
        model_dir = with_settings_of(candidate, context.input(asset).path, linked)
        answers[system] = _generate(context, system, model_dir, documents)
    weights = context.settings.digesting.factor_weights.model_dump()
    return answers | baseline_answers(fit_baselines(train_rows, train_pairs, weights), documents), not_run


def _released_model(context: StageContext) -> Path | str:
    """Directory of the newest released model that is not the candidate, or why there is none."""
    if not context.settings.evaluation.previous_release:
        return "switched off in the settings"
    release = release_before(context.store, context.input("quantized_model").version)
    if release is None:
        return "no other model was released before"
    model = context.store.open("quantized_model", read_release(release)["quantized_model"])
    model.refuse_damage()
    return model.path


def _outside_files(settings: Settings, store: ArtifactStore, _: str | None) -> list[Path]:
    return [*_release_file(settings, store), *judge_files(settings)]


def _release_file(settings: Settings, store: ArtifactStore) -> list[Path]:
    """What names the released model that the candidate is compared with.

    The release is made from this report, so it cannot be an input. It is looked up as a file from outside, whose
    content decides whether the report is up to date. That file is the newest release of *another* model: when the
    candidate is released itself, it stays the same file, and the report is not made again for its own success.
    """
    candidate = store.current_making("quantized_model")
    if candidate is None or not settings.evaluation.previous_release:
        return []
    release = release_before(store, candidate.version)
    return [release.path / RELEASE_FILE] if release else []


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
            cells = [format_interval(by_name[name]) if name in by_name else "-" for name in _REPORTED_METRICS]
            lines.append(f"| {language}, {report['systems'][system]} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *judge_markdown(report["judge"], report["systems"])])


STAGE = Stage(
    name="evaluation_report",
    make=make,
    code_version=f"4.{PROMPT_VERSION}",
    inputs=("base_model", "m1_checkpoint", "quantized_model", "labeled_pairs", "corpus_snapshot"),
    settings=("evaluation", "digesting.factor_weights", "model.max_length", "seed"),
    checks=CHECKS,
    outside_files=_outside_files,
    own_process=True,
)
