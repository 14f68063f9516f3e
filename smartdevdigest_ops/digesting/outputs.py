"""The files of a drop's digests, written document by document, and what is counted as they pass.

`digests.jsonl` has a line {"url", "digest", "covered_share"} for each, in the corpus' order of documents;
`digests.parquet` the same, flat, with what was left out of each answer.
"""

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from smartdevdigest_ops.corpus.language import is_korean
from smartdevdigest_ops.digesting.answer import Corrections
from smartdevdigest_ops.digesting.model import DigestOutcome, Document

if TYPE_CHECKING:
    import pyarrow as pa

JSONL_FILE = "digests.jsonl"
PARQUET_FILE = "digests.parquet"
_ROW_GROUP_ROWS = 512
_SHOWN_FAILURES = 5


class StoredDocument(Document, Protocol):
    """A document that has a place in the corpus."""

    @property
    def document_id(self) -> str:
        """Hash of its canonical URL."""

    @property
    def url(self) -> str:
        """Where it was found."""


@dataclass
class DigestTally:
    """What became of the documents so far."""

    num_documents: int = 0
    num_digests: int = 0
    num_language_matches: int = 0
    """Summaries in the language of their document, judged by their script."""
    seconds: float = 0.0
    num_new_tokens: int = 0
    sum_difficulty: float = 0.0
    sum_covered_share: float = 0.0
    corrections: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    """The first ones, as `URL: reason`."""

    def add(self, document: StoredDocument, outcome: DigestOutcome) -> None:
        """Count one document."""
        self.num_documents += 1
        self.seconds += outcome.seconds
        self.num_new_tokens += outcome.num_new_tokens
        self.sum_covered_share += outcome.covered_share
        self.corrections.update(asdict(outcome.corrections))
        if outcome.digest is None:
            if len(self.failures) < _SHOWN_FAILURES:
                self.failures.append(f"{document.url}: {outcome.error}")
            return
        self.num_digests += 1
        self.sum_difficulty += outcome.digest.difficulty_level.score
        self.num_language_matches += is_korean(outcome.digest.summary) == (document.language == "ko")

    @property
    def language_share(self) -> float:
        """Share of the summaries that are in their document's language; 1 of none."""
        return self.num_language_matches / self.num_digests if self.num_digests else 1.0

    def metrics(self) -> dict[str, float]:
        """Counts and means of all documents."""
        metrics: dict[str, float] = {"num_documents": self.num_documents, "num_valid": self.num_digests}
        if self.num_digests:
            metrics["seconds_per_document"] = self.seconds / self.num_documents
            metrics["tokens_per_second"] = self.num_new_tokens / max(self.seconds, 1e-9)
            metrics["mean_difficulty"] = self.sum_difficulty / self.num_digests
            metrics["mean_covered_share"] = self.sum_covered_share / self.num_documents
            metrics |= {name: self.corrections[name] for name in Corrections.__dataclass_fields__}
        return metrics


class DigestFiles:
    """Both files in `directory`, open for writing; a document without a digest is counted and left out of them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._rows: list[dict[str, Any]] = []
        self.tally = DigestTally()

    def __enter__(self) -> Self:
        import pyarrow.parquet as pq

        self._jsonl = (self._directory / JSONL_FILE).open("w", encoding="utf-8")
        self._parquet = pq.ParquetWriter(self._directory / PARQUET_FILE, digest_schema(), compression="zstd")
        return self

    def __exit__(self, *_: object) -> None:
        self._write_rows()
        self._parquet.close()
        self._jsonl.close()

    def write(self, document: StoredDocument, outcome: DigestOutcome) -> None:
        """Append one document."""
        self.tally.add(document, outcome)
        if outcome.digest is None:
            return
        digest = outcome.digest.model_dump(mode="json")
        line = {"url": document.url, "digest": digest, "covered_share": round(outcome.covered_share, 4)}
        self._jsonl.write(json.dumps(line, ensure_ascii=False) + "\n")
        difficulty = digest.pop("difficulty_level")
        self._rows.append(
            {"document_id": document.document_id, "url": document.url, "language": document.language}
            | digest
            | {f"difficulty_{name}": value for name, value in difficulty.items()}
            | {name: getattr(outcome, name) for name in ("covered_share", "num_parts", "num_new_tokens")}
            | asdict(outcome.corrections)
        )
        if len(self._rows) == _ROW_GROUP_ROWS:
            self._write_rows()

    def _write_rows(self) -> None:
        import pyarrow as pa

        if self._rows:
            self._parquet.write_table(pa.Table.from_pylist(self._rows, schema=digest_schema()))
            self._rows = []


def digest_schema() -> "pa.Schema":
    """Columns of `digests.parquet`."""
    import pyarrow as pa

    term = pa.struct([("term", pa.string()), ("explanation", pa.string())])
    return pa.schema(
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
