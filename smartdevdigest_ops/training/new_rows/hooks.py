"""Rows of new tokens as parameters of their own, seen by a model that is otherwise frozen.

Training the embedding itself would cost a dense (V, D) gradient per step, and optimizer states of that size. Hooks put
the new rows over what the embedding and the head compute, so only those rows have gradients, and no other can move.

Shapes: B sequences, T tokens, D features, V rows of the embedding, N new rows (ids first .. first + N - 1).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class NewRows:
    """What learns: float32 copies of the new tokens' rows. Where the embeddings are tied both are one tensor."""

    first: int
    input_ND: "torch.Tensor"
    output_ND: "torch.Tensor"

    @classmethod
    def of(cls, model: "PreTrainedModel", first: int, num_rows: int) -> "NewRows":
        """Copies of the rows that `model` has now."""
        input_ND = _copy(model.get_input_embeddings().weight, first, num_rows)
        tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
        return cls(first, input_ND, input_ND if tied else _copy(model.get_output_embeddings().weight, first, num_rows))

    @property
    def is_tied(self) -> bool:
        """One row is both input and output."""
        return self.output_ND is self.input_ND

    @property
    def parameters(self) -> "list[torch.Tensor]":
        """One tensor where the embeddings are tied, two where not."""
        return [self.input_ND] if self.is_tied else [self.input_ND, self.output_ND]

    def write_to(self, model: "PreTrainedModel") -> None:
        """Put the rows into the model's own matrices."""
        import torch

        last = self.first + len(self.input_ND)
        with torch.no_grad():
            model.get_input_embeddings().weight[self.first : last] = self.input_ND.to(model.dtype)
            model.get_output_embeddings().weight[self.first : last] = self.output_ND.to(model.dtype)


def _copy(weight_VD: "torch.Tensor", first: int, num_rows: int) -> "torch.Tensor":
    return weight_VD.detach()[first : first + num_rows].float().clone().requires_grad_()


@contextmanager
def frozen(model: "PreTrainedModel") -> Iterator[None]:
    """No gradient for any weight and no dropout while this is open; as it was afterwards."""
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    was_training = model.training
    model.requires_grad_(False).eval()
    try:
        yield
    finally:
        model.train(was_training)
        for parameter in wanted:
            parameter.requires_grad_()


@contextmanager
def seen_by(model: "PreTrainedModel", rows: NewRows) -> Iterator[None]:
    """While this is open `model` computes with `rows`, for token ids as input and in its logits."""
    import torch

    num_rows = len(rows.input_ND)

    def over_embeddings(module: Any, inputs: tuple[Any, ...], embeddings_BTD: "torch.Tensor") -> "torch.Tensor":
        index_BT = inputs[0] - rows.first
        is_new_BT = (index_BT >= 0) & (index_BT < num_rows)
        new_BTD = torch.nn.functional.embedding(index_BT.clamp(0, num_rows - 1), rows.input_ND)
        # Gemma's embedding multiplies its rows by the root of D.
        new_BTD = new_BTD * getattr(module, "embed_scale", 1.0)
        return torch.where(is_new_BT[..., None], new_BTD.to(embeddings_BTD.dtype), embeddings_BTD)

    def over_logits(module: Any, inputs: tuple[Any, ...], logits_BTV: "torch.Tensor") -> "torch.Tensor":
        bias = None if module.bias is None else module.bias[rows.first : rows.first + num_rows]
        new_BTN = torch.nn.functional.linear(inputs[0], rows.output_ND.to(inputs[0].dtype), bias)
        return torch.cat([logits_BTV[..., : rows.first], new_BTN, logits_BTV[..., rows.first + num_rows :]], dim=-1)

    handles = [
        model.get_input_embeddings().register_forward_hook(over_embeddings),
        model.get_output_embeddings().register_forward_hook(over_logits),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
