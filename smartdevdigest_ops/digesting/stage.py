"""The stage `digests`: one digest per document of a drop, by the released model, in the files of `digesting.outputs`.

Documents are read, digested and written a window at a time, so a drop need not fit in memory. Finished windows are kept
in the scratch directory: a killed making goes on where it stopped, in the same windows, since which rows share a step
can move the last bits of their logits.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from tqdm import tqdm

from smartdevdigest_ops.artifacts import Artifact, ArtifactStore
from smartdevdigest_ops.contracts import Digest
from smartdevdigest_ops.corpus.read import read_corpus
from smartdevdigest_ops.digesting.answer import Corrections
from smartdevdigest_ops.digesting.errors import DigestingError
from smartdevdigest_ops.digesting.model import Digester, DigestOutcome, load_digester
from smartdevdigest_ops.digesting.outputs import JSONL_FILE, DigestFiles, DigestTally
from smartdevdigest_ops.digesting.prompt import PROMPT_VERSION
from smartdevdigest_ops.journal import read_journal
from smartdevdigest_ops.release import read_release
from smartdevdigest_ops.stage import Check, CheckResult, Stage, StageContext, StageReport

_COLUMNS = ["document_id", "url", "language", "title", "content"]
# Greedy answers of a small model slip into the other language now and then; a drop where that is common is seen.
_LEAST_LANGUAGE_SHARE = 0.9
_SHOWN_PROBLEMS = 5


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
    corpus, drop = context.input("cleaned_corpus"), str(context.partition)
    num_documents = sum(table.num_rows for table in read_corpus(context.store, corpus, ["document_id"], [drop]))
    version = _released_version(context.input("release"))
    released = context.store.open("quantized_model", version)
    released.refuse_damage()  # no declared input, so nobody checked it
    model_dir = released.path
    context.log(f"{num_documents} documents of drop {drop}, by quantized_model {version}")
    with DigestFiles(context.out) as files:
        if num_documents:
            model = context.settings.model
            digester = load_digester(
                model_dir, device=model.device, precision=model.precision, threads=model.threads, may_use_vllm=True
            )
            documents = _read_documents(context.store, corpus, drop)
            journal = context.scratch / JSONL_FILE
            with tqdm(total=num_documents, desc="digests", unit="document", dynamic_ncols=True) as progress:
                for document, outcome in digest_documents(digester, documents, journal=journal, progress=progress):
                    files.write(document, outcome)
    with (context.out / JSONL_FILE).open(encoding="utf-8") as written:
        is_valid = check_digests_are_valid(written)
    tally = files.tally
    checks = (is_valid, check_documents_have_digests(num_documents, tally), check_summary_language(tally))
    return StageReport(tally.metrics(), checks)


def digest_documents(
    digester: Digester, documents: Iterable[CorpusDocument], *, journal: Path, progress: "tqdm[Any]"
) -> Iterator[tuple[CorpusDocument, DigestOutcome]]:
    """Each document with its outcome, in order; windows that `journal` holds are not generated again."""
    finished = {outcome.index: outcome for outcome in _read_outcomes(journal)}
    start = 0
    waiting = iter(documents)

    def show(_num_tokens: int) -> None:
        progress.update(0)

    with journal.open("a", encoding="utf-8") as stream:
        while window := list(islice(waiting, digester.window)):
            found = [finished.pop(start + place, None) for place in range(len(window))]
            outcomes = [outcome for outcome in found if outcome is not None]
            if len(outcomes) < len(window):
                outcomes = [
                    replace(outcome, index=start + outcome.index) for outcome in digester.digest(window, on_step=show)
                ]
                stream.write("".join(json.dumps(_as_json(outcome), ensure_ascii=False) + "\n" for outcome in outcomes))
                stream.flush()
            progress.update(len(window))
            yield from zip(window, outcomes, strict=True)
            start += len(window)


def _as_json(outcome: DigestOutcome) -> dict[str, Any]:
    digest = outcome.digest.model_dump(mode="json") if outcome.digest else None
    return asdict(outcome) | {"digest": digest}


def _read_outcomes(journal: Path) -> Iterator[DigestOutcome]:
    for line in read_journal(journal):
        fields = json.loads(line)
        fields["digest"] = Digest.model_validate(fields["digest"]) if fields["digest"] else None
        yield DigestOutcome(**fields | {"corrections": Corrections(**fields["corrections"])})


def _read_documents(store: ArtifactStore, corpus: Artifact, drop: str) -> Iterator[CorpusDocument]:
    for table in read_corpus(store, corpus, _COLUMNS, [drop]):
        for row in table.to_pylist():
            yield CorpusDocument(**row)


def _released_version(release: Artifact) -> str:
    version = read_release(release)["quantized_model"]
    if not isinstance(version, str):
        raise DigestingError(
            f"{release.path}: no model was ever released, so there is nothing to digest with. The reasons are in its "
            "release.json; train or label more, then materialize release again."
        )
    return version


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
        {"problems": problems[:_SHOWN_PROBLEMS]},
    )


def check_documents_have_digests(num_documents: int, tally: DigestTally) -> CheckResult:
    """Every document of the drop was digested: in = out, none failed, none lost."""
    return CheckResult(
        "every_document_has_a_digest",
        tally.num_digests == num_documents,
        f"{num_documents} documents in, {tally.num_digests} digests out, {tally.num_documents - tally.num_digests} "
        "failed; all must come out.",
        {"failed": tally.failures},
    )


def check_summary_language(tally: DigestTally) -> CheckResult:
    """Summaries are written in their document's language, judged by their script."""
    share = tally.language_share
    return CheckResult(
        "summary_language_matches",
        share >= _LEAST_LANGUAGE_SHARE,
        f"{share:.1%} of {tally.num_digests} summaries are in their document's language; "
        f"{_LEAST_LANGUAGE_SHARE:.0%} must be.",
        {"share": share},
    )


STAGE = Stage(
    name="digests",
    make=make_digests,
    code_version=f"3.{PROMPT_VERSION}",
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
