"""New rows fitted before training starts: they predict, and are read, as the old tokens that they replace were.

Rows start as means of sub-tokens (`models.embeddings`). As outputs those are far off: after text, the frozen model
predicts the first piece of a word, and a mean of all its pieces answers to that only faintly. So, over snippets of the
train split:

    teacher   boundary  쿠 버 네 티 스  는    the base model reads the old tokens, once; kept are the head's inputs
                     |              |      where a new token begins or ends
    output    boundary       쿠버네티스    는    the new rows learn to predict the same text from these states

The states are fixed and so are the old rows: the sum over the old logits is computed once, and a step costs a product
with the N new rows and no pass through a layer.

Where the embeddings are tied, a row that predicts well would be misread as input. What a change d of a row does to the
model's predictions is to second order d F d / 2 nats each time it is read, with F the Fisher information of the
predictions in that input; F is estimated once over all new tokens and added to the loss. Rows then move where the
model, as a reader, does not look. At last, passes over the snippets through all layers train the rows on what both
uses cost together: means are not quite right as inputs either.

Source: Dobler et al. 2025, "Token Distillation" (arXiv 2505.20133), for a frozen teacher that reads the old tokens;
Kirkpatrick et al. 2017 (arXiv 1612.00796), section 2, for the penalty by Fisher information.
"""

import math
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from smartdevdigest_ops.settings.training import NewRowsSettings
from smartdevdigest_ops.stage import StageContext
from smartdevdigest_ops.training.bits_per_byte import document_boundary_id
from smartdevdigest_ops.training.errors import TrainingError
from smartdevdigest_ops.training.new_rows.checkpoints import restore_rows, save_rows
from smartdevdigest_ops.training.new_rows.frozen_model import FrozenModel, Teacher
from smartdevdigest_ops.training.new_rows.hooks import NewRows, frozen, seen_by
from smartdevdigest_ops.training.new_rows.snippets import draw_snippets, expand
from smartdevdigest_ops.training.trainer.kernels import choose_kernels

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SCRATCH = "new_rows"
"""Directory of what was computed, in the making's scratch."""
_SECONDS_BETWEEN_CHECKPOINTS = 30.0
_LINES_PER_PHASE = 4
_POSITIONS_PER_STEP = 256
# F is a second-order estimate, and rows move further than that holds.
_MISREADING_WEIGHT = 10.0


@dataclass(frozen=True)
class NewRowsReport:
    """What fitting took and what it covered."""

    num_snippets: int
    base_tokens_read: int
    """By the teacher."""
    num_steps: int
    """Of the passes through all layers."""
    share_of_tokens_seen: float
    """Share of the new tokens that occur in a snippet; the others keep the mean of their sub-tokens."""
    seconds: float
    """Of this process: less than the whole where the run was resumed."""


def fit_new_rows(
    model: "PreTrainedModel",
    new_tokens: Sequence[Mapping[str, Any]],
    texts: Sequence[str],
    tokenizer: "PreTrainedTokenizerBase",
    settings: NewRowsSettings,
    context: StageContext,
) -> NewRowsReport | None:
    """Fit the rows of `new_tokens` in place; None where there are none to fit or `settings.method` is `mean`.

    `model` comes from `extend_embeddings`; `tokenizer` is the extended one. No other weight changes. The same texts,
    settings and machine give the same rows, also when the run was killed and resumed: what was computed is kept in
    `context.scratch/new_rows`.

    Raises:
        TrainingError: the loss is not finite, or the model's logits are not those of its head.
    """
    if not new_tokens or settings.method == "mean":
        return None
    started = time.monotonic()
    expansions = {int(token["id"]): tuple(token["base_ids"]) for token in new_tokens}
    snippets = draw_snippets(
        tokenizer,
        texts,
        expansions,
        max_base_tokens=settings.max_base_tokens,
        snippet_tokens=settings.snippet_tokens,
        occurrences=settings.occurrences,
        seed=context.settings.seed,
    )
    shown = {token_id for snippet in snippets for token_id in snippet} & expansions.keys()
    if not shown:
        context.log("m1_checkpoint: no new token occurs in the train split, so their rows stay means of sub-tokens")
        return None
    num_base_tokens = sum(len(expand(snippet, expansions)) for snippet in snippets)
    context.log(
        f"m1_checkpoint: fitting {len(new_tokens)} new rows, {len(shown)} of them seen in {len(snippets)} snippets of "
        f"{num_base_tokens} base tokens together"
    )
    rows = NewRows.of(model, int(new_tokens[0]["id"]), len(new_tokens))
    scratch = context.scratch / SCRATCH
    scratch.mkdir(exist_ok=True)
    asked = FrozenModel(
        model,
        rows,
        snippets,
        expansions,
        document_boundary_id(tokenizer),
        batch_size=settings.batch_size,
        seed=context.settings.seed,
        kernels=choose_kernels(model.device.type, context.settings.model.precision, context.scratch / "kernels.json"),
        scratch=scratch,
    )
    fit = _Fit(asked, settings, context)
    with frozen(model):
        fit.outputs(asked.read_teacher(), asked.sensitivity() if rows.is_tied else None)
        num_steps = fit.passes()
    rows.write_to(model)
    return NewRowsReport(
        num_snippets=len(snippets),
        base_tokens_read=num_base_tokens,
        num_steps=num_steps,
        share_of_tokens_seen=len(shown) / len(new_tokens),
        seconds=time.monotonic() - started,
    )


class _Fit:
    """One fit over fixed snippets; see `fit_new_rows`."""

    def __init__(self, asked: FrozenModel, settings: NewRowsSettings, context: StageContext) -> None:
        import torch

        self.asked = asked
        self.rows = asked.rows
        self.settings = settings
        self.context = context
        counts = Counter(token_id for snippet in asked.snippets for token_id in snippet)
        occurrences = [counts[self.rows.first + index] for index in range(len(self.rows.input_ND))]
        self.counts_N = torch.tensor(occurrences, device=asked.model.device, dtype=torch.float32)
        row_size = self.rows.output_ND.detach().square().mean().sqrt().item()
        self.learning_rate = settings.learning_rate * row_size

    def outputs(self, teacher: Teacher, fisher_DD: "torch.Tensor | None") -> int:
        """Fit the output rows to the teacher's states; returns the steps."""
        import torch

        rows_ND = self.rows.output_ND
        start_ND = rows_ND.detach().clone()
        if fisher_DD is None:
            self._start_as_first_pieces()
        # Occurrences per position; a token that was hardly seen is held like one that was seen half a time.
        share_N = self.counts_N.clamp_min(0.5) / len(teacher.target_P)

        def loss_of(positions: list[int]) -> torch.Tensor:
            at = torch.tensor(positions, device=rows_ND.device)
            new_PN = teacher.state_PD[at] @ rows_ND.T
            log_total_P = torch.logaddexp(teacher.log_total_P[at], new_PN.logsumexp(dim=-1))
            index_P = teacher.target_P[at] - self.rows.first
            is_new_P = (index_P >= 0) & (index_P < len(rows_ND))
            new_logit_P = new_PN.gather(1, index_P.clamp(0, len(rows_ND) - 1)[:, None])[:, 0]
            loss = (log_total_P - torch.where(is_new_P, new_logit_P, teacher.old_logit_P[at])).mean()
            if fisher_DD is not None:
                change_ND = rows_ND - start_ND
                misread = 0.5 * (share_N * ((change_ND @ fisher_DD) * change_ND).sum(dim=1)).sum()
                loss = loss + _MISREADING_WEIGHT * misread
            return loss

        batches = self._epochs(len(teacher.target_P), _POSITIONS_PER_STEP, self.settings.output_epochs, "outputs")
        return self._descend("outputs", batches, loss_of, self.learning_rate)

    def _start_as_first_pieces(self) -> None:
        """Where a row is only predicted with, what it must answer to is what its first sub-token answers to."""
        import torch

        weight_VD = self.asked.model.get_output_embeddings().weight
        with torch.no_grad():
            for token_id, base_ids in self.asked.expansions.items():
                if self.counts_N[token_id - self.rows.first] > 0:
                    self.rows.output_ND[token_id - self.rows.first] = weight_VD[base_ids[0]].float()

    def passes(self) -> int:
        """Train all new rows on the snippets through all layers; returns the steps."""
        import torch

        def loss_of(batch: list[int]) -> torch.Tensor:
            token_ids_BT = self.asked.padded([self.asked.snippets[index] for index in batch])
            is_token_BT = self.asked.is_token(batch)
            states_BTD = self.asked.states(token_ids_BT)
            logits_PV = self.asked.model.get_output_embeddings()(states_BTD[is_token_BT])
            target_P = token_ids_BT.roll(-1, dims=1)[is_token_BT]
            return torch.nn.functional.cross_entropy(logits_PV.float(), target_P)

        batches = self._epochs(len(self.asked.snippets), self.settings.batch_size, self.settings.passes, "passes")
        with seen_by(self.asked.model, self.rows):
            return self._descend("passes", batches, loss_of, self.learning_rate)

    def _descend(
        self, name: str, batches: Sequence[list[int]], loss_of: Callable[[list[int]], "torch.Tensor"], rate: float
    ) -> int:
        """Adam over `batches` with a rate that falls to 0; goes on where a run before this one was killed."""
        import torch
        from tqdm import tqdm  # noqa: PLC0415

        parameters = self.rows.parameters
        optimizer = torch.optim.Adam(parameters, lr=rate, betas=(0.9, 0.99))
        file = self.context.scratch / SCRATCH / f"{name}.safetensors"
        done = restore_rows(file, parameters, optimizer)
        is_seen_N1 = self.counts_N[:, None] > 0
        saved = time.monotonic()
        every = max(1, len(batches) // _LINES_PER_PHASE)
        recent: list[float] = []
        with tqdm(total=len(batches), initial=done, desc=f"Fitting new rows: {name}", unit="step") as bar:
            for step in range(done, len(batches)):
                for group in optimizer.param_groups:
                    group["lr"] = rate * (1 - step / len(batches))
                optimizer.zero_grad()
                loss = loss_of(batches[step])
                loss.backward()  # type: ignore[no-untyped-call]  # torch's own
                for parameter in parameters:
                    if parameter.grad is not None:
                        parameter.grad *= is_seen_N1
                optimizer.step()
                recent.append(self._finite(loss.item(), name, step))
                bar.update()
                if (step + 1) % every == 0:
                    mean = sum(recent) / len(recent)
                    self.context.log(
                        f"m1_checkpoint: new rows, {name}: step {step + 1}/{len(batches)}, loss {mean:.3f}"
                    )
                    recent.clear()
                if time.monotonic() - saved > _SECONDS_BETWEEN_CHECKPOINTS or step + 1 == len(batches):
                    save_rows(file, parameters, optimizer, step + 1)
                    saved = time.monotonic()
        return len(batches)

    def _finite(self, loss: float, name: str, step: int) -> float:
        if not math.isfinite(loss):
            raise TrainingError(
                f"Fitting new rows ({name}): the loss is {loss} at step {step + 1}, so the rows are lost. Lower "
                "training.m1.new_rows.learning_rate, or set training.m1.new_rows.method to mean."
            )
        return loss

    def _epochs(self, num_items: int, batch_size: int, num_epochs: int, name: str) -> list[list[int]]:
        """Batches of all passes, each in an order of its own."""
        batches: list[list[int]] = []
        for epoch in range(num_epochs):
            order = list(range(num_items))
            random.Random(f"{self.context.settings.seed} {name} {epoch}").shuffle(order)
            batches += [order[start : start + batch_size] for start in range(0, num_items, batch_size)]
        return batches
