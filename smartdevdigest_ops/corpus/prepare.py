"""One drop prepared on its own: normalised, identified, judged and hashed, whatever else is in the corpus.

This is where the time goes (8 ms for a document of 9,000 characters), and its result depends on the drop and a few
settings only. It is therefore kept beside the artifacts and found again, so that the cost of a new drop does not grow
with the corpus, and a killed run goes on where it was.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from smartdevdigest_ops.artifacts import canonical_json, content_hash
from smartdevdigest_ops.corpus.language import identify_language, words_of
from smartdevdigest_ops.corpus.normalise import fold, normalise_text, normalise_title
from smartdevdigest_ops.corpus.quality import Fault, find_fault
from smartdevdigest_ops.corpus.shingles import band_hashes, shingle_hashes
from smartdevdigest_ops.corpus.url import UrlError, canonical_url
from smartdevdigest_ops.crawl.stage import read_records
from smartdevdigest_ops.crawl.tables import RowWriter
from smartdevdigest_ops.settings import CorpusSettings

if TYPE_CHECKING:
    import pyarrow as pa

# Raise it when the code of this module, or what it calls, prepares the same record differently; it is part of the code
# version of cleaned_corpus.
PREPARE_VERSION = "1"
_DECIDING_SETTINGS = (
    *("min_characters", "min_letter_share", "max_repeated_line_share"),
    *("shingle_characters", "minhash_permutations", "minhash_bands"),
)
_CACHED_ROW_GROUPS = 8


def prepared_name(raw_version: str, settings: CorpusSettings) -> str:
    """File name of a drop's prepared rows: the hash of all that decides them."""
    deciding = {
        "raw_crawl": raw_version,
        "code": PREPARE_VERSION,
        "settings": {name: getattr(settings, name) for name in _DECIDING_SETTINGS},
        "packages": {name: metadata.version(name) for name in ("py3langid", "rensa")},
    }
    return f"{content_hash(canonical_json(deciding))}.parquet"


def prepare_drop(raw_dir: Path, out_file: Path, name: str, settings: CorpusSettings) -> None:
    """Write one row per record of a raw_crawl artifact, in its order; `reason` is null where the record may be kept."""
    unfinished = out_file.with_suffix(f".{os.getpid()}.part")
    with RowWriter(unfinished, prepared_schema()) as writer:
        for record in tqdm(read_records(raw_dir), desc=f"clean {name}", unit=" documents", mininterval=1):
            writer.write(prepare_record(record, settings))
    unfinished.replace(out_file)


def prepare_record(record: Mapping[str, Any], settings: CorpusSettings) -> dict[str, Any]:
    """One prepared row of one row of `records.parquet`. A refused record keeps its address and reason, not its text."""
    row = {"line": record["line"], "url": record["url"], "declared_language": record["language"]}
    try:
        row["canonical_url"] = canonical_url(record["url"])
    except UrlError as error:
        return row | {"reason": "invalid_url", "detail": str(error)}
    content = normalise_text(record["content"])
    fault = find_fault(content, settings)
    found = identify_language(words_of(content))
    if fault is None and found.language is None:
        fault = Fault("other_language", found.reason)
    if fault is not None:
        return row | {"reason": fault.reason, "detail": fault.detail}
    return row | {
        "source_type": record["source_type"],
        "language": found.language,
        "hangul_share": found.hangul_share,
        "title": normalise_title(record["title"]),
        "content": content,
        "author": record["author"],
        "publish_date": record["publish_date"],
        "tags": record["tags"],
        "content_sha256": hashlib.sha256(content.encode()).hexdigest(),
        "folded_hash": content_hash(fold(content)),
        "num_characters": len(content),
        "bands": band_hashes(shingle_hashes(content, settings.shingle_characters), settings).tolist(),
    }


def prepared_schema() -> "pa.Schema":
    """Columns of a prepared drop."""
    import pyarrow as pa

    text = ("url", "canonical_url", "source_type", "language", "declared_language", "title", "content", "author")
    return pa.schema(
        [
            ("line", pa.int64()),
            *((name, pa.string()) for name in (*text, "publish_date")),
            ("tags", pa.list_(pa.string())),
            ("content_sha256", pa.string()),
            ("folded_hash", pa.string()),
            ("num_characters", pa.int64()),
            ("hangul_share", pa.float64()),
            ("bands", pa.list_(pa.uint64())),
            ("reason", pa.string()),
            ("detail", pa.string()),
        ]
    )


class PreparedDrops:
    """The prepared drops of a corpus, in drop order, read again piece by piece."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        """`files`: drop key -> prepared file."""
        import pyarrow.parquet as pq

        self._files = dict(files)
        self._open = lru_cache(maxsize=32)(lambda key: pq.ParquetFile(self._files[key]))
        self._contents = lru_cache(maxsize=_CACHED_ROW_GROUPS)(self._read_contents)

    def rows(self, key: str, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
        """Rows of a drop in order, all columns or some, one row group in memory at a time."""
        file = self._open(key)
        for index in range(file.num_row_groups):
            yield from file.read_row_group(index, columns=columns).to_pylist()

    def content(self, key: str, row: int) -> str:
        """Normalised text of one row."""
        file = self._open(key)
        for index in range(file.num_row_groups):
            num_rows = file.metadata.row_group(index).num_rows
            if row < num_rows:
                return str(self._contents(key, index)[row])
            row -= num_rows
        raise IndexError(f"drop {key} has no row {row}")

    def _read_contents(self, key: str, index: int) -> list[Any]:
        contents: list[Any] = self._open(key).read_row_group(index, columns=["content"])["content"].to_pylist()
        return contents
