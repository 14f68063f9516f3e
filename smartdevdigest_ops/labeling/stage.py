"""labeled_pairs: one row per document that has a label, in the document's split."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from smartdevdigest_ops.artifacts import Artifact, ArtifactStore
from smartdevdigest_ops.contracts import Label
from smartdevdigest_ops.corpus.read import read_corpus
from smartdevdigest_ops.corpus.url import canonical_url
from smartdevdigest_ops.labeling.agreement import Agreement, Comparison, agreement_markdown, measure_agreement
from smartdevdigest_ops.labeling.asking import CACHE_DIRECTORY, MODELS_DIRECTORY, LabelRun, Row
from smartdevdigest_ops.labeling.cache import AnswerCache
from smartdevdigest_ops.labeling.checks import CHECKS, LabelCounts, check_labels
from smartdevdigest_ops.labeling.errors import LabelingError
from smartdevdigest_ops.labeling.inquiry import OVER_BUDGET
from smartdevdigest_ops.labeling.label_inquiry import LabelInquiry
from smartdevdigest_ops.labeling.local import Machine
from smartdevdigest_ops.labeling.prompt import TeacherAnswer
from smartdevdigest_ops.labeling.quote import Quote
from smartdevdigest_ops.labeling.recorded import RecordedLabels, find_label_files, read_labels
from smartdevdigest_ops.labeling.sanity import SoundLabel, hold_against_document
from smartdevdigest_ops.models.resolve import source_files
from smartdevdigest_ops.settings import Settings
from smartdevdigest_ops.stage import Stage, StageContext, StageReport

SPLITS = ("train", "valid", "test")
DOCUMENT_COLUMNS = ("document_id", "url", "language", "title", "content", "source_type")
UNLABELED = "no_recorded_label"


@dataclass
class _Pairs:
    """Rows to write, and what is left out with its reason."""

    rows: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {split: [] for split in SPLITS})
    left_out: list[dict[str, str]] = field(default_factory=list)
    removed: Counter[str] = field(default_factory=Counter)
    labeled_urls: set[str] = field(default_factory=set)
    """Canonical URLs whose recorded label found its document."""


def make_labeled_pairs(context: StageContext) -> StageReport:
    """Join labels to the corpus's documents; ask teachers for the rest and for second opinions."""
    settings = context.settings
    recorded = read_labels(find_label_files(settings.data.label_paths))
    documents = _read_documents(context.store, context.input("cleaned_corpus"))
    unlabeled, labeled = _apart(documents, recorded)
    pairs = _Pairs()
    for row in labeled:
        key = canonical_url(row["url"])
        pairs.labeled_urls.add(key)
        _add(pairs, row, recorded.labels[key])
    # The making is named by its fingerprint: what a killed run of it spent counts as its own.
    with AnswerCache(context.store.root / CACHE_DIRECTORY, making=context.scratch.name) as cache:
        run = _plan_run(settings, context.store, cache, unlabeled, labeled, scratch=context.scratch)
        quotes = run.quotes()
        for quote in quotes:
            context.log(str(quote))
        run.ask()
        spent = run.metrics()
    if settings.labeling.teacher == "recorded":
        pairs.left_out += [_left_out(row, UNLABELED) for row in unlabeled]
    else:
        _take_answers(pairs, unlabeled, run.first)
    opinions = _compare(pairs, [*unlabeled, *labeled], run.second)

    for split, rows in pairs.rows.items():
        rows.sort(key=lambda row: str(row["document_id"]))
        _write_pairs(context.out / f"{split}.parquet", rows)
    pairs.left_out.sort(key=lambda row: row["document_id"])
    _write_json_lines(context.out / "left_out.jsonl", pairs.left_out)
    _write_json_lines(context.out / "label_rejects.jsonl", [asdict(reject) for reject in recorded.rejects])
    agreement = _write_agreement(context, opinions) if settings.labeling.agreement.share else None
    return _report(context, recorded, pairs, len(documents), _Asked(quotes, spent, opinions, agreement))


def quote_labels(settings: Settings) -> list[str]:
    """What making `labeled_pairs` now would ask of its teachers, one line each; nothing is sent.

    Raises:
        LabelingError: there is no corpus, or a label file is missing, or it would cost more than the budget.
    """
    store = ArtifactStore(settings.store_dir)
    corpus = store.current("cleaned_corpus")
    if corpus is None:
        raise LabelingError(
            f"There is no cleaned_corpus in {store.root}, so nobody knows which documents are to be labeled. "
            "`smartdevdigest run --select cleaned_corpus` makes it."
        )
    corpus.refuse_damage()
    recorded = read_labels(find_label_files(settings.data.label_paths))
    unlabeled, labeled = _apart(_read_documents(store, corpus), recorded)
    with AnswerCache(store.root / CACHE_DIRECTORY, making="quote") as cache:
        run = _plan_run(settings, store, cache, unlabeled, labeled)
        lines = [str(quote) for quote in run.quotes()]
        run.refuse_above_budget()
    counted = f"{len(unlabeled) + len(labeled)} documents, {len(labeled)} with a recorded label"
    return [counted, *(lines or ["labeling.teacher is recorded: nobody is asked, nothing is paid"])]


@dataclass(frozen=True)
class _SecondOpinions:
    """What came of the second opinions."""

    comparisons: list[Comparison] = field(default_factory=list)
    num_asked: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    """Second opinions that compare with nothing, by reason."""


@dataclass(frozen=True)
class _Asked:
    """What teachers were asked, and what it came to."""

    quotes: list[Quote]
    spent: dict[str, float]
    opinions: _SecondOpinions
    agreement: Agreement | None


def _read_documents(store: ArtifactStore, corpus: Artifact) -> list[Row]:
    return [row for table in read_corpus(store, corpus, (*DOCUMENT_COLUMNS, "split")) for row in table.to_pylist()]


def _apart(documents: Sequence[Row], recorded: RecordedLabels) -> tuple[list[Row], list[Row]]:
    """Documents without and with a recorded label."""
    unlabeled: list[Row] = []
    labeled: list[Row] = []
    for row in documents:
        (labeled if canonical_url(row["url"]) in recorded.labels else unlabeled).append(row)
    return unlabeled, labeled


def _plan_run(
    settings: Settings,
    store: ArtifactStore,
    cache: AnswerCache,
    unlabeled: Sequence[Row],
    labeled: Sequence[Row],
    scratch: Path | None = None,
) -> LabelRun:
    machine = Machine(store.root / MODELS_DIRECTORY, settings.model)
    return LabelRun(settings.labeling, machine, cache, unlabeled=unlabeled, labeled=labeled, scratch=scratch)


def _take_answers(pairs: _Pairs, rows: Sequence[Row], inquiries: Mapping[str, LabelInquiry]) -> None:
    for row in rows:
        inquiry = inquiries.get(row["document_id"])
        outcome = inquiry.outcome if inquiry else OVER_BUDGET
        if isinstance(outcome, TeacherAnswer):
            _add(pairs, row, outcome.as_label(row["url"], row["language"]))
        else:
            pairs.left_out.append(_left_out(row, outcome or OVER_BUDGET))


def _compare(pairs: _Pairs, rows: Sequence[Row], inquiries: Mapping[str, LabelInquiry]) -> _SecondOpinions:
    """Second opinions beside the labels that are used."""
    used = {row["document_id"]: Label.model_validate_json(row["label"]) for rows in pairs.rows.values() for row in rows}
    opinions = _SecondOpinions(num_asked=len(inquiries))
    for row in sorted(rows, key=lambda row: str(row["document_id"])):
        inquiry = inquiries.get(row["document_id"])
        if inquiry is None:
            continue
        outcome = inquiry.outcome
        if row["document_id"] not in used:
            opinions.left_out["first_label_missing"] += 1
        elif isinstance(outcome, TeacherAnswer):
            second = outcome.as_label(row["url"], row["language"])
            first = used[row["document_id"]]
            opinions.comparisons.append(Comparison(row["document_id"], row["url"], row["language"], first, second))
        else:
            opinions.left_out[str(outcome)] += 1
    return opinions


def _write_agreement(context: StageContext, opinions: _SecondOpinions) -> Agreement:
    listed = context.settings.labeling.agreement.listed_difference
    _write_json_lines(context.out / "agreement.jsonl", [one.as_row(listed) for one in opinions.comparisons])
    agreement = measure_agreement(opinions.comparisons, listed)
    text = agreement_markdown(agreement, opinions.comparisons, listed)
    (context.out / "agreement.md").write_text(text, encoding="utf-8")
    return agreement


def _report(
    context: StageContext, recorded: RecordedLabels, pairs: _Pairs, num_documents: int, asked: _Asked
) -> StageReport:
    reasons = Counter(row["reason"] for row in pairs.left_out)
    counts = LabelCounts(
        num_documents=num_documents,
        num_labeled=sum(map(len, pairs.rows.values())),
        left_out=dict(sorted(reasons.items())),
        num_lines=recorded.num_lines,
        num_rejected_lines=len(recorded.rejects),
        num_replaced_labels=recorded.num_replaced,
        num_labels_without_document=len(set(recorded.labels) - pairs.labeled_urls),
        num_joined_labels=len(pairs.labeled_urls),
        num_second_opinions=asked.opinions.num_asked,
        num_compared=len(asked.opinions.comparisons),
        second_opinions_left_out=dict(sorted(asked.opinions.left_out.items())),
    )
    context.log(
        f"{counts.num_labeled} of {num_documents} documents have a label; left out: "
        f"{', '.join(f'{reason} {number}' for reason, number in counts.left_out.items()) or 'none'}. "
        f"{counts.num_rejected_lines} label lines rejected, {counts.num_labels_without_document} labels lack a document"
    )
    metrics: dict[str, float] = {
        "num_documents": counts.num_documents,
        "num_labeled": counts.num_labeled,
        "num_left_out": len(pairs.left_out),
        "num_rejected_lines": counts.num_rejected_lines,
        "num_replaced_labels": counts.num_replaced_labels,
        "num_labels_without_document": counts.num_labels_without_document,
        "num_removed_keywords": pairs.removed["keywords"],
        "num_removed_terms": pairs.removed["terms"],
    }
    metrics |= {f"num_labeled_{split}": len(rows) for split, rows in pairs.rows.items()}
    metrics |= asked.spent
    notes: dict[str, Any] = {
        "left_out": counts.left_out,
        "rejects": [asdict(reject) for reject in recorded.rejects[:20]],
        "quotes": [str(quote) for quote in asked.quotes],
    }
    if asked.spent:
        context.log("teachers: " + ", ".join(f"{name} {number:g}" for name, number in asked.spent.items()))
    if asked.agreement is not None:
        metrics |= asked.agreement.metrics()
        notes["agreement"] = asked.agreement.as_note()
        notes["markdown"] = (context.out / "agreement.md").read_text(encoding="utf-8")
    return StageReport(metrics=metrics, checks=check_labels(context.out, counts), notes=notes)


def _add(pairs: _Pairs, row: Row, label: Label) -> None:
    sound = hold_against_document(label, title=row["title"], content=row["content"], language=row["language"])
    if not isinstance(sound, SoundLabel):
        pairs.left_out.append(_left_out(row, sound))
        return
    pairs.removed["keywords"] += sound.num_removed_keywords
    pairs.removed["terms"] += sound.num_removed_terms
    # The document's own address: the label may have been found through another spelling of it.
    kept = sound.label.model_copy(update={"url": row["url"]})
    pairs.rows[row["split"]].append({name: row[name] for name in DOCUMENT_COLUMNS} | {"label": kept.model_dump_json()})


def _left_out(row: Row, reason: str) -> dict[str, str]:
    return {"document_id": row["document_id"], "url": row["url"], "split": row["split"], "reason": reason}


def _write_pairs(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = (*DOCUMENT_COLUMNS, "label")
    # Named types: a split without a row keeps the columns of the others.
    schema = pa.schema([(name, pa.string()) for name in columns])
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), path, compression="zstd")


def _write_json_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def _outside_files(settings: Settings, _store: ArtifactStore, _partition: str | None) -> list[Path]:
    labeling, terms = settings.labeling, settings.model.accept_terms
    local = [labeling.local] if labeling.teacher == "local" else []
    if labeling.agreement.share and labeling.agreement.teacher == "local" and labeling.agreement.local:
        local.append(labeling.agreement.local)
    # A model whose files change is another teacher.
    models = [file for teacher in local for file in source_files(str(teacher.model), terms)]
    return [*find_label_files(settings.data.label_paths), *models]


STAGE = Stage(
    name="labeled_pairs",
    make=make_labeled_pairs,
    code_version="3",
    inputs=("cleaned_corpus",),
    settings=("labeling", "data.label_paths"),
    checks=CHECKS,
    outside_files=_outside_files,
    own_process=True,
)
