"""The stage `digests`: one digest per document of a drop, by the released model.

    digests.jsonl     {"url", "digest", "covered_share"} per line, in the corpus' order of documents
    digests.parquet   the same, flat, with what was left out of each answer

Finished batches are kept in the scratch directory: a killed making goes on where it stopped, in the same batches, since
a batch's padding can move the last bits of a row's logits.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from tqdm import tqdm

from smartdevdigest_ops.artifacts import Artifact, ArtifactStore
from smartdevdigest_ops.contracts import Digest
from smartdevdigest_ops.corpus.language import KOREAN_HANGUL_SHARE, hangul_share, words_of
from smartdevdigest_ops.corpus.read import read_corpus
from smartdevdigest_ops.digesting.answer import Corrections
from smartdevdigest_ops.digesting.errors import DigestingError
from smartdevdigest_ops.digesting.model import Digester, DigestOutcome, load_digester
from smartdevdigest_ops.digesting.prompt import PROMPT_VERSION
from smartdevdigest_ops.journal import read_journal
from smartdevdigest_ops.release import read_release
from smartdevdigest_ops.stage import Check, CheckResult, Stage, StageContext, StageReport

_COLUMNS = ["document_id", "url", "language", "title", "content"]
_JOURNAL = "digests.jsonl"
# Greedy answers of a small model slip into the other language now and then; a drop where that is common is seen.
_LEAST_LANGUAGE_SHARE = 0.9
_SHOWN_FAILURES = 5


@dataclass(frozen=True)
class CorpusDocument:
    """The columns of a cleaned document that digesting reads."""

    document_id: str
    url: str
    language: str
    title: str | None
    content: str


def make_digests(context: StageContext) -> StageReport:
    """Digest every document of the drop."""
    documents = _read_documents(context.store, context.input("cleaned_corpus"), str(context.partition))
    version = _released_version(context.input("release"))
    model_dir = context.store.open("quantized_model", version).path
    context.log(f"{len(documents)} documents of drop {context.partition}, by quantized_model {version}")
    outcomes: list[DigestOutcome] = []
    if documents:
        model = context.settings.model
        digester = load_digester(model_dir, device=model.device, precision=model.precision, threads=model.threads)
        outcomes = digest_documents(digester, documents, journal=context.scratch / _JOURNAL)
    _write_jsonl(context.out / "digests.jsonl", documents, outcomes)
    _write_parquet(context.out / "digests.parquet", documents, outcomes)
    written = (context.out / "digests.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    checks = (
        check_digests_are_valid(written),
        check_documents_have_digests(documents, outcomes),
        check_summary_language(documents, outcomes),
    )
    return StageReport(_metrics(documents, outcomes), checks)


def digest_documents(digester: Digester, documents: Sequence[CorpusDocument], *, journal: Path) -> list[DigestOutcome]:
    """An outcome per document, in order; batches that `journal` holds are not generated again."""
    finished = _read_journal(journal)
    with (
        journal.open("a", encoding="utf-8") as stream,
        tqdm(total=len(documents), desc="digests", unit="document", dynamic_ncols=True) as progress,
    ):
        for indices in digester.plan_batches(documents):
            if not finished.keys() >= set(indices):
                num_tokens = 0

                def show(written: int) -> None:
                    nonlocal num_tokens
                    num_tokens += written
                    progress.set_postfix(batch_tokens=num_tokens, refresh=False)
                    progress.update(0)

                batch = digester.digest_batch(documents, indices, on_step=show)
                finished |= {outcome.index: outcome for outcome in batch}
                stream.write("".join(json.dumps(_as_json(outcome), ensure_ascii=False) + "\n" for outcome in batch))
                stream.flush()
            progress.update(len(indices))
    return [finished[index] for index in range(len(documents))]


def _as_json(outcome: DigestOutcome) -> dict[str, Any]:
    digest = outcome.digest.model_dump(mode="json") if outcome.digest else None
    return asdict(outcome) | {"digest": digest}


def _read_journal(journal: Path) -> dict[int, DigestOutcome]:
    outcomes = []
    for line in read_journal(journal):
        fields = json.loads(line)
        fields["digest"] = Digest.model_validate(fields["digest"]) if fields["digest"] else None
        outcomes.append(DigestOutcome(**fields | {"corrections": Corrections(**fields["corrections"])}))
    return {outcome.index: outcome for outcome in outcomes}


def _read_documents(store: ArtifactStore, corpus: Artifact, drop: str) -> list[CorpusDocument]:
    tables = read_corpus(store, corpus, _COLUMNS, [drop])
    return [CorpusDocument(**row) for table in tables for row in table.to_pylist()]


def _released_version(release: Artifact) -> str:
    version = read_release(release)["quantized_model"]
    if not isinstance(version, str):
        raise DigestingError(
            f"{release.path}: no model was ever released, so there is nothing to digest with. The reasons are in its "
            "release.json; train or label more, then materialize release again."
        )
    return version


def _write_jsonl(path: Path, documents: Sequence[CorpusDocument], outcomes: Sequence[DigestOutcome]) -> None:
    with path.open("w", encoding="utf-8") as stream:
        for document, outcome in zip(documents, outcomes, strict=True):
            if outcome.digest is not None:
                line = {
                    "url": document.url,
                    "digest": outcome.digest.model_dump(mode="json"),
                    "covered_share": round(outcome.covered_share, 4),
                }
                stream.write(json.dumps(line, ensure_ascii=False) + "\n")


def _write_parquet(path: Path, documents: Sequence[CorpusDocument], outcomes: Sequence[DigestOutcome]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    term = pa.struct([("term", pa.string()), ("explanation", pa.string())])
    schema = pa.schema(
        [
            *((name, pa.string()) for name in ("document_id", "url", "language", "summary")),
            ("keywords", pa.list_(pa.string())),
            ("difficulty_score", pa.float64()),
            ("difficulty_label", pa.string()),
            ("prerequisites", pa.list_(pa.string())),
            ("technical_terms", pa.list_(term)),
            ("processing_time", pa.float64()),
            ("covered_share", pa.float64()),
            *((name, pa.int64()) for name in ("num_parts", "num_new_tokens", *Corrections.__dataclass_fields__)),
        ]
    )
    rows = []
    for document, outcome in zip(documents, outcomes, strict=True):
        if outcome.digest is not None:
            digest = outcome.digest.model_dump(mode="json")
            difficulty = digest.pop("difficulty_level")
            rows.append(
                {"document_id": document.document_id, "url": document.url, "language": document.language}
                | digest
                | {f"difficulty_{name}": value for name, value in difficulty.items()}
                | {name: getattr(outcome, name) for name in ("covered_share", "num_parts", "num_new_tokens")}
                | asdict(outcome.corrections)
            )
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, compression="zstd")


def _metrics(documents: Sequence[CorpusDocument], outcomes: Sequence[DigestOutcome]) -> dict[str, float]:
    digests = [outcome.digest for outcome in outcomes if outcome.digest is not None]
    seconds = sum(outcome.seconds for outcome in outcomes)
    metrics: dict[str, float] = {"num_documents": len(documents), "num_valid": len(digests)}
    if digests:
        metrics["seconds_per_document"] = seconds / len(documents)
        metrics["tokens_per_second"] = sum(outcome.num_new_tokens for outcome in outcomes) / max(seconds, 1e-9)
        metrics["mean_difficulty"] = sum(digest.difficulty_level.score for digest in digests) / len(digests)
        metrics["mean_covered_share"] = sum(outcome.covered_share for outcome in outcomes) / len(documents)
        for name in Corrections.__dataclass_fields__:
            metrics[name] = sum(getattr(outcome.corrections, name) for outcome in outcomes)
    return metrics


def check_digests_are_valid(lines: Iterable[str]) -> CheckResult:
    """Every line as it lies on disk is {"url", "digest"} with a digest of the contract."""
    num_lines, problems = 0, []
    for line in lines:
        num_lines += 1
        try:
            Digest.model_validate_json(json.dumps(json.loads(line)["digest"]))
        except (ValidationError, ValueError, KeyError, TypeError) as error:
            problems.append(f"line {num_lines}: {' '.join(str(error).split())[:200]}")
    return CheckResult(
        "every_digest_is_valid",
        not problems,
        f"{num_lines - len(problems)} of {num_lines} digests are of the contract; all must be.",
        {"problems": problems[:_SHOWN_FAILURES]},
    )


def check_documents_have_digests(documents: Sequence[CorpusDocument], outcomes: Sequence[DigestOutcome]) -> CheckResult:
    """Every document of the drop was digested: in = out, none failed, none lost."""
    failed = [
        f"{document.url}: {outcome.error}"
        for document, outcome in zip(documents, outcomes, strict=False)
        if outcome.digest is None
    ]
    num_digests = len(outcomes) - len(failed)
    return CheckResult(
        "every_document_has_a_digest",
        num_digests == len(documents),
        f"{len(documents)} documents in, {num_digests} digests out, {len(failed)} failed; all must come out.",
        {"failed": failed[:_SHOWN_FAILURES]},
    )


def check_summary_language(documents: Sequence[CorpusDocument], outcomes: Sequence[DigestOutcome]) -> CheckResult:
    """Summaries are written in their document's language, judged by their script."""
    pairs = [(d.language, o.digest.summary) for d, o in zip(documents, outcomes, strict=True) if o.digest is not None]
    matching = sum(
        (hangul_share(words_of(summary)) >= KOREAN_HANGUL_SHARE) == (language == "ko") for language, summary in pairs
    )
    share = matching / len(pairs) if pairs else 1.0
    return CheckResult(
        "summary_language_matches",
        share >= _LEAST_LANGUAGE_SHARE,
        f"{share:.1%} of {len(pairs)} summaries are in their document's language; {_LEAST_LANGUAGE_SHARE:.0%} must be.",
        {"share": share},
    )


STAGE = Stage(
    name="digests",
    make=make_digests,
    code_version=f"2.{PROMPT_VERSION}",
    inputs=("cleaned_corpus", "release"),
    input_files={"cleaned_corpus": "decisions/{partition}.parquet"},
    checks=(
        Check("every_digest_is_valid", "Every line holds a digest of the contract."),
        Check("every_document_has_a_digest", "Documents in = digests out; none failed."),
        Check("summary_language_matches", "Summaries are in their document's language.", blocking=False),
    ),
    partitioned=True,
    own_process=True,
)
