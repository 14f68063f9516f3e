"""What M1 and M2 share: one deterministic, resumable run of the transformers Trainer.

Same data, settings and machine give the same weights, also when the run was killed and resumed: the order of the
data, the optimizer and the random states are part of a checkpoint. On CPU the weights are equal to the byte.
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smartdevdigest_ops.models.devices import choose_device
from smartdevdigest_ops.settings import TrainingSettings
from smartdevdigest_ops.stage import StageContext
from smartdevdigest_ops.stage.distributed import is_first_process, num_processes, wait_for_all
from smartdevdigest_ops.training.errors import TrainingError
from smartdevdigest_ops.training.trainer.arguments import training_arguments
from smartdevdigest_ops.training.trainer.checkpoints import (
    best_evaluation,
    checkpoint_of,
    keep_checkpoints,
    last_checkpoint,
    remove_incomplete,
    restore_weights,
    shall_stop_early,
    steps_between,
)
from smartdevdigest_ops.training.trainer.divergence import Divergence
from smartdevdigest_ops.training.trainer.kernels import Kernels, choose_kernels
from smartdevdigest_ops.training.trainer.micro_batches import (
    MicroBatch,
    is_out_of_memory,
    micro_batch_trainer,
    switch_gradient_checkpointing,
)
from smartdevdigest_ops.training.trainer.order import RunOrder
from smartdevdigest_ops.training.trainer.progress import Pace, watch
from smartdevdigest_ops.training.trainer.sharding import is_sharded, is_sharded_checkpoint, reshard, restore_parts
from smartdevdigest_ops.training.trainer.tracking import tracked

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

CURVE_FILE = "training_curve.jsonl"


@dataclass(frozen=True)
class TrainingData:
    """What a run trains on. Items are dicts of tensors for the model's forward, `labels` among them."""

    train: Any
    """Map-style dataset."""
    sequences_per_item: int
    """Sequences in one item: 1, or training batch_size where the items are batches made beforehand."""
    collate: Callable[[list[dict[str, "torch.Tensor"]]], dict[str, "torch.Tensor"]] | None = None
    """None: items of equal length are stacked."""
    in_order: bool = False
    """Items are drawn as they lie (the dataset is the run); else shuffled anew each epoch."""
    held_out: Any = None
    """Map-style dataset of single sequences; given, the weights of its lowest loss are kept."""
    max_evaluation_share: float | None = None
    """Of the run's computing: `held_out` is thinned out evenly until its evaluations cost no more. None: all of it."""
    bytes_per_token: float | None = None
    """UTF-8 bytes that a trained token stands for on average; given, progress is shown in bits per byte too."""


@dataclass(frozen=True)
class TrainingRun:
    """What came out, beside the model's weights."""

    curve: list[dict[str, float]]
    """Rows of `training_curve.jsonl`."""
    num_steps: int
    tokens_seen: int
    """Padding included."""
    tokens_per_second: float
    held_out_loss_before: float | None
    held_out_loss_after: float | None
    """Of the weights that were kept."""
    best_step: int | None = None
    """The step that these weights are from; None where nothing was held out, and they are the last."""
    micro_batch: str = ""
    """What was computed at once at the end, in words."""
    kernels: str = ""
    """Precision and kernels, in words."""

    def write_curve(self, directory: Path) -> None:
        """Write `training_curve.jsonl`; no row depends on how fast the run was."""
        lines = [json.dumps(row) + "\n" for row in self.curve]
        (directory / CURVE_FILE).write_text("".join(lines), encoding="utf-8")

    @property
    def losses(self) -> list[float]:
        """Train loss by step."""
        return [row["loss"] for row in self.curve]


def count_steps(num_sequences: int, settings: TrainingSettings, stage: str) -> int:
    """Optimizer steps of a run: `epochs` passes, the last step filled from the next one, at most `max_steps`.

    Raises:
        TrainingError: the warm-up is as long as the run.
    """
    per_step = settings.batch_size * settings.gradient_accumulation
    num_steps = max(1, math.ceil(num_sequences * settings.epochs / per_step))
    if settings.max_steps is not None:
        num_steps = min(num_steps, settings.max_steps)
    if settings.warmup_steps >= num_steps and num_steps > 1:
        section = f"training.{stage.split('_')[0]}"
        raise TrainingError(
            f"{section}: {num_sequences} sequences give {num_steps} optimizer steps, and warmup_steps="
            f"{settings.warmup_steps} is not below that: the learning rate would never reach its peak. "
            f"Lower {section}.warmup_steps, or give more data or epochs."
        )
    return num_steps


def parameter_groups(
    model: "PreTrainedModel", settings: TrainingSettings, embedding_learning_rate: float | None
) -> list[dict[str, Any]]:
    """Optimizer groups: matrices with weight decay, vectors without, embedding matrices at their own rate.

    The first group's rate is the one in the training curve.
    """
    embeddings = {id(model.get_input_embeddings().weight)}
    if (output := model.get_output_embeddings()) is not None:
        embeddings.add(id(output.weight))
    # peft's rows of single tokens beside an adapter
    embeddings |= {id(weight) for name, weight in model.named_parameters() if "trainable_tokens_delta" in name}
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    body = [parameter for parameter in trainable if id(parameter) not in embeddings]
    groups = [
        {"params": [p for p in body if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in body if p.ndim <= 1], "weight_decay": 0.0},
        {
            "params": [p for p in trainable if id(p) in embeddings],
            "weight_decay": 0.0,
            "lr": embedding_learning_rate or settings.learning_rate,
        },
    ]
    return [group for group in groups if group["params"]]


def train(
    model: "PreTrainedModel",
    data: TrainingData,
    *,
    stage: str,
    settings: TrainingSettings,
    context: StageContext,
    embedding_learning_rate: float | None = None,
) -> TrainingRun:
    """Train `model` in place and return the run's curve.

    Checkpoints go to `context.scratch/checkpoints`; a making that was killed resumes from the last one, with the same
    result as if it had not been. Memory that runs out halves what is computed at once, not the optimizer step.

    Raises:
        TrainingError: the training diverged, the warm-up is too long, memory does not suffice for one sequence, or
            the processes cannot share an optimizer step.
    """
    import torch
    from transformers.trainer_callback import PrinterCallback

    device = choose_device(context.settings.model.device)
    kernels = choose_kernels(device, context.settings.model.precision, context.scratch / "kernels.json")
    micro_batch = MicroBatch.open(settings.batch_size, context.scratch / "micro_batch.json")
    num_steps = count_steps(len(data.train) * data.sequences_per_item, settings, stage)
    if sharded := is_sharded(model):
        reshard(model)
    arguments = training_arguments(
        num_steps,
        kernels,
        sequences_per_item=data.sequences_per_item,
        evaluates=data.held_out is not None,
        sharded=sharded,
        stage=stage,
        settings=settings,
        context=context,
    )
    held_out = _affordable(data, num_steps, settings)
    order = RunOrder(
        data.train,
        num_steps=num_steps,
        items_per_step=max(1, settings.batch_size // data.sequences_per_item) * settings.gradient_accumulation,
        seed=None if data.in_order else context.settings.seed,
    )
    checkpoints = Path(arguments.output_dir)
    if is_first_process():
        remove_incomplete(checkpoints)
        held = f"{num_processes()} process(es) on {device}" + (", the model in parts" if sharded else "")
        context.log(f"{stage}: {kernels}; {micro_batch}; {held}")
    pace = Pace(data.bytes_per_token)
    watching = watch(stage, pace, context.log, divergence=Divergence(settings), order=order)
    report_to = tracked(
        context.settings.tracking, stage=stage, directory=context.store.root / ".tracking", log=context.log
    )
    with report_to as arguments.report_to, _set_up(model, kernels, micro_batch):
        trainer = micro_batch_trainer()(
            model=model,
            args=arguments,
            train_dataset=order,
            eval_dataset=held_out,
            data_collator=data.collate,
            callbacks=[
                watching,
                keep_checkpoints(
                    checkpoints,
                    context.settings.tracking.checkpoint_keep,
                    evaluates=held_out is not None,
                    patience=settings.early_stopping_evaluations,
                    say=lambda line: context.log(f"{stage}: {line}"),
                ),
            ],
            optimizer_cls_and_kwargs=(
                torch.optim.AdamW,
                {
                    "params": parameter_groups(model, settings, embedding_learning_rate),
                    "lr": settings.learning_rate,
                    "fused": kernels.fused_optimizer,
                },
            ),
            micro_batch=micro_batch,
            flatten=kernels.attention == "flash_attention_2" and "position_ids" in data.train[0],
            stage=stage,
            log=context.log,
        )
        trainer.remove_callback(PrinterCallback)
        before = _evaluate(trainer) if held_out is not None else None
        _forget_preparation(trainer)
        history = _run(trainer, checkpoints, num_steps, settings, stage=stage, log=context.log)
        _forget_preparation(trainer)
    wait_for_all()
    best = best_evaluation(history)
    if best:
        _restore(trainer, checkpoint_of(checkpoints, best[0]))
    curve = _curve(history)
    return TrainingRun(
        curve=curve,
        num_steps=int(curve[-1]["step"]),
        tokens_seen=int(curve[-1]["tokens"]),
        tokens_per_second=pace.tokens_per_second,
        held_out_loss_before=before,
        held_out_loss_after=best[1] if best else None,
        best_step=best[0] if best else None,
        micro_batch=str(micro_batch),
        kernels=str(kernels),
    )


def _evaluate(trainer: Any) -> float:
    """The held-out loss before the training."""
    sharded = is_sharded(trainer.model)
    if sharded:  # it is prepared; without an optimizer accelerate would refuse it
        trainer.model._is_accelerate_prepared = True
        trainer.accelerator.prepare_model(trainer.model)
    loss: float = trainer.evaluate()["eval_loss"]
    if sharded:
        reshard(trainer.model)
    return loss


def _restore(trainer: Any, checkpoint: Path) -> None:
    """Load a checkpoint's weights into the Trainer's model."""
    if is_sharded(trainer.model):
        restore_parts(trainer, checkpoint)
    else:
        restore_weights(trainer.model, checkpoint)


def _forget_preparation(trainer: Any) -> None:
    """Make the model what it was before accelerate prepared it, for evaluation or for training.

    It prepares a model once. One that was evaluated first would never become part of a distributed training, whose
    processes then learn each for itself without a word, and one that is trained again would do without autocast.
    """
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    model._is_accelerate_prepared = False
    trainer.model_wrapped = trainer.model


@contextmanager
def _set_up(model: "PreTrainedModel", kernels: Kernels, micro_batch: MicroBatch) -> Iterator[None]:
    """The model with the kernels of a training, and afterwards as it was."""
    use_cache, attention = model.config.use_cache, model.config._attn_implementation
    model.config.use_cache = False  # a cache costs memory here, and would switch the packed mask off
    if kernels.attention != "sdpa":
        model.set_attn_implementation(kernels.attention)
    try:
        yield
    finally:
        if micro_batch.gradient_checkpointing:
            switch_gradient_checkpointing(model, on=False)
        model.config.use_cache = use_cache
        if kernels.attention != "sdpa":
            model.set_attn_implementation(attention)


def _run(
    trainer: Any,
    checkpoints: Path,
    num_steps: int,
    settings: TrainingSettings,
    *,
    stage: str,
    log: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Train, from the last checkpoint on if there is one; the log of the whole run.

    Raises:
        TrainingError: memory ran out outside forward and backward passes, where smaller parts are no help.
    """
    found = last_checkpoint(checkpoints)
    if found:
        _refuse_other_parts(found[0], sharded=is_sharded(trainer.model), stage=stage)
    if found and (
        found[1]["global_step"] >= num_steps
        or shall_stop_early(found[1]["log_history"], settings.early_stopping_evaluations)
    ):
        # Killed after the last step: the Trainer would add another one.
        _restore(trainer, found[0])
        finished: list[dict[str, Any]] = found[1]["log_history"]
        return finished
    if found:
        log(f"{stage}: resuming after step {found[1]['global_step']} of {num_steps}")
    try:
        trainer.train(resume_from_checkpoint=str(found[0]) if found else None)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(
            f"{stage}: memory ran out for the optimizer or an evaluation ({str(error).splitlines()[0]}), which smaller "
            "micro-batches do not help. Take a smaller base model, or a device with more memory."
        ) from error
    history: list[dict[str, Any]] = trainer.state.log_history
    return history


def _refuse_other_parts(checkpoint: Path, *, sharded: bool, stage: str) -> None:
    if is_sharded_checkpoint(checkpoint) == sharded:
        return
    before, now = ("replicated", "full") if sharded else ("full", "replicated")
    raise TrainingError(
        f"{stage}: {checkpoint} was written with training.sharding={before}, and this run's is {now} with "
        f"{num_processes()} process(es): its weights lie there otherwise. Go on with training.sharding={before}"
        f"{'' if sharded else ' and two processes or more'}, or remove {checkpoint.parent} to begin anew."
    )


def _affordable(data: TrainingData, num_steps: int, settings: TrainingSettings) -> Any:
    """The held-out sequences whose evaluations keep to the share of the run that they may cost.

    A sequence's evaluation is a forward pass, a third of its training.
    """
    if data.held_out is None or data.max_evaluation_share is None:
        return data.held_out
    from torch.utils.data import Subset

    evaluations = 1 + math.ceil(num_steps / steps_between(num_steps, settings.evaluation_steps))
    trained = num_steps * settings.batch_size * settings.gradient_accumulation
    most = max(1, int(3 * data.max_evaluation_share * trained / evaluations))
    size = len(data.held_out)
    return Subset(data.held_out, [size * index // most for index in range(most)]) if most < size else data.held_out


def _curve(log_history: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    """Rows {step, loss, learning_rate, tokens[, held_out_loss]}, one per optimizer step."""
    rows: dict[int, dict[str, float]] = {}
    for entry in log_history:
        if "loss" in entry:
            rows[entry["step"]] = {
                "step": entry["step"],
                "loss": entry["loss"],
                "learning_rate": entry["learning_rate"],
                "tokens": entry["num_input_tokens_seen"],
            }
        elif "eval_loss" in entry and entry["step"] in rows:
            rows[entry["step"]]["held_out_loss"] = entry["eval_loss"]
    return [rows[step] for step in sorted(rows)]
