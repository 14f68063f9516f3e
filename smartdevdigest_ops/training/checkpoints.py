"""Checkpoints of a running training: which one to resume from, and how often to write one."""

import json
import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_STATE = "trainer_state.json"
_FEWEST_STEPS = 25
_MOST_STEPS = 500
_MOST_PARTS = 4


def steps_between(num_steps: int, wanted: int | None) -> int:
    """Optimizer steps from one checkpoint to the next.

    A checkpoint of SmolLM2 with its optimizer is 1.6 GB and costs about as much as one step on two cores: a run is
    cut into at most four parts, none under 25 steps and none over 500.
    """
    if wanted is not None:
        return wanted
    parts = max(1, min(_MOST_PARTS, num_steps // _FEWEST_STEPS))
    return min(_MOST_STEPS, math.ceil(num_steps / parts))


def last_checkpoint(directory: Path) -> tuple[Path, dict[str, Any]] | None:
    """The newest complete checkpoint and its trainer state; incomplete ones are removed.

    The Trainer writes the state file last, so a checkpoint without a readable one was cut off by a kill.
    """
    complete: list[tuple[int, Path, dict[str, Any]]] = []
    for path in directory.glob("checkpoint-*"):
        try:
            state = json.loads((path / _STATE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            shutil.rmtree(path)
            continue
        complete.append((int(state["global_step"]), path, state))
    if not complete:
        return None
    _, path, state = max(complete, key=lambda entry: entry[0])
    return path, state


def restore_weights(model: "PreTrainedModel", checkpoint: Path) -> None:
    """Load a checkpoint's weights, or its adapter's where `model` is a PEFT model, into `model`."""
    from peft import PeftModel, load_peft_weights, set_peft_model_state_dict

    if isinstance(model, PeftModel):
        set_peft_model_state_dict(model, load_peft_weights(str(checkpoint), device="cpu"))
    else:
        from accelerate import load_checkpoint_in_model  # type: ignore[import-untyped]

        load_checkpoint_in_model(model, str(checkpoint))
