"""Draws at a temperature, answer by answer."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


class Sampler:
    """Draws tokens of one answer at a temperature; the same draws whatever batch the answer is written in.

    Source: Gumbel 1954 (the largest of the logits with Gumbel noise is a draw from their softmax).
    """

    def __init__(self, temperature: float, seed: int) -> None:
        import numpy as np

        self._temperature = temperature
        self._random = np.random.default_rng(seed)

    def draw(self, logits_V: "torch.Tensor") -> int:
        """A token; those at minus infinity are never drawn. At temperature 0 the likeliest."""
        import torch

        if self._temperature == 0:
            return int(logits_V.argmax())

        noise_V = torch.from_numpy(self._random.gumbel(size=logits_V.shape[-1])).to(logits_V.device)
        return int((logits_V / self._temperature + noise_V).argmax())
