"""The sequences of a run, in the order in which it sees them.

Item i of the stream is the i-th sequence of the run: which pass over the corpus it belongs to, whether it is one of the
corpus or general text that is replayed, and which of its tokens are masked all follow from (seed, i). So the number of
items drawn is all that a checkpoint must know of the data, and a resumed run sees what the killed one would have seen,
also with another micro-batch.

    corpus   s7 s2 s9 s4 ...            each pass in an order of its own
    general           g1 ...            every 1 / replay_share-th item
    run      s7 s2 s9 g1 s4 ...
"""

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from smartdevdigest_ops.training.m1.objectives import NEXT_TOKEN, Objective
from smartdevdigest_ops.training.packing import PackedDocuments

if TYPE_CHECKING:
    import numpy as np
    import torch

_CORPUS, _GENERAL = 0, 1


@dataclass(frozen=True)
class Drawn:
    """Where an item of the stream comes from."""

    packed: PackedDocuments
    source: int
    """0: the corpus, 1: general text."""
    epoch: int
    """Passes over the source that were finished before."""
    index: int
    """Of the sequence in `packed`."""


@dataclass(frozen=True)
class TrainingStream:
    """A map-style dataset that is drawn in order. Items are those of `PackedDocuments`, prepared for the objective."""

    corpus: PackedDocuments
    num_sequences: int
    """Of the whole run."""
    seed: int
    general: PackedDocuments | None = None
    replay_share: float = 0.0
    """Of the items; 0 where there is no general text."""
    objective: Objective = NEXT_TOKEN
    span: tuple[int, int] | None = field(default=None)
    """Items of the run that this part holds; None: all."""

    def __len__(self) -> int:
        first, last = self._span
        return last - first

    def __getitem__(self, index: int) -> "dict[str, torch.Tensor]":
        """`input_ids`, `position_ids` and `labels`, each (T,) int64."""
        import numpy as np

        position = self._position(index)
        drawn = self.drawn(index)
        draws = np.random.default_rng([self.seed, drawn.source, drawn.epoch, drawn.index])
        return self.objective.prepare(drawn.packed[drawn.index], position / self.num_sequences, draws)

    def part(self, first: int, last: int) -> "TrainingStream":
        """Items `first` to `last` (not included) of this stream, each the same as in the whole."""
        start, end = self._span
        if not 0 <= first <= last <= end - start:
            raise IndexError(f"items {first} to {last} of {end - start}")
        return replace(self, span=(start + first, start + last))

    def drawn(self, index: int) -> Drawn:
        """Where the item comes from."""
        position = self._position(index)
        replayed = self._replayed_before(position)
        if self.general is not None and self._replayed_before(position + 1) > replayed:
            packed, source, number = self.general, _GENERAL, replayed
        else:
            packed, source, number = self.corpus, _CORPUS, position - replayed
        epoch, place = divmod(number, len(packed))
        return Drawn(packed, source, epoch, int(_order(len(packed), self.seed, source, epoch)[place]))

    def documents_of(self, index: int) -> list[str]:
        """Names of the documents of which a part stands in the item."""
        drawn = self.drawn(index)
        return drawn.packed.documents_of(drawn.index)

    @property
    def num_replayed(self) -> int:
        """Items that are general text."""
        first, last = self._span
        return self._replayed_before(last) - self._replayed_before(first)

    @property
    def replay_passes(self) -> float:
        """How often the general text is read, on average of its sequences; 0 where there is none."""
        return self.num_replayed / len(self.general) if self.general is not None else 0.0

    def corpus_bytes(self, num_items: int) -> int:
        """UTF-8 bytes of the corpus that the first items stand for, on average of its tokens; replay not counted."""
        first, _ = self._span
        replayed = self._replayed_before(first + num_items) - self._replayed_before(first)
        return round((num_items - replayed) * self.corpus.sequence_length * self.corpus.bytes_per_token)

    @property
    def _span(self) -> tuple[int, int]:
        return self.span or (0, self.num_sequences)

    def _position(self, index: int) -> int:
        """Number of the item in the whole run."""
        if not 0 <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        return self._span[0] + index

    def _replayed_before(self, position: int) -> int:
        """Items of general text among the first `position` of the run: spread evenly."""
        return int(position * self.replay_share) if self.general is not None else 0


@lru_cache(maxsize=4)
def _order(num_sequences: int, seed: int, source: int, epoch: int) -> "np.ndarray":
    """The order of one pass over a source."""
    import numpy as np

    return np.random.default_rng([seed, source, epoch, num_sequences]).permutation(num_sequences)
