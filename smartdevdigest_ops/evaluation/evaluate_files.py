"""Any model judged on any documents and gold files of the contract."""

from dataclasses import asdict
from pathlib import Path

from smartdevdigest_ops.artifacts import canonical_json, content_hash, file_sha256
from smartdevdigest_ops.contracts import CrawlRecord
from smartdevdigest_ops.digesting.model import load_digester
from smartdevdigest_ops.drops.files import read_drop
from smartdevdigest_ops.evaluation.baselines import Baseline
from smartdevdigest_ops.evaluation.errors import EvaluationError
from smartdevdigest_ops.evaluation.evaluate import Report, Surroundings, evaluate, write_report
from smartdevdigest_ops.evaluation.gold import (
    Gold,
    TestDocument,
    attach_gold,
    read_gold_difficulty,
    read_gold_summaries,
)
from smartdevdigest_ops.evaluation.intervals import Bootstrap
from smartdevdigest_ops.evaluation.systems import CANDIDATE, LEAD3, baseline_answers, generated_answers
from smartdevdigest_ops.settings import Settings


def evaluate_files(
    documents: Path,
    gold_summaries: Path | None,
    gold_difficulty: Path | None,
    model_dir: Path,
    out: Path,
    settings: Settings,
) -> Report:
    """Evaluate a model on documents and gold from files, against Lead-3; writes the report's files into `out`.

    `documents` is any file in the crawl contract. Documents without gold are left out and counted, and so is gold
    without a document. Lead-3's keywords are weighed on these documents, for there is no train split here.

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
    identity = [file_sha256(documents), str(model_dir.resolve()), [document.url for document in chosen]]
    journal = out / f".digests-{content_hash(canonical_json(identity))}.jsonl"
    digester = load_digester(
        model_dir, device=settings.model.device, precision=settings.model.precision, threads=settings.model.threads
    )
    answers = {
        CANDIDATE: generated_answers(CANDIDATE, digester, chosen, journal=journal),
        LEAD3: baseline_answers(Baseline.fit([asdict(document) for document in found], []), chosen),
    }
    bootstrap = Bootstrap(settings.evaluation.bootstrap_samples, settings.evaluation.confidence, settings.seed)
    report = evaluate(chosen, answers, bootstrap=bootstrap, surroundings=Surroundings(coverage=coverage))
    write_report(out, report, answers)
    journal.unlink()
    return report


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
