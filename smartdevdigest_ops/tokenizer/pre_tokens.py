"""What a tokenizer is learned from: the pre-tokens of a corpus, counted by kind of text and by document.

Merges never cross a pre-token, so a corpus is known by how often each of them occurs. A document is read, counted and
forgotten: memory follows the number of different pre-tokens, not the size of the corpus.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from smartdevdigest_ops.corpus.read import CorpusError
from smartdevdigest_ops.tokenizer.base import Bpe
from smartdevdigest_ops.tokenizer.fertility import CODE, split_code

_ROWS_PER_BATCH = 64
_COLUMNS = ("title", "content", "language")


@dataclass
class PreTokenCounts:
    """How often each pre-token occurs, and in how many documents."""

    by_kind: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """Kind of text (the language of prose, or `code`) -> pre-token -> occurrences."""
    num_documents: Counter[str] = field(default_factory=Counter)
    """Pre-token -> documents that hold it."""

    def add(self, base: Bpe, document: Mapping[str, Any]) -> None:
        """Count a row with `title`, `content` and `language`; the title is prose."""
        prose, code = split_code(f"{document['title'] or ''}\n{document['content']}")
        in_document: set[str] = set()
        for kind, text in ((str(document["language"]), prose), (CODE, code)):
            if text:
                pre_tokens = base.pre_tokens(text)
                self.by_kind[kind].update(pre_tokens)
                in_document.update(pre_tokens)
        self.num_documents.update(in_document)


def count_pre_tokens(
    base: Bpe, documents: Iterable[Mapping[str, Any]], num_documents: int | None = None
) -> PreTokenCounts:
    """Counts over all documents, read one by one; `num_documents` is for the progress bar."""
    counts = PreTokenCounts()
    for document in tqdm(documents, total=num_documents, desc="counting pre-tokens", unit="document", mininterval=1.0):
        counts.add(base, document)
    return counts


def stream_split(directory: Path, split: str) -> Iterator[dict[str, Any]]:
    """Rows (`title`, `content`, `language`) of `<split>.parquet`, in order, a few documents in memory at a time.

    Raises:
        CorpusError: there is no such split, or the file is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = directory / f"{split}.parquet"
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_ROWS_PER_BATCH, columns=list(_COLUMNS)):
                yield from batch.to_pylist()
    except FileNotFoundError:
        raise CorpusError(
            f"{path} does not exist, so the tokenizer has nothing to learn from. Materialize corpus_snapshot again."
        ) from None
    except pa.ArrowInvalid as error:
        raise CorpusError(f"{path} is no readable Parquet file ({error}). Run `smartdevdigest verify`.") from None
