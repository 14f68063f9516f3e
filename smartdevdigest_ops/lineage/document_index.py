"""The document index: the ids of the documents in every file that holds some, sorted.

    <store>/.cache/lineage/<sha256 of the file>.ids      CRC-32 (4 bytes), then the ids (uint64, ascending)

A document's id is 64 bits of the hash of its canonical URL, so a million documents are 8 MB, and whether a file holds
one is a binary search. An entry is named by the content of the file that it is of: it cannot be out of date, versions
that share a file share its entry, and it answers after the file is gone. It is made when a stage publishes, or when it
is first asked for; one that is missing or does not fit its sum is made again from the file, whose hash is checked.
"""

import os
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from smartdevdigest_ops.artifacts import Artifact, ArtifactStore, content_hash, file_sha256
from smartdevdigest_ops.corpus.url import UrlError, canonical_url

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Ids = npt.NDArray[np.uint64]

_SUM_BYTES = 4
_NAME_CHARACTERS = 32
SPLITS = ("train", "valid", "test")

# Asset -> the file that counts and its column. Of URLs, the id is computed.
_FILES = {
    "raw_crawl": ("records.parquet", "url"),
    "cleaned_documents": ("documents.parquet", "canonical_url"),
    "cleaned_corpus": ("decisions/*.parquet", "url"),
    "corpus_snapshot": ("*.parquet", "document_id"),
    "labeled_pairs": ("*.parquet", "document_id"),
    "digests": ("digests.parquet", "document_id"),
}


class DocumentIndex:
    """The index of one store."""

    def __init__(self, store: ArtifactStore) -> None:
        self.directory = store.root / ".cache" / "lineage"

    def add(self, artifact: Artifact) -> None:
        """Make the entries of what was just published; one that fails is left to whoever asks for it first."""
        for name, sha256 in document_files(artifact):
            if not self.place(sha256).is_file():
                with suppress(OSError):
                    self._write(sha256, read_ids(artifact, name))

    def ids(self, artifact: Artifact, name: str, sha256: str) -> "Ids":
        """Sorted ids of the documents in one file of an artifact.

        Raises:
            OSError: the file has no entry, and is gone or not the one that was published.
        """
        found = self.entry(sha256)
        if found is None:
            file = artifact.path / name
            if file_sha256(file) != sha256:
                raise OSError(f"{file}: content differs from what was published (sha256)")
            found = read_ids(artifact, name)
            self._write(sha256, found)
        return found

    def entry(self, sha256: str) -> "Ids | None":
        """The entry of a file with this content; None where there is none, or it is damaged."""
        import numpy as np

        try:
            data = self.place(sha256).read_bytes()
        except OSError:
            return None
        if len(data) < _SUM_BYTES or zlib.crc32(data[_SUM_BYTES:]) != int.from_bytes(data[:_SUM_BYTES], "little"):
            return None
        return np.frombuffer(data, dtype="<u8", offset=_SUM_BYTES)

    def damaged(self) -> list[Path]:
        """Entries that do not fit their sum."""
        paths = sorted(self.directory.glob("*.ids"))
        return [path for path in paths if self.entry(path.stem) is None and path.exists()]  # not pruned meanwhile

    def place(self, sha256: str) -> Path:
        """File of the entry of a file with this content."""
        return self.directory / f"{sha256[:_NAME_CHARACTERS]}.ids"

    def _write(self, sha256: str, ids: "Ids") -> None:
        data = ids.tobytes()
        self.directory.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=self.directory)
        with os.fdopen(handle, "wb") as stream:
            stream.write(zlib.crc32(data).to_bytes(_SUM_BYTES, "little") + data)
        Path(temporary).replace(self.place(sha256))


def document_files(artifact: Artifact) -> list[tuple[str, str]]:
    """(name, sha256) of the files of an artifact that hold documents."""
    pattern, _ = _FILES.get(artifact.asset, ("", ""))
    # A pattern names a folder and what lies in it: `*.parquet` of a snapshot is not in a folder below it.
    depth = pattern.count("/")
    return [
        (name, entry["sha256"])
        for name, entry in artifact.files.items()
        if name.count("/") == depth and Path(name).match(pattern or "-")
    ]


def split_of(name: str) -> str:
    """The split that a file is of; "" where its asset has none."""
    stem = Path(name).stem
    return stem if stem in SPLITS else ""


def read_ids(artifact: Artifact, name: str) -> "Ids":
    """Sorted ids of the documents in one file, read a row group at a time.

    Raises:
        OSError: it cannot be read, or holds no documents.
    """
    import numpy as np

    _, column = _FILES[artifact.asset]
    pieces = [np.empty(0, dtype="<u8")]
    for values in _column(artifact.path / name, column, only_kept=artifact.asset == "cleaned_corpus"):
        try:
            pieces.append(as_ids(values if column == "document_id" else [document_id(url) for url in values]))
        except (ValueError, TypeError, UrlError) as error:
            raise OSError(f"{artifact.path / name}: column {column} does not name documents ({error})") from None
    return np.sort(np.concatenate(pieces))


def document_id(url: str) -> str:
    """Id of the document at a URL, in any of its spellings."""
    return content_hash(canonical_url(url))


def as_ids(document_ids: Sequence[str]) -> "Ids":
    """Ids of 16 hex digits as numbers, in their order."""
    import numpy as np

    return np.frombuffer(bytes.fromhex("".join(document_ids)), dtype=">u8").astype("<u8")


def _column(path: Path, column: str, *, only_kept: bool) -> Iterator[list[str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=[column, *(["kept"] if only_kept else [])]):
                rows = batch.filter(batch.column("kept")) if only_kept else batch
                yield rows.column(column).to_pylist()
    except (pa.ArrowException, KeyError) as error:
        raise OSError(f"{path} is no readable Parquet file with a column {column} ({error})") from None
