"""Logits of the positions that carry loss, and of no others.

M2 scores answers, a third of its tokens. Over a large vocabulary the output layer is most of the work of a position
(Gemma 3 270M: 168 million of 268 million weights) and its logits are most of the memory: computed where there is a
target, they are the same numbers.

Shapes: B sequences, T tokens, S positions of which any sequence has a target.
"""

import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_IGNORED = -100
# Of the positions: above it, gathering them costs more than it saves, and M1, which scores all, computes as ever.
_MOST_SCORED = 0.75


def takes_positions(model: Any) -> bool:
    """Whether the model (of an adapter: what it adapts) can be asked for the logits of some positions."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "logits_to_keep" in inspect.signature(base.forward).parameters


def at_scored_positions(inputs: "dict[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
    """The inputs of a forward pass that computes logits_BSV in the place of logits_BTV, with the same loss.

    `labels` (B, T) are targets at their own place, as everywhere; `shift_labels` (B, S) beside them are what each of
    the positions predicts.
    """
    import torch

    labels_BT = inputs["labels"]
    targets_BT = torch.nn.functional.pad(labels_BT, (0, 1), value=_IGNORED)[:, 1:]
    positions_S = (targets_BT != _IGNORED).any(0).nonzero().flatten()
    if not 0 < len(positions_S) <= _MOST_SCORED * labels_BT.shape[1]:
        return inputs
    return inputs | {"logits_to_keep": positions_S, "shift_labels": targets_BT[:, positions_S].contiguous()}
