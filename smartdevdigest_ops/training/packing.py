"""Packing: documents of any length become training sequences of exactly T tokens, without padding.

    boundary doc A … boundary doc B …| … doc B boundary doc C …     | marks a cut after T tokens

Chunking each document for itself leaves 7-12 % padding at T = 512, truncating them discards 75-86 % of the tokens
(SmolLM2, 1,763 documents). Here only the last incomplete sequence is dropped, and counted.

Position ids restart at every document, which transformers reads as "packed" and answers with a block-diagonal mask:
no token attends to another document. It needs `attention_mask=None` and `use_cache=False` (a cache switches it off).

A sequence is put together when it is drawn. In memory are two numbers per document; texts are read once, and token ids
stay in the cache's files (training/encoding.py), mapped.

Shapes: N sequences, T tokens each, D documents.
"""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from smartdevdigest_ops.training.bits_per_byte import document_boundary_id, encode_documents
from smartdevdigest_ops.training.encoding import encode_corpus
from smartdevdigest_ops.training.errors import TrainingError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import PreTrainedTokenizerBase


class TokenizedDocuments(Protocol):
    """Token ids of documents, by their number."""

    lengths_N: "np.ndarray"
    """Tokens of each document."""
    num_bytes: int
    """UTF-8 bytes of all documents."""

    def token_ids(self, index: int) -> "np.ndarray":
        """Token ids of one document, int32."""


class TokensInMemory:
    """Tokenized documents that are few."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", texts: Iterable[str]) -> None:
        import numpy as np

        texts = list(texts)
        self._ids = [np.array(ids, dtype=np.int32) for ids in encode_documents(tokenizer, texts)]
        self.lengths_N = np.array([len(ids) for ids in self._ids], dtype=np.int64)
        self.num_bytes = sum(len(text.encode()) for text in texts)

    def token_ids(self, index: int) -> "np.ndarray":
        """Token ids of one document, int32."""
        return self._ids[index]


@dataclass(frozen=True)
class PackedDocuments:
    """A map-style dataset of packed sequences."""

    documents: TokenizedDocuments
    order_D: "np.ndarray"
    """Numbers of the documents, in the order in which they follow each other."""
    starts_D: "np.ndarray"
    """int64: where the boundary before each of them stands in the stream of all tokens; one more for the last one's
    end."""
    boundary: int
    """Token id."""
    sequence_length: int
    name_of: Callable[[int], str]
    """What a document is known by, given its number."""

    def __len__(self) -> int:
        return self.num_tokens // self.sequence_length

    def __getitem__(self, index: int) -> "dict[str, torch.Tensor]":
        """`input_ids`, `position_ids` and `labels`, each (T,) int64. The model shifts the labels."""
        import torch

        token_ids_T, position_ids_T = self.sequence(index)
        return {
            "input_ids": torch.from_numpy(token_ids_T),
            "position_ids": torch.from_numpy(position_ids_T),
            "labels": torch.from_numpy(token_ids_T.copy()),
        }

    def sequence(self, index: int) -> "tuple[np.ndarray, np.ndarray]":
        """Token ids and position ids of one sequence, (T,) int64; positions count from a document's boundary.

        A document that began in the sequence before counts from this one's start.
        """
        import numpy as np

        first, last = self._bounds(index)
        token_ids_T = np.full(last - first, self.boundary, dtype=np.int64)
        position_ids_T = np.empty(last - first, dtype=np.int64)
        for place in self._places(index):
            start, end = int(self.starts_D[place]), last
            if place < len(self.order_D):
                end = min(end, int(self.starts_D[place + 1]))
                ids = self.documents.token_ids(int(self.order_D[place]))
                since = max(first, start + 1)
                token_ids_T[since - first : end - first] = ids[since - start - 1 : end - start - 1]
            begin = max(first, start)
            position_ids_T[begin - first : end - first] = np.arange(end - begin)
        return token_ids_T, position_ids_T

    def documents_of(self, index: int) -> list[str]:
        """Names of the documents of which a part stands in one sequence, in their order."""
        return [self.name_of(int(self.order_D[place])) for place in self._places(index) if place < len(self.order_D)]

    def _bounds(self, index: int) -> tuple[int, int]:
        """Where a sequence begins and ends in the stream."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"sequence {index} of {len(self)}")
        first = (index % len(self)) * self.sequence_length
        return first, first + self.sequence_length

    def _places(self, index: int) -> range:
        """Places in the order of the documents that a sequence has tokens of; D stands for the closing boundary."""
        import numpy as np

        first, last = self._bounds(index)
        return range(
            int(np.searchsorted(self.starts_D, first, side="right")) - 1,
            int(np.searchsorted(self.starts_D, last, side="left")),
        )

    @property
    def num_documents(self) -> int:
        """D."""
        return len(self.order_D)

    @property
    def num_bytes(self) -> int:
        """UTF-8 bytes of all documents."""
        return self.documents.num_bytes

    @property
    def num_tokens(self) -> int:
        """Of all documents and the boundaries around them."""
        return int(self.starts_D[-1]) + 1

    @property
    def num_tokens_dropped(self) -> int:
        """Tokens of the last, incomplete sequence."""
        return self.num_tokens % self.sequence_length

    @property
    def bytes_per_token(self) -> float:
        """Mean UTF-8 bytes that a token stands for, document boundaries counted as tokens."""
        return self.num_bytes / self.num_tokens


def pack_documents(
    tokenizer: "PreTrainedTokenizerBase",
    texts: Iterable[str],
    *,
    sequence_length: int,
    seed: int,
    cache_dir: Path | None = None,
    name_of: Callable[[int], str] = lambda number: f"document {number}",
    what: str = "The train split holds",
    log: Callable[[str], None] = lambda line: None,
) -> PackedDocuments:
    """Pack `texts`, in an order drawn from `seed`, each between two document boundaries.

    Token ids are kept in memory, or where `cache_dir` is given there, and mapped. `texts` is gone through once.

    Raises:
        TrainingError: all texts together are shorter than one sequence; `what` begins the message.
    """
    import numpy as np

    boundary = document_boundary_id(tokenizer)
    documents: TokenizedDocuments = (
        TokensInMemory(tokenizer, texts)
        if cache_dir is None
        else encode_corpus(tokenizer, texts, cache_dir=cache_dir, log=log)
    )
    order = list(range(len(documents.lengths_N)))
    random.Random(seed).shuffle(order)
    order_D = np.array(order, dtype=np.int64)
    # The last document is closed too: the model learns where a document ends from every one of them.
    starts_D = np.concatenate([[0], np.cumsum(documents.lengths_N[order_D] + 1)]).astype(np.int64)
    packed = PackedDocuments(documents, order_D, starts_D, boundary, sequence_length, name_of)
    if not len(packed):
        raise TrainingError(
            f"{what} {packed.num_documents} documents of {packed.num_tokens} tokens together, less than one sequence "
            f"of {sequence_length}: there is nothing to train on. Lower training.m1.sequence_length or add documents."
        )
    return packed
