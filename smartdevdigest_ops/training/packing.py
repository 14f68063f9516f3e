"""Packing: documents of any length become training sequences of exactly T tokens, without padding.

    boundary doc A … boundary doc B …| … doc B boundary doc C …     | marks a cut after T tokens

Chunking each document for itself leaves 7-12 % padding at T = 512, truncating them discards 75-86 % of the tokens
(SmolLM2, 1,763 documents). Here only the last incomplete sequence is dropped, and counted.

Position ids restart at every document, which transformers reads as "packed" and answers with a block-diagonal mask:
no token attends to another document. It needs `attention_mask=None` and `use_cache=False` (a cache switches it off).

Shapes: N sequences, T tokens each.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smartdevdigest_ops.training.bits_per_byte import document_boundary_id, encode_documents
from smartdevdigest_ops.training.errors import TrainingError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import PreTrainedTokenizerBase

_DOCUMENTS_PER_CALL = 256


@dataclass(frozen=True)
class PackedDocuments:
    """A map-style dataset of packed sequences."""

    token_ids_NT: "np.ndarray"
    """int32"""
    position_ids_NT: "np.ndarray"
    """int32; 0 at each document's start and at each sequence's start."""
    num_documents: int
    num_bytes: int
    """UTF-8 bytes of all documents."""
    num_tokens_dropped: int
    """Tokens of the last, incomplete sequence."""

    def __len__(self) -> int:
        return len(self.token_ids_NT)

    def __getitem__(self, index: int) -> "dict[str, torch.Tensor]":
        """`input_ids`, `position_ids` and `labels`, each (T,) int64. The model shifts the labels."""
        import torch

        token_ids_T = torch.from_numpy(self.token_ids_NT[index]).long()
        position_ids_T = torch.from_numpy(self.position_ids_NT[index]).long()
        return {"input_ids": token_ids_T, "position_ids": position_ids_T, "labels": token_ids_T.clone()}

    @property
    def bytes_per_token(self) -> float:
        """Mean UTF-8 bytes that a token stands for, document boundaries counted as tokens."""
        return self.num_bytes / (self.token_ids_NT.size + self.num_tokens_dropped)


def pack_documents(
    tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str], *, sequence_length: int, seed: int
) -> PackedDocuments:
    """Pack `texts`, in an order drawn from `seed`, each between two document boundaries.

    Raises:
        TrainingError: all texts together are shorter than one sequence.
    """
    import numpy as np
    from tqdm import tqdm  # noqa: PLC0415

    order = list(range(len(texts)))
    random.Random(seed).shuffle(order)
    boundary = document_boundary_id(tokenizer)
    pieces: list[np.ndarray] = []
    positions: list[np.ndarray] = []
    with tqdm(total=len(texts), desc="Packing documents", unit="doc", disable=len(texts) < _DOCUMENTS_PER_CALL) as bar:
        for start in range(0, len(order), _DOCUMENTS_PER_CALL):
            batch = [texts[index] for index in order[start : start + _DOCUMENTS_PER_CALL]]
            for token_ids in encode_documents(tokenizer, batch):
                pieces.append(np.array([boundary, *token_ids], dtype=np.int32))
                positions.append(np.arange(len(token_ids) + 1, dtype=np.int32))
            bar.update(len(batch))
    # The last document is closed too: the model learns where a document ends from every one of them.
    pieces.append(np.array([boundary], dtype=np.int32))
    positions.append(np.zeros(1, dtype=np.int32))
    stream = np.concatenate(pieces)
    num_sequences = len(stream) // sequence_length
    if num_sequences == 0:
        raise TrainingError(
            f"The train split holds {len(texts)} documents of {len(stream)} tokens together, less than one sequence "
            f"of {sequence_length}: there is nothing to train on. Lower training.m1.sequence_length or add documents."
        )
    kept = num_sequences * sequence_length
    token_ids_NT = stream[:kept].reshape(num_sequences, sequence_length)
    position_ids_NT = np.concatenate(positions)[:kept].reshape(num_sequences, sequence_length)
    return PackedDocuments(
        token_ids_NT=token_ids_NT,
        position_ids_NT=_restart_at_cuts(position_ids_NT),
        num_documents=len(texts),
        num_bytes=sum(len(text.encode()) for text in texts),
        num_tokens_dropped=len(stream) - kept,
    )


def _restart_at_cuts(position_ids_NT: "np.ndarray") -> "np.ndarray":
    """Positions counted from the sequence's start where a document began before it."""
    import numpy as np

    restarted = position_ids_NT.copy()
    for row_T in restarted:
        starts = np.flatnonzero(row_T == 0)
        continued = starts[0] if len(starts) else len(row_T)
        row_T[:continued] -= row_T[0]
    return restarted
