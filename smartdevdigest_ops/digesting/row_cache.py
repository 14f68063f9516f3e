"""Keys and values of the rows being written: a block per layer, one row per document, token t of a row at place t.

Rows come, go and grow without anything being padded or shifted. A model takes it for a transformers cache: all that
its code asks of one while it is given positions is `update`.

Shapes: R rows, T tokens of the longest row, N new tokens of all rows, K key-value heads, D head size.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    RowContent = Sequence[tuple[torch.Tensor, torch.Tensor]]
    """Keys and values (K, tokens, D) per layer."""


class RowCache:
    """Room for `num_rows` documents of `num_tokens` tokens, prompt and answer together."""

    def __init__(self, num_rows: int, num_tokens: int) -> None:
        self._size = num_rows, num_tokens
        self._blocks: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._rows_N: torch.Tensor | None = None
        self._positions_N: torch.Tensor | None = None
        self._in_use = (0, 0)

    def expect(self, rows_N: "torch.Tensor", positions_N: "torch.Tensor", *, num_rows: int, num_tokens: int) -> None:
        """Say where the next step's new tokens go, and how many rows and tokens are in use then."""
        self._rows_N, self._positions_N, self._in_use = rows_N, positions_N, (num_rows, num_tokens)

    def update(
        self, key: "torch.Tensor", value: "torch.Tensor", layer: int, *_: Any, **__: Any
    ) -> "tuple[torch.Tensor, torch.Tensor]":
        """Put the new tokens' keys and values, (1, K, N, D), in their places; returns those in use, (R, K, T, D)."""
        if layer == len(self._blocks):
            self._blocks.append((self._zeros(key[0]), self._zeros(value[0])))
        keys, values = self._blocks[layer]
        keys[self._rows_N, :, self._positions_N] = key[0].transpose(0, 1)
        values[self._rows_N, :, self._positions_N] = value[0].transpose(0, 1)
        num_rows, num_tokens = self._in_use
        return keys[:num_rows, :, :num_tokens], values[:num_rows, :, :num_tokens]

    def read(self, row: int, num_tokens: int) -> "RowContent":
        """A copy of a row's first tokens."""
        return [
            (keys[row, :, :num_tokens].clone(), values[row, :, :num_tokens].clone()) for keys, values in self._blocks
        ]

    def write(self, row: int, content: "RowContent") -> None:
        """Put what `read` gave at the beginning of a row."""
        for layer, (key, value) in enumerate(content):
            if layer == len(self._blocks):
                self._blocks.append((self._zeros(key), self._zeros(value)))
            keys, values = self._blocks[layer]
            keys[row, :, : key.shape[1]] = key
            values[row, :, : value.shape[1]] = value

    def move(self, source: int, target: int, num_tokens: int) -> None:
        """Copy the first tokens of row `source` over row `target`."""
        for blocks in self._blocks:
            for block in blocks:
                block[target, :, :num_tokens] = block[source, :, :num_tokens]

    def clear(self, row: int) -> None:
        """Set a row to zero: NaN in it would reach the next document, for a mask only multiplies it by 0."""
        for blocks in self._blocks:
            for block in blocks:
                block[row].zero_()

    def _zeros(self, like: "torch.Tensor") -> "torch.Tensor":
        # Not empty: memory that was never written may hold NaN, too.
        num_rows, num_tokens = self._size
        return like.new_zeros(num_rows, like.shape[0], num_tokens, like.shape[-1])
