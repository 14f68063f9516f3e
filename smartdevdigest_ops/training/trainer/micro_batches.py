"""Micro-batches that shrink when memory runs out, with the same optimizer step.

The data of a micro-step is loaded as the settings say and computed in parts of at most `sequences` rows, whose
gradients add up to those of the whole: the loss of every part is a sum divided by the number of scored tokens of the
whole optimizer step. When memory runs out the parts are halved, and the gradients of the step begun anew.

    4 sequences x 8 micro-steps  ->  2 x 16  ->  1 x 32  ->  1 x 32 with gradient checkpointing  ->  an error
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smartdevdigest_ops.artifacts import write_atomically
from smartdevdigest_ops.training.errors import TrainingError
from smartdevdigest_ops.training.trainer.scored_positions import at_scored_positions, takes_positions
from smartdevdigest_ops.training.trainer.sharding import turn_on

if TYPE_CHECKING:
    import torch


@dataclass
class MicroBatch:
    """How much is computed at once. Kept in a file, so that a resumed run does not run into the same wall."""

    sequences: int
    gradient_checkpointing: bool
    remembered: Path

    @classmethod
    def open(cls, sequences: int, remembered: Path) -> "MicroBatch":
        """What an earlier try of this making came to, or `sequences`."""
        if remembered.is_file():
            return cls(**json.loads(remembered.read_text(encoding="utf-8")), remembered=remembered)
        return cls(sequences, False, remembered)

    def shrink(self) -> bool:
        """Halve it; at one sequence turn gradient checkpointing on. False when there is nothing left to do."""
        if self.sequences > 1:
            self.sequences = (self.sequences + 1) // 2
        elif not self.gradient_checkpointing:
            self.gradient_checkpointing = True
        else:
            return False
        state = {"sequences": self.sequences, "gradient_checkpointing": self.gradient_checkpointing}
        write_atomically(self.remembered, json.dumps(state))
        return True

    def __str__(self) -> str:
        plural = "s" if self.sequences > 1 else ""
        checkpointing = " and gradient checkpointing" if self.gradient_checkpointing else ""
        return f"micro-batches of {self.sequences} sequence{plural}{checkpointing}"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on a GPU or on the CPU."""
    import torch
    from accelerate.utils.memory import should_reduce_batch_size  # type: ignore[import-untyped]

    return isinstance(error, torch.cuda.OutOfMemoryError) or bool(
        isinstance(error, Exception) and should_reduce_batch_size(error)
    )


def switch_gradient_checkpointing(model: Any, *, on: bool) -> None:
    """Recompute activations in the backward pass, or no longer."""
    # transformers 5 renamed it, to be removed under the old name in 6.
    name = "activation_checkpointing" if hasattr(model, "activation_checkpointing_enable") else "gradient_checkpointing"
    if on:
        getattr(model, f"{name}_enable")({"use_reentrant": False})
    else:
        getattr(model, f"{name}_disable")()


def flatten_rows(inputs: "dict[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
    """(B, T) as one row of B x T tokens, for kernels that take packed documents only in one row.

    Positions restart at each sequence, so that no token sees another one's. No sequence predicts the first token of
    the next, which would be one target more than the loss is divided by.
    """
    labels = inputs["labels"].clone()
    labels[:, 0] = -100
    return {name: value.reshape(1, -1) for name, value in (inputs | {"labels": labels}).items()}


def micro_batch_trainer() -> type[Any]:
    """A Trainer that reads its data in order and computes it in `micro_batch`-sized parts."""
    import torch
    from accelerate.utils import FullyShardedDataParallelPlugin  # type: ignore[import-untyped]
    from torch.utils.data import SequentialSampler
    from transformers import Trainer

    class MicroBatchTrainer(Trainer):  # type: ignore[misc]  # transformers is untyped here
        """See `micro_batch_trainer`."""

        def __init__(
            self,
            *args: Any,
            micro_batch: MicroBatch,
            flatten: bool,
            stage: str,
            log: Callable[[str], None],
            **kwargs: Any,
        ) -> None:
            super().__init__(*args, **kwargs)
            self.micro_batch = micro_batch
            self._flatten = flatten
            self._stage = stage
            self._say = log
            self._of_this_step: list[dict[str, torch.Tensor]] = []
            if micro_batch.gradient_checkpointing:
                switch_gradient_checkpointing(self.model, on=True)

        def create_accelerator_and_postprocess(self) -> None:
            super().create_accelerator_and_postprocess()
            if self.args.fsdp:
                turn_on(self.accelerator, FullyShardedDataParallelPlugin(**self.args.fsdp_plugin_args))
                self.is_fsdp_enabled = True

        def _get_train_sampler(self, *_: Any, **__: Any) -> SequentialSampler:
            return SequentialSampler(self.train_dataset)

        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            if self.model_accepts_loss_kwargs and takes_positions(self.accelerator.unwrap_model(model)):
                inputs = at_scored_positions(inputs)
            return super().compute_loss(model, inputs, *args, **kwargs)

        def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> "torch.Tensor":
            self._of_this_step.append(inputs)
            todo = [inputs]
            while True:
                try:
                    for batch in todo:
                        loss = self._in_parts(model, batch, num_items_in_batch)
                    break
                except RuntimeError as error:
                    if not is_out_of_memory(error):
                        raise
                    reason = str(error).splitlines()[0]
                # Outside the handler: the error holds on to the tensors of the failed part.
                self._shrink(reason)
                model.zero_grad()
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                todo = list(self._of_this_step)
            if self.accelerator.sync_gradients:
                self._of_this_step.clear()
            return loss

        def _in_parts(self, model: Any, inputs: Any, num_items_in_batch: Any) -> "torch.Tensor":
            rows = inputs["input_ids"].shape[0]
            losses = []
            for start in range(0, rows, self.micro_batch.sequences):
                part = {name: value[start : start + self.micro_batch.sequences] for name, value in inputs.items()}
                if self._flatten:
                    part = flatten_rows(part)
                losses.append(super().training_step(model, part, num_items_in_batch))
            return torch.stack(losses).sum()

        def _shrink(self, reason: str) -> None:
            before = str(self.micro_batch)
            if not self.model_accepts_loss_kwargs:
                raise TrainingError(
                    f"{self._stage}: memory ran out with {before} ({reason}), and {type(self.model).__name__} averages "
                    "its loss itself, so that parts of a batch would not add up to it. "
                    f"Lower training.{self._stage.split('_')[0]}.batch_size and raise gradient_accumulation as much."
                )
            if not self.micro_batch.shrink():
                raise TrainingError(
                    f"{self._stage}: memory ran out with {before}, the smallest there are ({reason}). "
                    f"Lower training.{self._stage.split('_')[0]}.sequence_length, take a smaller base model, "
                    "or a device with more memory."
                )
            if self.args.world_size > 1:
                # The other processes are in the middle of the same step and would wait for this one for ever.
                raise TrainingError(
                    f"{self._stage}: memory ran out with {before} in one of {self.args.world_size} processes "
                    f"({reason}). Start the stage again: it goes on from its last checkpoint, with {self.micro_batch}."
                )
            if self.micro_batch.gradient_checkpointing:
                switch_gradient_checkpointing(self.model, on=True)
            self._say(
                f"{self._stage}: memory ran out with {before} ({reason}); going on with {self.micro_batch}, "
                "the optimizer step stays the same"
            )

    return MicroBatchTrainer
