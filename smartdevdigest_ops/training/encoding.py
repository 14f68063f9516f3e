"""Token ids of a corpus, made once: every document is tokenized when it is first seen, and read from disk after that.

    <cache>/<tokenizer>/<segment>/token_ids.i32    the token ids of its documents, one after the other (int32)
                                 /documents.npy    per document: hash of its text, number of tokens, UTF-8 bytes
                                 /sums.json        SHA-256 of both files

A document is known by the hash of its text and a tokenizer by the hash of its tokenizer.json, so a grown corpus costs
its new documents and a changed tokenizer costs all. A segment is published by renaming it into place: a kill loses the
segment in progress. One that does not match its sums is removed and its documents are tokenized again.

Tokenizing is the Rust library's batch encoding, which uses every core, in a thread of its own: while it works on one
batch, the batch before is turned into arrays and written. In memory are two batches of about two million characters,
and some 250 bytes per document.
"""

import shutil
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smartdevdigest_ops.artifacts import content_hash
from smartdevdigest_ops.corpus.read import CorpusError
from smartdevdigest_ops.tokenizer.encoding import parallel_tokenizers
from smartdevdigest_ops.training.errors import TrainingError
from smartdevdigest_ops.training.segments import DOCUMENT_FIELDS, Batch, Segments, locked, text_digest

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from transformers import PreTrainedTokenizerBase

# Raise it when the layout of a segment changes: caches of another format are left to `_forget_old_tokenizers`.
CACHE_FORMAT = "1"

_CHARACTERS_PER_BATCH = 2**21
_TOKENIZERS_KEPT = 4

Encode = Callable[[list[str]], list[Any]]


class EncodedCorpus:
    """Token ids of documents in the order they were given, mapped from disk."""

    def __init__(self, ids: "Sequence[np.ndarray]", documents: "Sequence[np.ndarray]", numbers: "array[int]") -> None:
        """`numbers`: of each document, its number among the `documents` of all segments."""
        import numpy as np

        numbers_N = np.frombuffer(numbers, dtype=np.int64)
        table = np.concatenate([np.empty(0, dtype=DOCUMENT_FIELDS), *documents])
        starts = np.concatenate([np.empty(0, dtype=np.int64), *(_starts(found["num_tokens"]) for found in documents)])
        self._ids = ids
        self._segments_N = np.repeat(np.arange(len(documents)), [len(found) for found in documents])[numbers_N]
        self._starts_N = starts[numbers_N]
        self.lengths_N: npt.NDArray[np.int64] = table["num_tokens"][numbers_N]
        """Tokens of each document."""
        self.num_bytes = int(table["num_bytes"][numbers_N].sum())
        """UTF-8 bytes of all documents."""

    def __len__(self) -> int:
        return len(self.lengths_N)

    @property
    def num_tokens(self) -> int:
        """Tokens of all documents."""
        return int(self.lengths_N.sum())

    def token_ids(self, index: int) -> "npt.NDArray[np.int32]":
        """Token ids of one document, read-only; no special tokens before or after them."""
        start = int(self._starts_N[index])
        found: npt.NDArray[np.int32] = self._ids[self._segments_N[index]][start : start + int(self.lengths_N[index])]
        return found


def encode_corpus(
    tokenizer: "PreTrainedTokenizerBase",
    texts: Iterable[str],
    *,
    cache_dir: Path,
    log: Callable[[str], None] = lambda line: None,
) -> EncodedCorpus:
    """Tokenize what `cache_dir` does not hold yet, and return the token ids of all `texts`, in their order.

    As in `encode_documents`, no special token is added, and a `<|im_end|>` that a document quotes is ordinary
    characters. `texts` is gone through once and not kept. Another process on the same cache and tokenizer waits.

    Raises:
        TrainingError: the tokenizer is not a fast one.
    """
    from tqdm import tqdm  # noqa: PLC0415

    encode, identity = document_encoder(tokenizer)
    with locked(cache_dir, identity):
        cache = Segments(cache_dir / identity, log)
        numbers = array("q")
        with (
            parallel_tokenizers(),
            ThreadPoolExecutor(1) as thread,
            tqdm(desc="Tokenizing documents", unit="B", unit_scale=True, unit_divisor=1024, mininterval=5) as bar,
        ):
            working: Future[list[Any]] | None = None
            waiting: Batch | None = None
            for batch in _batches(texts, cache.numbers, numbers):
                following = thread.submit(encode, batch.texts)
                if working is not None and waiting is not None:
                    cache.add(waiting, working.result())
                    bar.update(waiting.num_bytes)
                working, waiting = following, batch
            if working is not None and waiting is not None:
                cache.add(waiting, working.result())
                bar.update(waiting.num_bytes)
        cache.publish()
        _forget_old_tokenizers(cache_dir)
    return EncodedCorpus(cache.ids, cache.documents, numbers)


def parquet_texts(path: Path, column: str = "content") -> Iterator[str]:
    """The texts of a Parquet file in its order, one row group in memory at a time.

    Raises:
        CorpusError: the file is damaged, or has no such column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                yield from file.read_row_group(group, columns=[column])[column].to_pylist()
    except (pa.ArrowInvalid, KeyError, OSError) as error:
        raise CorpusError(
            f"{path} is no readable Parquet file with a column {column!r} ({error}), so its documents cannot be "
            "tokenized. Run `smartdevdigest verify`."
        ) from None


def document_encoder(tokenizer: "PreTrainedTokenizerBase") -> tuple[Encode, str]:
    """The backend's batch encoding with the semantics of `encode_documents`, and the tokenizer's identity.

    Raises:
        TrainingError: the tokenizer is not a fast one.
    """
    import tokenizers

    if not getattr(tokenizer, "is_fast", False):
        raise TrainingError(
            f"{tokenizer.name_or_path}: a slow tokenizer ({type(tokenizer).__name__}) cannot tokenize a corpus in "
            "parallel, needed one with a tokenizer.json. AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR) "
            "writes it where the library can convert the tokenizer."
        )
    # A copy: truncation, padding and the treatment of special tokens are switches of the object.
    backend = tokenizers.Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_truncation()
    backend.no_padding()
    identity = content_hash(f"{CACHE_FORMAT} {tokenizers.__version__} {backend.to_str()}")
    backend.encode_special_tokens = True
    # Without offsets where the library can (0.20 and later); the ids are the same.
    encode_batch = getattr(backend, "encode_batch_fast", backend.encode_batch)

    def encode(texts: list[str]) -> list[Any]:
        encodings: list[Any] = encode_batch(texts, add_special_tokens=False)
        return encodings

    return encode, identity


def _batches(texts: Iterable[str], known: dict[bytes, int], numbers: "array[int]") -> Iterator[Batch]:
    """Batches of the texts that are not `known` yet; the number of each text, old or new, goes into `numbers`."""
    batch = Batch()
    for text in texts:
        encoded = text.encode()
        digest = text_digest(encoded)
        if digest not in known:
            known[digest] = len(known)
            batch.texts.append(text)
            batch.digests.append(digest)
            batch.sizes.append(len(encoded))
            batch.num_characters += len(text)
        numbers.append(known[digest])
        if batch.num_characters >= _CHARACTERS_PER_BATCH:
            yield batch
            batch = Batch()
    if batch.texts:
        yield batch


def _starts(lengths_N: "npt.NDArray[np.int64]") -> "npt.NDArray[np.int64]":
    """Where each document of a segment starts."""
    import numpy as np

    starts: npt.NDArray[np.int64] = np.cumsum(lengths_N) - lengths_N
    return starts


def _forget_old_tokenizers(cache_dir: Path) -> None:
    """Remove the caches of all tokenizers but the last ones used; one that is in use now stays."""
    caches = sorted((path for path in cache_dir.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for path in caches[:-_TOKENIZERS_KEPT]:
        with suppress(BlockingIOError), locked(cache_dir, path.name, wait=False):
            shutil.rmtree(path)
