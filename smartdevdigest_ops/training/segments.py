"""Segments of the token id cache: written whole, checked when opened, and rid of documents that must go."""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smartdevdigest_ops.artifacts import content_hash, file_sha256

if TYPE_CHECKING:
    import numpy as np

_TOKENS_PER_SEGMENT = 2**26
_IDS, _DOCUMENTS, _SUMS = "token_ids.i32", "documents.npy", "sums.json"
DIGEST_BYTES = 16
DOCUMENT_FIELDS = [("digest", f"V{DIGEST_BYTES}"), ("num_tokens", "<i8"), ("num_bytes", "<i8")]


def text_digest(encoded: bytes) -> bytes:
    """What a document is known by in the cache, from its UTF-8 text."""
    return hashlib.blake2b(encoded, digest_size=DIGEST_BYTES).digest()


class Batch:
    """Texts to tokenize together, and what is known of each."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.digests: list[bytes] = []
        self.sizes: list[int] = []
        self.num_characters = 0

    @property
    def num_bytes(self) -> int:
        """UTF-8 bytes of all texts."""
        return sum(self.sizes)


class Segments:
    """The segments of one tokenizer, and the one that is being written."""

    def __init__(self, directory: Path, log: Callable[[str], None]) -> None:
        """Open those that match their sums; remove what does not, and what a kill left behind."""
        self._directory = directory
        self._log = log
        self.ids: list[np.ndarray] = []
        self.documents: list[np.ndarray] = []
        self.numbers: dict[bytes, int] = {}
        """Digest of a text -> its number among the documents of all segments."""
        self._open: SegmentWriter | None = None
        directory.mkdir(parents=True, exist_ok=True)
        os.utime(directory)  # used now: see `_forget_old_tokenizers`
        for path in sorted(directory.iterdir()):
            if path.name.startswith("."):
                shutil.rmtree(path)
            elif is_sound(path):
                self._take(path)
                for digest in self.documents[-1]["digest"].tolist():
                    self.numbers[digest] = len(self.numbers)
            else:
                log(f"{path} is damaged; its documents are tokenized again")
                shutil.rmtree(path)

    def add(self, batch: Batch, encodings: list[Any]) -> None:
        """Write the token ids of a batch."""
        self._open = self._open or SegmentWriter(self._directory)
        self._open.add(batch, encodings)
        if self._open.num_tokens >= _TOKENS_PER_SEGMENT:
            self.publish()

    def publish(self) -> None:
        """Close the segment that is being written, if there is one."""
        if self._open is not None:
            self._take(self._open.publish())
            self._open = None

    def _take(self, path: Path) -> None:
        import numpy as np

        self.documents.append(np.load(path / _DOCUMENTS))
        ids_file = path / _IDS
        is_empty = not ids_file.stat().st_size  # which cannot be mapped
        self.ids.append(np.empty(0, dtype="<i4") if is_empty else np.memmap(ids_file, dtype="<i4", mode="r"))


class SegmentWriter:
    """A segment that is not published yet."""

    def __init__(self, directory: Path) -> None:
        self._staged = Path(tempfile.mkdtemp(dir=directory, prefix="."))
        self._stream = (self._staged / _IDS).open("wb")
        self._sum = hashlib.sha256()
        self._documents: list[tuple[bytes, int, int]] = []
        self.num_tokens = 0

    def add(self, batch: Batch, encodings: list[Any]) -> None:
        """Append the token ids of a batch."""
        import numpy as np

        for digest, num_bytes, encoding in zip(batch.digests, batch.sizes, encodings, strict=True):
            self.add_document(digest, num_bytes, np.array(encoding.ids, dtype="<i4").tobytes())

    def add_document(self, digest: bytes, num_bytes: int, data: bytes) -> None:
        """Append the token ids (little-endian int32) of one document of `num_bytes` bytes of text."""
        self._stream.write(data)
        self._sum.update(data)
        self._documents.append((digest, len(data) // 4, num_bytes))
        self.num_tokens += len(data) // 4

    def publish(self) -> Path:
        """Rename the segment into place, under a name that its documents decide."""
        import numpy as np

        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()
        np.save(self._staged / _DOCUMENTS, np.array(self._documents, dtype=DOCUMENT_FIELDS))
        sums = {_IDS: self._sum.hexdigest(), _DOCUMENTS: file_sha256(self._staged / _DOCUMENTS)}
        (self._staged / _SUMS).write_text(json.dumps(sums), encoding="utf-8")
        return self._staged.rename(self._staged.parent / content_hash(sums[_DOCUMENTS]))


def is_sound(segment: Path) -> bool:
    """Whether the files of a segment are those that were written: a second per 1-2 GB."""
    try:
        sums = json.loads((segment / _SUMS).read_text(encoding="utf-8"))
        return all(file_sha256(segment / name) == sums[name] for name in (_IDS, _DOCUMENTS))
    except (OSError, ValueError, KeyError, TypeError):
        return False


@contextmanager
def locked(cache_dir: Path, identity: str, *, wait: bool = True) -> Iterator[None]:
    """Alone with the cache of one tokenizer.

    Raises:
        BlockingIOError: another process has it, and `wait` is false.
    """
    cache_dir.mkdir(parents=True, exist_ok=True)
    with (cache_dir / f"{identity}.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def forget_documents(cache_dir: Path, kept: Collection[bytes], report_line: Callable[[str], None]) -> int:
    """Rid the caches of all tokenizers of every document that is not `kept` (`text_digest`s); returns the bytes freed.

    A segment that held some is written again without them; a kill in between costs its documents another tokenizing. A
    cache that is in use stays as it is, for the next time.
    """
    num_bytes = 0
    caches = sorted(path for path in cache_dir.iterdir() if path.is_dir()) if cache_dir.is_dir() else []
    for cache in caches:
        try:
            with locked(cache_dir, cache.name, wait=False):
                for segment in sorted(path for path in cache.iterdir() if not path.name.startswith(".")):
                    num_bytes += _forget_in(segment, kept)
        except BlockingIOError:
            report_line(f"busy, left for the next time: token ids of tokenizer {cache.name}")
    return num_bytes


def _forget_in(segment: Path, kept: Collection[bytes]) -> int:
    import numpy as np

    before = _size(segment)
    if not is_sound(segment):
        shutil.rmtree(segment)  # it would be tokenized again anyway
        return before
    documents = np.load(segment / _DOCUMENTS)
    stays = [digest in kept for digest in documents["digest"].tolist()]
    if all(stays):
        return 0
    if not any(stays):
        shutil.rmtree(segment)
        return before
    writer = SegmentWriter(segment.parent)
    with (segment / _IDS).open("rb") as stream:
        for (digest, num_tokens, num_bytes), is_kept in zip(documents.tolist(), stays, strict=True):
            data = stream.read(4 * num_tokens)
            if is_kept:
                writer.add_document(digest, num_bytes, data)
    shutil.rmtree(segment)  # first: no document may be in two segments
    return before - _size(writer.publish())


def _size(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.iterdir())
