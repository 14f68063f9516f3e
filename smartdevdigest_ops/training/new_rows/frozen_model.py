"""What the frozen model is asked before new rows are fitted, once each.

Shapes: B sequences, T tokens, P positions, D features, V rows of the embedding, N new rows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smartdevdigest_ops.training.errors import TrainingError
from smartdevdigest_ops.training.new_rows.checkpoints import kept
from smartdevdigest_ops.training.new_rows.hooks import NewRows
from smartdevdigest_ops.training.new_rows.snippets import Expansions, expand
from smartdevdigest_ops.training.trainer.kernels import Kernels

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

# Over so many snippets F is estimated: about twice as many new tokens as SmolLM2's rows have features.
_SENSITIVITY_SNIPPETS = 48
# So many times its mean diagonal is added to F: from about as many tokens as it has dimensions, F holds directions for
# free that are not.
_SHRINKAGE = 1.0


@dataclass(frozen=True)
class Teacher:
    """What the base model computed at P positions: before each token of the snippets, one after the other."""

    state_PD: "torch.Tensor"
    """What the head reads."""
    log_total_P: "torch.Tensor"
    """log of the sum of the exponentiated logits of the base tokens."""
    old_logit_P: "torch.Tensor"
    """Logit of the base token that comes next."""
    target_P: "torch.Tensor"
    """The token that comes next, new or old."""


class FrozenModel:
    """The base model, extended, over fixed snippets. No gradient reaches its weights (`hooks.frozen`)."""

    def __init__(
        self,
        model: "PreTrainedModel",
        rows: NewRows,
        snippets: Sequence[list[int]],
        expansions: Expansions,
        boundary: int,
        *,
        batch_size: int,
        seed: int,
        kernels: Kernels,
        scratch: Path,
    ) -> None:
        """`boundary`: the id that stands before a document. What is computed is kept in `scratch`."""
        self.model = model
        self.rows = rows
        self.snippets = snippets
        self.expansions = expansions
        self.boundary = boundary
        self._batch_size = batch_size
        self._seed = seed
        self._kernels = kernels
        self._scratch = scratch

    def read_teacher(self) -> Teacher:
        """The base model's states over all snippets."""
        import torch
        from tqdm import tqdm  # noqa: PLC0415

        def read() -> dict[str, torch.Tensor]:
            parts: list[dict[str, torch.Tensor]] = []
            with torch.inference_mode(), tqdm(total=len(self.snippets), desc="Reading snippets", unit="snippet") as bar:
                for batch in self._batches(list(range(len(self.snippets)))):
                    parts += self._read(batch)
                    bar.update(len(batch))
            return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

        return Teacher(**kept(self._scratch / "teacher.safetensors", read, self.model.device))

    def _read(self, batch: Sequence[int]) -> "list[dict[str, torch.Tensor]]":
        import torch

        token_ids_BT = self.padded([expand(self.snippets[index], self.expansions) for index in batch])
        if batch[0] == 0:
            self._refuse_other_logits(token_ids_BT[:1])
        states_BTD = self.states(token_ids_BT)
        head = self.model.get_output_embeddings()
        parts = []
        for states_TD, index in zip(states_BTD, batch, strict=True):
            snippet = self.snippets[index]
            replaced = [self.expansions.get(token_id, (token_id,)) for token_id in snippet]
            before = [0, *accumulate(map(len, replaced[:-1]))]
            state_PD = states_TD[before]
            logits_PV = head(state_PD).float()[:, : self.rows.first]
            first_P1 = torch.tensor([[base_ids[0]] for base_ids in replaced], device=logits_PV.device)
            parts.append(
                {
                    "state_PD": state_PD.float(),
                    "log_total_P": logits_PV.logsumexp(dim=-1),
                    "old_logit_P": logits_PV.gather(1, first_P1)[:, 0],
                    "target_P": torch.tensor(snippet, device=logits_PV.device),
                }
            )
        return parts

    def sensitivity(self) -> "torch.Tensor":
        """F: (D, D), the Fisher information of the model's predictions in one new token's input row.

        The mean of g gᵀ, g the gradient of -log p of continuations that the model itself draws.
        """
        import torch

        def estimate() -> dict[str, torch.Tensor]:
            generator = torch.Generator().manual_seed(self._seed)
            richest = sorted(range(len(self.snippets)), key=self._num_new_tokens, reverse=True)[:_SENSITIVITY_SNIPPETS]
            gradient_PD = torch.cat([self._input_gradients(batch, generator) for batch in self._batches(richest)])
            # A few positions have gradients many times the others', and would decide F alone.
            norm_P1 = gradient_PD.norm(dim=1, keepdim=True).clamp_min(1e-12)
            gradient_PD = gradient_PD * (norm_P1.quantile(0.98) / norm_P1).clamp_max(1)
            fisher_DD = gradient_PD.T @ gradient_PD / len(gradient_PD)
            size = fisher_DD.diagonal().mean()
            return {"fisher_DD": fisher_DD + _SHRINKAGE * size * torch.eye(len(fisher_DD), device=fisher_DD.device)}

        return kept(self._scratch / "sensitivity.safetensors", estimate, self.model.device)["fisher_DD"]

    def _input_gradients(self, batch: Sequence[int], generator: "torch.Generator") -> "torch.Tensor":
        """(P, D): gradients at the batch's new tokens."""
        import torch

        token_ids_BT = self.padded([self.snippets[index] for index in batch])
        read: list[torch.Tensor] = []

        def keep(_module: Any, _inputs: Any, embeddings_BTD: torch.Tensor) -> torch.Tensor:
            read.append(embeddings_BTD.detach().requires_grad_())
            return read[0]

        embedding = self.model.get_input_embeddings()
        handle = embedding.register_forward_hook(keep)
        try:
            states_BTD = self.states(token_ids_BT)
        finally:
            handle.remove()
        states_PD = states_BTD[self.is_token(batch)]
        logits_PV = self.model.get_output_embeddings()(states_PD).float()[:, : self.rows.first]
        drawn_P = torch.multinomial(logits_PV.detach().softmax(dim=-1).cpu(), 1, generator=generator)[:, 0]
        loss = torch.nn.functional.cross_entropy(logits_PV, drawn_P.to(logits_PV.device), reduction="sum")
        (gradient_BTD,) = torch.autograd.grad(loss, read[0])
        index_BT = token_ids_BT - self.rows.first
        is_new_BT = (index_BT >= 0) & (index_BT < len(self.rows.input_ND))
        return (gradient_BTD[is_new_BT] * getattr(embedding, "embed_scale", 1.0)).float()

    def padded(self, sequences: Sequence[Sequence[int]]) -> "torch.Tensor":
        """(B, T): a boundary before each; boundaries fill up on the right, where causal attention never looks."""
        import torch

        longest = max(map(len, sequences))
        filled = [[self.boundary, *ids] + [self.boundary] * (longest - len(ids)) for ids in sequences]
        return torch.tensor(filled, device=self.model.device)

    def is_token(self, batch: Sequence[int]) -> "torch.Tensor":
        """(B, T): the positions after which a token of the snippet comes."""
        import torch

        lengths_B1 = torch.tensor([[len(self.snippets[index])] for index in batch], device=self.model.device)
        return torch.arange(int(lengths_B1.max()) + 1, device=self.model.device) < lengths_B1

    def states(self, token_ids_BT: "torch.Tensor") -> "torch.Tensor":
        """(B, T, D): what the head reads, computed as M1 computes; the head's products stay float32."""
        import torch

        autocast = torch.autocast(self.model.device.type, dtype=torch.bfloat16, enabled=self._kernels.autocast_bfloat16)
        with autocast:
            states_BTD: torch.Tensor = self.model.base_model(input_ids=token_ids_BT, use_cache=False).last_hidden_state
        return states_BTD.float()

    def _refuse_other_logits(self, token_ids_1T: "torch.Tensor") -> None:
        """Gemma 2 caps its logits and Cohere scales them: then the head alone does not say what is predicted."""
        import torch

        states_1TD = self.model.base_model(input_ids=token_ids_1T, use_cache=False).last_hidden_state
        logits_11V = self.model.get_output_embeddings()(states_1TD[:, -1:])
        found = self.model(input_ids=token_ids_1T, use_cache=False).logits[:, -1:]
        if not torch.allclose(found, logits_11V, rtol=1e-3, atol=1e-3):
            raise TrainingError(
                f"{type(self.model).__name__} changes its logits after the head, which fitting new rows does not "
                "know. Set training.m1.new_rows.method to mean."
            )

    def _batches(self, order: Sequence[int]) -> Iterator[list[int]]:
        for start in range(0, len(order), self._batch_size):
            yield list(order[start : start + self._batch_size])

    def _num_new_tokens(self, index: int) -> int:
        return sum(token_id in self.expansions for token_id in self.snippets[index])
