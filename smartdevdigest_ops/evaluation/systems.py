"""What answers: the candidate, other models through the same guided decoding, and baselines without a model.

Answers are written to a journal as they come. A killed making continues where it stopped, and generates in the same
batches, because a row's padding can move its last bits and with them a near tie.
"""

import gc
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from smartdevdigest_ops.digesting.calibration import CALIBRATION_FILE
from smartdevdigest_ops.digesting.model import DIGEST_CONFIG, DigestOutcome, load_digester
from smartdevdigest_ops.evaluation.gold import TestDocument
from smartdevdigest_ops.journal import read_journal
from smartdevdigest_ops.settings import ModelSettings

CANDIDATE = "candidate"
UNQUANTIZED = "unquantized"
ROUNDED = "rounded"
UNTUNED_BASE = "untuned_base"
M1 = "m1"
RELEASE = "release"
OTHER = "other"
LEAD3 = "lead3"
TEXTRANK = "textrank"
MAJORITY = "majority"
READABILITY = "readability"
GENERATING = frozenset({CANDIDATE, UNQUANTIZED, ROUNDED, OTHER, RELEASE, M1, UNTUNED_BASE})
# How systems are called in the report, in its order.
SYSTEM_NAMES = {
    CANDIDATE: "Candidate (quantized M2)",
    UNQUANTIZED: "M2 before quantization",
    ROUNDED: "M2 rounded to nearest",
    OTHER: "Other model",
    RELEASE: "Previous release",
    M1: "M1 without M2",
    UNTUNED_BASE: "Untuned base model",
    LEAD3: "Lead-3 baseline",
    TEXTRANK: "TextRank baseline",
    MAJORITY: "Majority baseline",
    READABILITY: "Readability baseline",
}


@dataclass(frozen=True)
class Answer:
    """What a system said of one document."""

    system: str
    url: str
    digest: dict[str, Any] | None
    """The digest without its processing time, so that the same answer is the same bytes; None where invalid. A baseline
    answers with some of the keys."""
    valid: bool
    factors: dict[str, float | None] | None = None
    """Difficulty factor -> 1.0-5.0 before calibration."""
    error: str | None = None
    """Why there is no digest."""
    covered_share: float | None = None
    """Of the document, what the prompts held."""
    num_new_tokens: int | None = None
    corrections: dict[str, int] | None = None
    """What was left out of the answer, by reason (`Corrections`)."""
    seconds: float | None = field(default=None, compare=False)
    """Differs from run to run: for the record of the making, never for the report."""

    def has(self, key: str) -> bool:
        """Whether the system answers with this key of a digest; one that failed would have."""
        return self.digest is None or key in self.digest

    def as_record(self) -> dict[str, Any]:
        """Plain JSON, without the time it took."""
        record = asdict(self)
        del record["seconds"]
        return record


class AnyDigester(Protocol):
    """What generates: `digesting.model.Digester`."""

    def plan_batches(self, documents: Sequence[Any]) -> list[list[int]]:
        """Indices of the documents by batch, the same for the same documents."""
        ...

    def digest_batch(self, documents: Sequence[Any], indices: Sequence[int]) -> Sequence[DigestOutcome]:
        """What came of the documents at `indices`."""
        ...


def baseline_answers(
    baselines: Mapping[str, Callable[[TestDocument], dict[str, Any]]], documents: Sequence[TestDocument]
) -> dict[str, list[Answer]]:
    """System -> its answers, in the documents' order."""
    return {
        system: [
            Answer(system, document.url, answer(document), True)
            for document in tqdm(documents, desc=f"digests of {system}", unit="document")
        ]
        for system, answer in baselines.items()
    }


def generated_answers(
    system: str, digester: AnyDigester, documents: Sequence[TestDocument], *, journal: Path
) -> list[Answer]:
    """A model's answers, in the documents' order; batches that `journal` holds already are not generated again."""
    finished = _read_journal(journal)
    with (
        journal.open("a", encoding="utf-8") as stream,
        tqdm(total=len(documents), desc=f"digests of {system}", unit="document") as progress,
    ):
        for indices in digester.plan_batches(documents):
            if not finished.keys() >= {documents[index].url for index in indices}:
                for outcome in digester.digest_batch(documents, indices):
                    url = documents[outcome.index].url
                    finished[url] = _answer(system, url, outcome)
                batch = [asdict(finished[documents[index].url]) for index in indices]
                stream.write("".join(json.dumps(answer, ensure_ascii=False) + "\n" for answer in batch))
                stream.flush()
            progress.update(len(indices))
    return [finished[document.url] for document in documents]


def answers_of_model(
    system: str, model_dir: Path, documents: Sequence[TestDocument], *, journal: Path, model: ModelSettings
) -> list[Answer]:
    """Answers of the model in a directory, which is in memory meanwhile and no longer."""
    digester = load_digester(model_dir, device=model.device, precision=model.precision, threads=model.threads)
    answers = generated_answers(system, digester, documents, journal=journal)
    del digester
    gc.collect()  # the next model would double the peak
    return answers


def _answer(system: str, url: str, outcome: DigestOutcome) -> Answer:
    return Answer(
        system,
        url,
        outcome.digest.model_dump(exclude={"processing_time"}) if outcome.digest else None,
        outcome.valid,
        None
        if outcome.factors is None
        else {name: None if value is None else round(value, 4) for name, value in outcome.factors.items()},
        outcome.error,
        round(outcome.covered_share, 4),
        outcome.num_new_tokens,
        asdict(outcome.corrections),
        outcome.seconds,
    )


def _read_journal(journal: Path) -> dict[str, Answer]:
    answers = [Answer(**json.loads(line)) for line in read_journal(journal)]
    return {answer.url: answer for answer in answers}


def with_settings_of(model_dir: Path, other_dir: Path, out: Path, *, calibrated: bool = False) -> Path:
    """A directory `out` of links to another model's files, beside the digest settings of `model_dir`.

    The other model then answers under the candidate's caps, budget and grammar; `calibrated`: its difficulty is mapped
    as the candidate's is. What differs is the weights alone.
    """
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    taken = {DIGEST_CONFIG, CALIBRATION_FILE} if calibrated else {DIGEST_CONFIG}
    for file in other_dir.iterdir():
        if file.name not in {DIGEST_CONFIG, CALIBRATION_FILE}:
            (out / file.name).symlink_to(file)
    for name in taken:
        if (model_dir / name).is_file():
            (out / name).write_bytes((model_dir / name).read_bytes())
    return out
