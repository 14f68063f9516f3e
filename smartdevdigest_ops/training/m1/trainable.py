"""Which weights a run trains, phase by phase.

    full              all weights
    embeddings_first  1. the embedding matrices, the body frozen and so not differentiated   2. all weights
    lora              an adapter on the linear layers, and the rows of the new tokens; merged in the end
    qlora             the same over weights held in 4 bits; merged into the full weights in the end (CUDA)

A phase is a run of the trainer of its own, with its own warm-up, decay, optimizer and checkpoints, over its own part
of one stream of sequences. A making that was killed finds the phases that were finished by their last checkpoints.

Sources: Kim et al. 2024, "Efficient and Effective Vocabulary Expansion Towards Multilingual Large Language Models"
(arXiv 2402.14714), for embeddings before the rest; Hu et al. 2021 (LoRA); Dettmers et al. 2023, "QLoRA"
(arXiv 2305.14314), section 3.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smartdevdigest_ops.settings import LoraSettings, M1Settings
from smartdevdigest_ops.stage.distributed import num_processes
from smartdevdigest_ops.training.adapter import lora_config
from smartdevdigest_ops.training.errors import TrainingError
from smartdevdigest_ops.training.four_bits import load_in_four_bits, refuse_qlora_where_impossible

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Phase:
    """A stretch of the run in which the same weights are trained."""

    name: str
    num_steps: int
    only_embeddings: bool = False


def plan_phases(settings: M1Settings, num_steps: int) -> list[Phase]:
    """The phases of a run of `num_steps` optimizer steps.

    Raises:
        TrainingError: the run is not longer than its first phase.
    """
    if settings.trainable != "embeddings_first":
        return [Phase(settings.trainable, num_steps)]
    first = settings.embedding_steps or max(1, num_steps // 4)
    if first >= num_steps:
        raise TrainingError(
            f"training.m1.embedding_steps={first} is not below the run's {num_steps} optimizer steps: nothing but the "
            "embeddings would be trained. Lower embedding_steps, or give more data or epochs."
        )
    return [Phase("embeddings", first, only_embeddings=True), Phase("all", num_steps - first)]


def choose_trainable(model: "PreTrainedModel | PeftModel", phase: Phase) -> int:
    """Freeze what the phase does not train and return the number of weights that it does.

    Frozen layers cost no weight gradients and no optimizer states: 1.6 times the speed for SmolLM2 with its body
    frozen, though errors are still passed down through the body to the input embeddings.
    """
    if phase.name in ("lora", "qlora"):
        pass  # peft has frozen what is not the adapter's
    elif phase.only_embeddings:
        model.requires_grad_(False)
        for module in (model.get_input_embeddings(), model.get_output_embeddings()):
            if module is not None:
                module.requires_grad_(True)
    else:
        model.requires_grad_(True)
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def add_adapter_and_rows(model: "PreTrainedModel", lora: LoraSettings, new_ids: Sequence[int]) -> "PeftModel":
    """`model` with a fresh adapter, and the rows `new_ids` of its embeddings trainable; all else is frozen."""
    from peft import get_peft_model

    rows = _rows_by_module(model, new_ids) if new_ids else None
    adapted = get_peft_model(model, lora_config(lora, trainable_token_indices=rows))
    # Checkpoints hold the adapter alone: asked for the base by its path, peft would find one of another vocabulary
    # size there and write all embeddings into each of them.
    adapted.peft_config["default"].base_model_name_or_path = None
    return adapted


def merge_adapter(model: "PeftModel") -> "PreTrainedModel":
    """The plain model, adapter and rows written into its weights."""
    merged: PreTrainedModel = model.merge_and_unload(safe_merge=True)
    merged.tie_weights()
    merged.requires_grad_(True)
    return merged


def hold_in_four_bits(model: "PreTrainedModel", directory: Path) -> "PreTrainedModel":
    """A copy of `model` with its linear layers in 4 bits, to train an adapter over; `directory` holds it whole.

    Embeddings and the output layer stay as they are. Not run where there is no CUDA device.

    Raises:
        TrainingError: there is no CUDA device, or bitsandbytes is not installed.
    """
    refuse_qlora_where_impossible("training.m1.trainable")
    model.save_pretrained(directory)
    return load_in_four_bits(directory)


def merge_into_whole(adapted: "PeftModel", directory: Path, lora: LoraSettings, new_ids: Sequence[int]) -> Any:
    """The whole model of `directory` with the adapter that was trained over its 4-bit copy merged in.

    Merging into 4-bit weights would round them a second time.
    """
    import torch
    from peft import get_peft_model_state_dict, set_peft_model_state_dict
    from transformers import AutoModelForCausalLM

    whole = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).to(adapted.device)
    target = add_adapter_and_rows(whole, lora, new_ids)
    set_peft_model_state_dict(target, get_peft_model_state_dict(adapted, save_embedding_layers=False))
    return merge_adapter(target)


def refuse_adapters_in_parts(sharding: str, trainable: str) -> None:
    """Stop before M1 would train an adapter over a model in parts: merging it takes whole weights.

    Raises:
        TrainingError: that is what the settings ask for, and there are several processes.
    """
    if sharding == "full" and trainable in ("lora", "qlora") and num_processes() > 1:
        raise TrainingError(
            f"training.sharding=full cuts up all weights, and training.m1.trainable={trainable} merges its adapter "
            "into whole ones in the end. Set training.sharding to replicated (an adapter's gradients and moments are "
            "small; qlora holds the rest in 4 bits), or training.m1.trainable to full or embeddings_first."
        )


def _rows_by_module(model: "PreTrainedModel", new_ids: Sequence[int]) -> dict[str, list[int]]:
    """The rows to train by the name of their module; tied, peft lets the output layer follow the input embedding."""
    names = {id(module): name for name, module in model.named_modules()}
    source, output = model.get_input_embeddings(), model.get_output_embeddings()
    modules = [source] if output is None or output.weight is source.weight else [source, output]
    return {names[id(module)]: list(new_ids) for module in modules}
