"""Any model judged on any documents and gold files of the contract."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from smartdevdigest_ops.artifacts import ArtifactStore, canonical_json, content_hash, file_sha256
from smartdevdigest_ops.contracts import CrawlRecord
from smartdevdigest_ops.corpus.read import read_split
from smartdevdigest_ops.drops.files import read_drop
from smartdevdigest_ops.evaluation.baselines.fit import fit_baselines
from smartdevdigest_ops.evaluation.errors import EvaluationError
from smartdevdigest_ops.evaluation.evaluate import Report, Surroundings, evaluate, write_report
from smartdevdigest_ops.evaluation.gold import (
    Gold,
    TestDocument,
    attach_gold,
    read_gold_difficulty,
    read_gold_summaries,
)
from smartdevdigest_ops.evaluation.judge.judging import judge_answers
from smartdevdigest_ops.evaluation.leakage import audit_leakage
from smartdevdigest_ops.evaluation.statistics.intervals import Bootstrap
from smartdevdigest_ops.evaluation.systems import CANDIDATE, OTHER, answers_of_model, baseline_answers
from smartdevdigest_ops.settings import Settings


def evaluate_files(
    documents: Path,
    gold_summaries: Path | None,
    gold_difficulty: Path | None,
    model_dir: Path,
    out: Path,
    settings: Settings,
    *,
    against: Path | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> Report:
    """Evaluate a model on documents and gold from files, beside the baselines; writes the report's files into `out`.

    `documents` is any file in the crawl contract. Documents without gold are left out and counted, and so is gold
    without a document. `against` is another model, asked in its own way, that it is compared with. Baselines of
    difficulty are fitted on the store's labels where there are some, and the store's train split is searched for the
    documents; Lead-3's keywords are weighed on the documents of the file. The judge is that of the settings, and `log`
    takes its lines.

    Raises:
        EvaluationError: no gold file, no usable document, or no gold that names one of them.
    """
    if gold_summaries is None and gold_difficulty is None:
        raise EvaluationError(
            "There is no gold to compare with: neither --gold-summaries ({url, summary} per line) nor "
            "--gold-difficulty ({url, level} per line) was given. Give at least one of them."
        )
    summaries = read_gold_summaries(gold_summaries) if gold_summaries else {}
    difficulty = read_gold_difficulty(gold_difficulty) if gold_difficulty else {}
    found, coverage = _read_documents(documents)
    chosen = attach_gold(found, summaries, difficulty)
    if not chosen:
        raise EvaluationError(
            f"{documents}: none of its {len(found)} documents has gold: the gold files name "
            f"{len(summaries.keys() | difficulty.keys())} URLs, all others. Nothing was evaluated. URLs are compared "
            "as they are written; give gold files made for these documents."
        )
    urls = {document.url for document in found}
    coverage |= {
        "documents without gold": len(found) - len(chosen),
        "gold summaries without a document": len(summaries.keys() - urls),
        "gold difficulties without a document": len(difficulty.keys() - urls),
    }
    out.mkdir(parents=True, exist_ok=True)
    source = file_sha256(documents)
    models = {CANDIDATE: model_dir} | ({OTHER: against} if against else {})
    journals = {system: _journal(out, source, system, directory, chosen) for system, directory in models.items()}
    answers = {
        system: answers_of_model(system, directory, chosen, journal=journals[system], model=settings.model)
        for system, directory in models.items()
    }
    training = _TrainingData.of_store(settings)
    weights = settings.digesting.factor_weights.model_dump()
    pairs = [row for row in training.pairs if row["url"] not in urls]
    answers |= baseline_answers(fit_baselines([asdict(document) for document in found], pairs, weights), chosen)
    bootstrap = Bootstrap(settings.evaluation.bootstrap_samples, settings.evaluation.confidence, settings.seed)
    judged = judge_answers(
        chosen,
        answers,
        settings=settings.evaluation.judge,
        model=settings.model,
        seed=settings.seed,
        bootstrap=bootstrap,
        store_dir=settings.store_dir,
        making="-".join(sorted(journal.stem for journal in journals.values())),
        log=log,
    )
    report = evaluate(
        chosen,
        answers,
        bootstrap=bootstrap,
        surroundings=Surroundings(
            coverage=coverage,
            systems_not_run={} if against else {OTHER: "no other model was given"},
            baselines_fitted_on=f"the documents of the file; difficulty on {training.name}",
            leakage=audit_leakage(chosen, training.rows) if training.rows else None,
            judge=judged.section,
        ),
    )
    write_report(out, report, answers)
    for journal in journals.values():
        journal.unlink()
    return report


@dataclass(frozen=True)
class _TrainingData:
    """What the store's models were trained on, if the store has any."""

    name: str
    pairs: list[dict[str, Any]]
    rows: list[dict[str, Any]]
    """Of the corpus, then the labelled ones."""

    @classmethod
    def of_store(cls, settings: Settings) -> "_TrainingData":
        store = ArtifactStore(settings.store_dir)
        corpus, labels = store.current("corpus_snapshot"), store.current("labeled_pairs")
        pairs = read_split(labels.path, "train") if labels else []
        rows = read_split(corpus.path, "train") if corpus else []
        return cls(f"labeled_pairs {labels.version}" if labels else "no labels", pairs, [*rows, *pairs])


def _journal(out: Path, source: str, system: str, model_dir: Path, documents: Sequence[TestDocument]) -> Path:
    identity = [source, system, str(model_dir.resolve()), [document.url for document in documents]]
    return out / f".digests-{content_hash(canonical_json(identity))}.jsonl"


def _read_documents(path: Path) -> tuple[list[TestDocument], dict[str, int]]:
    documents: dict[str, TestDocument] = {}
    num_rejected = num_repeated = 0
    for _, record in read_drop(path):
        if not isinstance(record, CrawlRecord):
            num_rejected += 1
        elif record.url in documents:
            num_repeated += 1
        else:
            documents[record.url] = TestDocument(record.url, record.language, record.title, record.content, Gold())
    if not documents:
        raise EvaluationError(
            f"{path} holds no document in the crawl contract ({num_rejected} records were refused). Nothing was "
            "evaluated; see contracts/schemas/crawl_record.schema.json for what a record must hold."
        )
    return list(documents.values()), {"records refused": num_rejected, "records of a URL again": num_repeated}
