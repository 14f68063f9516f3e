"""The Trainer's arguments for one run."""

from typing import TYPE_CHECKING

from smartdevdigest_ops.models.devices import choose_device
from smartdevdigest_ops.settings import TrainingSettings
from smartdevdigest_ops.stage import StageContext
from smartdevdigest_ops.stage.distributed import num_processes
from smartdevdigest_ops.training.errors import TrainingError
from smartdevdigest_ops.training.trainer.checkpoints import steps_between
from smartdevdigest_ops.training.trainer.kernels import Kernels
from smartdevdigest_ops.training.trainer.order import share_out
from smartdevdigest_ops.training.trainer.sharding import TRAINER_CONFIG

if TYPE_CHECKING:
    from transformers import TrainingArguments


def training_arguments(
    num_steps: int,
    kernels: Kernels,
    *,
    sequences_per_item: int,
    evaluates: bool,
    sharded: bool,
    stage: str,
    settings: TrainingSettings,
    context: StageContext,
) -> "TrainingArguments":
    """The arguments of a run of `num_steps` optimizer steps.

    Raises:
        TrainingError: the processes cannot share an optimizer step, or this one sees several GPUs.
    """
    from transformers import TrainingArguments

    device = choose_device(context.settings.model.device)
    items, micro_steps = share_out(settings, sequences_per_item, stage)
    # Which evaluations there are decides the result; how often a checkpoint is written beside them does not.
    every = steps_between(num_steps, settings.evaluation_steps)
    arguments = TrainingArguments(
        output_dir=str(context.scratch / "checkpoints"),
        per_device_train_batch_size=items,
        per_device_eval_batch_size=1,
        gradient_accumulation_steps=micro_steps,
        max_steps=num_steps,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=settings.warmup_steps,
        max_grad_norm=1.0,
        seed=context.settings.seed,
        data_seed=context.settings.seed,
        bf16=kernels.autocast_bfloat16 and not sharded,  # in parts it is FSDP's policy: autocast would cast again
        use_cpu=device == "cpu",
        ddp_backend="gloo" if device == "cpu" and num_processes() > 1 else None,
        fsdp=True if sharded else None,
        fsdp_config=dict(TRAINER_CONFIG) if sharded else None,
        # Gradients that waited for the last micro-step would wait whole, 4 bytes a weight in each process.
        accelerator_config={"gradient_accumulation_kwargs": {"sync_each_batch": True}} if sharded else None,
        torch_compile=context.settings.training.compile,
        use_liger_kernel=kernels.fused_loss,
        dataloader_pin_memory=device == "cuda",
        remove_unused_columns=False,
        label_names=["labels"],
        logging_steps=1,
        logging_nan_inf_filter=False,
        include_num_input_tokens_seen=True,
        disable_tqdm=True,
        report_to=[],
        save_strategy="steps",
        save_steps=steps_between(num_steps, context.settings.tracking.checkpoint_steps),
        eval_strategy="steps" if evaluates else "no",
        eval_steps=every if evaluates else None,
        prediction_loss_only=True,
    )
    if arguments.n_gpu > 1:
        raise TrainingError(
            f"This process sees {arguments.n_gpu} GPUs, on which the batch size of the settings would be multiplied "
            "silently. Set training.processes to auto or to their number (one process per GPU), or "
            "CUDA_VISIBLE_DEVICES to one of them."
        )
    return arguments
