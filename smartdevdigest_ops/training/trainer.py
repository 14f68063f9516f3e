"""What M1 and M2 share: one deterministic, resumable run of the transformers Trainer.

Same data, settings and machine give the same weights, also when the run was killed and resumed: the order of the
data, the optimizer and the random states are part of a checkpoint. On CPU the weights are equal to the byte.
"""

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smartdevdigest_ops.models.devices import choose_device, choose_dtype
from smartdevdigest_ops.settings import TrainingSettings
from smartdevdigest_ops.stage import StageContext
from smartdevdigest_ops.training.checkpoints import last_checkpoint, restore_weights, steps_between
from smartdevdigest_ops.training.errors import TrainingError
from smartdevdigest_ops.training.progress import Pace, watch
from smartdevdigest_ops.training.tracking import tracked

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, TrainingArguments

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
    held_out: Any = None
    """Map-style dataset of single sequences; given, the weights of its lowest loss are kept."""


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

    def write_curve(self, directory: Path) -> None:
        """Write `training_curve.jsonl`; no row depends on how fast the run was."""
        lines = [json.dumps(row) + "\n" for row in self.curve]
        (directory / CURVE_FILE).write_text("".join(lines), encoding="utf-8")

    @property
    def losses(self) -> list[float]:
        """Train loss by step."""
        return [row["loss"] for row in self.curve]


def count_steps(num_sequences: int, settings: TrainingSettings, stage: str) -> int:
    """Optimizer steps of a run: `epochs` passes, at most `max_steps`.

    Raises:
        TrainingError: the warm-up is as long as the run.
    """
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    micro_steps = math.ceil(num_sequences / settings.batch_size / processes)
    per_epoch = math.ceil(micro_steps / settings.gradient_accumulation)
    num_steps = max(1, math.ceil(per_epoch * settings.epochs))
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
    result as if it had not been.

    Raises:
        TrainingError: the loss is not finite, the warm-up is too long, or several GPUs would be used by one process.
    """
    import torch
    from transformers import Trainer
    from transformers.trainer_callback import PrinterCallback

    num_steps = count_steps(len(data.train) * data.sequences_per_item, settings, stage)
    arguments = _arguments(data, num_steps, settings=settings, context=context)
    checkpoints = Path(arguments.output_dir)
    device = arguments.device.type
    pace = Pace()
    use_cache = model.config.use_cache
    model.config.use_cache = False  # a cache costs memory here, and would switch the packed mask off
    with tracked(
        context.settings.tracking, stage=stage, directory=context.store.root / ".tracking", log=context.log
    ) as report_to:
        arguments.report_to = report_to
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=data.train,
            eval_dataset=data.held_out,
            data_collator=data.collate,
            callbacks=[watch(stage, pace, context.log)],
            optimizer_cls_and_kwargs=(
                torch.optim.AdamW,
                {
                    "params": parameter_groups(model, settings, embedding_learning_rate),
                    "lr": settings.learning_rate,
                    # 1.21x over the default on two CPU cores.
                    "fused": device in ("cpu", "cuda"),
                },
            ),
        )
        trainer.remove_callback(PrinterCallback)
        before = trainer.evaluate()["eval_loss"] if data.held_out is not None else None
        found = last_checkpoint(checkpoints)
        if found and found[1]["global_step"] >= num_steps:
            # Killed after the last step: the Trainer would add another one.
            path, state = found
            restore_weights(model, Path(state["best_model_checkpoint"] or path))
        else:
            if found:
                context.log(f"{stage}: resuming after step {found[1]['global_step']} of {num_steps}")
            trainer.train(resume_from_checkpoint=str(found[0]) if found else None)
            state = {"log_history": trainer.state.log_history, "best_metric": trainer.state.best_metric}
    model.config.use_cache = use_cache
    curve = _curve(state["log_history"])
    return TrainingRun(
        curve=curve,
        num_steps=int(curve[-1]["step"]),
        tokens_seen=int(curve[-1]["tokens"]),
        tokens_per_second=pace.tokens_per_second,
        held_out_loss_before=before,
        held_out_loss_after=state["best_metric"],
    )


def _arguments(
    data: TrainingData, num_steps: int, *, settings: TrainingSettings, context: StageContext
) -> "TrainingArguments":
    """The Trainer's arguments for one run."""
    import torch
    from transformers import TrainingArguments

    device = choose_device(context.settings.model.device)
    dtype = choose_dtype(context.settings.model.precision, device)
    evaluates = data.held_out is not None
    # Where the best weights are kept, the checkpoints' steps decide the result: no untracked setting may move them.
    every = steps_between(num_steps, None if evaluates else context.settings.tracking.checkpoint_steps)
    arguments = TrainingArguments(
        output_dir=str(context.scratch / "checkpoints"),
        per_device_train_batch_size=max(1, settings.batch_size // data.sequences_per_item),
        per_device_eval_batch_size=1,
        gradient_accumulation_steps=settings.gradient_accumulation,
        max_steps=num_steps,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=settings.warmup_steps,
        max_grad_norm=1.0,
        seed=context.settings.seed,
        data_seed=context.settings.seed,
        bf16=dtype == torch.bfloat16,
        use_cpu=device == "cpu",
        dataloader_pin_memory=device == "cuda",
        remove_unused_columns=False,
        label_names=["labels"],
        logging_steps=1,
        logging_nan_inf_filter=False,
        include_num_input_tokens_seen=True,
        disable_tqdm=True,
        report_to=[],
        save_strategy="steps",
        save_steps=every,
        save_total_limit=1,
        eval_strategy="steps" if evaluates else "no",
        eval_steps=every if evaluates else None,
        prediction_loss_only=True,
        load_best_model_at_end=evaluates,
        metric_for_best_model="eval_loss" if evaluates else None,
        greater_is_better=False if evaluates else None,
    )
    if arguments.n_gpu > 1:
        raise TrainingError(
            f"This process sees {arguments.n_gpu} GPUs, on which the batch size of the settings would be multiplied "
            "silently. Start the stage with torchrun (one process per GPU) or set CUDA_VISIBLE_DEVICES to one of them."
        )
    return arguments


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
