"""The stage `evaluation_report`: the candidate measured on the test split, beside other models and baselines."""

from pathlib import Path

from smartdevdigest_ops.artifacts import ArtifactStore
from smartdevdigest_ops.corpus.read import read_split
from smartdevdigest_ops.digesting.prompt import PROMPT_VERSION
from smartdevdigest_ops.evaluation.baselines.fit import fit_baselines
from smartdevdigest_ops.evaluation.checks import (
    CHECKS,
    check_candidate_beats_lead3,
    check_every_metric_has_an_interval,
    check_korean_rouge,
    check_no_test_document_in_train,
    check_outputs_are_valid,
)
from smartdevdigest_ops.evaluation.evaluate import Surroundings, evaluate, write_report
from smartdevdigest_ops.evaluation.human_gold import HumanGold, choose_with_human_gold, gold_files
from smartdevdigest_ops.evaluation.judge.judge import judge_files
from smartdevdigest_ops.evaluation.judge.judging import judge_answers
from smartdevdigest_ops.evaluation.leakage import audit_leakage
from smartdevdigest_ops.evaluation.metrics.generation import seconds_per_document
from smartdevdigest_ops.evaluation.metrics.overlap import korean_self_check
from smartdevdigest_ops.evaluation.models import bits_per_byte_of_models, model_answers, previous_release_file
from smartdevdigest_ops.evaluation.report.page import CURVE_TITLES
from smartdevdigest_ops.evaluation.report.summary import summary_markdown, summary_metrics
from smartdevdigest_ops.evaluation.report.training_curves import read_curve
from smartdevdigest_ops.evaluation.statistics.intervals import Bootstrap
from smartdevdigest_ops.evaluation.systems import baseline_answers
from smartdevdigest_ops.settings import Settings
from smartdevdigest_ops.stage import Stage, StageContext, StageReport
from smartdevdigest_ops.training.trainer.run import CURVE_FILE


def make(context: StageContext) -> StageReport:
    """Digest the test documents with every system, measure, and write the report."""
    settings = context.settings
    pairs, corpus = context.input("labeled_pairs").path, context.input("corpus_snapshot").path
    weights = settings.digesting.factor_weights.model_dump()
    test_rows = read_split(corpus, "test")
    labelled, human = read_split(pairs, "test"), HumanGold.of_settings(settings)
    max_documents = settings.evaluation.max_documents
    documents, left_out = choose_with_human_gold(labelled, test_rows, human, max_documents, weights)
    train_pairs, train_rows = read_split(pairs, "train"), read_split(corpus, "train")
    context.log(f"evaluating on {len(documents)} test documents")
    for reason, count in left_out.items():
        context.log(f"{reason}: {count}")
    answers, not_run = model_answers(context, documents)
    answers |= baseline_answers(fit_baselines(train_rows, train_pairs, weights), documents)
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
        bits_per_byte=bits_per_byte_of_models(context, test_rows, bootstrap),
        training_curves={stage: read_curve(context.input(stage).path / CURVE_FILE) for stage in CURVE_TITLES},
        coverage=left_out,
        systems_not_run=not_run,
        baselines_fitted_on="the train split",
        leakage=audit_leakage(documents, [*train_rows, *train_pairs]),
        judge=judged.section,
    )
    report = evaluate(documents, answers, bootstrap=bootstrap, surroundings=surroundings)
    write_report(context.out, report, answers)
    context.log(report["verdict"])
    seconds = seconds_per_document(answers)
    return StageReport(
        metrics=summary_metrics(report, seconds) | dict(judged.metrics),
        checks=(
            check_outputs_are_valid(report),
            check_every_metric_has_an_interval(report),
            check_korean_rouge(*korean_self_check()),
            check_candidate_beats_lead3(report),
            check_no_test_document_in_train(report),
        ),
        notes={"markdown": summary_markdown(report, seconds, context), "report_html": "report.html"},
    )


def _outside_files(settings: Settings, store: ArtifactStore, _: str | None) -> list[Path]:
    return [*previous_release_file(settings, store), *judge_files(settings), *gold_files(settings)]


STAGE = Stage(
    name="evaluation_report",
    make=make,
    code_version=f"7.{PROMPT_VERSION}",
    inputs=("base_model", "m1_checkpoint", "m2_adapter", "quantized_model", "labeled_pairs", "corpus_snapshot"),
    settings=("evaluation", "digesting.factor_weights", "model.max_length", "model.use_gptq", "seed"),
    checks=CHECKS,
    outside_files=_outside_files,
    own_process=True,
)
