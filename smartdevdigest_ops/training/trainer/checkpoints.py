"""Checkpoints of a running training: complete or not there, the last few kept, and the best by held-out loss.

The Trainer writes a checkpoint's files in place. It counts only once it is sealed: every file on the disk, then a list
of them with their sizes renamed into it. Earlier ones go after that, so that a kill at any moment leaves the last
sealed one whole.
"""

import json
import math
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smartdevdigest_ops.artifacts import write_atomically
from smartdevdigest_ops.stage.distributed import is_first_process, wait_for_all

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TrainerCallback

_STATE = "trainer_state.json"
_SEAL = "complete.json"
_FEWEST_STEPS = 25
_MOST_STEPS = 500
_MOST_PARTS = 4


def steps_between(num_steps: int, wanted: int | None) -> int:
    """Optimizer steps from one checkpoint, or one evaluation, to the next.

    A checkpoint of SmolLM2 with its optimizer is 1.6 GB and costs about as much as one step on two cores: a run is
    cut into at most four parts, none under 25 steps and none over 500.
    """
    if wanted is not None:
        return wanted
    parts = max(1, min(_MOST_PARTS, num_steps // _FEWEST_STEPS))
    return min(_MOST_STEPS, math.ceil(num_steps / parts))


def checkpoint_of(directory: Path, step: int) -> Path:
    """Where the Trainer writes the checkpoint after `step`."""
    return directory / f"checkpoint-{step}"


def seal(checkpoint: Path) -> None:
    """Bring every file of a checkpoint to the disk, then declare it complete."""
    sizes: dict[str, int] = {}
    for path in sorted(path for path in checkpoint.rglob("*") if path.is_file() and path.name != _SEAL):
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
        sizes[str(path.relative_to(checkpoint))] = path.stat().st_size
    write_atomically(checkpoint / _SEAL, json.dumps(sizes))


def is_complete(checkpoint: Path) -> bool:
    """Whether it was sealed, and every file of it is there at its size."""
    try:
        sizes: dict[str, int] = json.loads((checkpoint / _SEAL).read_text(encoding="utf-8"))
        return all((checkpoint / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError):
        return False


def complete_checkpoints(directory: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Complete checkpoints with their trainer states, the oldest first."""
    found = [
        (path, json.loads((path / _STATE).read_text(encoding="utf-8")))
        for path in directory.glob("checkpoint-*")
        if is_complete(path)
    ]
    return sorted(found, key=lambda entry: int(entry[1]["global_step"]))


def last_checkpoint(directory: Path) -> tuple[Path, dict[str, Any]] | None:
    """The newest complete checkpoint and its trainer state."""
    found = complete_checkpoints(directory)
    return found[-1] if found else None


def remove_incomplete(directory: Path) -> None:
    """Remove what a kill left of a checkpoint that was being written or removed."""
    for path in directory.glob("checkpoint-*"):
        if not is_complete(path):
            _remove(path)


def remove_older(directory: Path, keep: int) -> None:
    """Keep the newest `keep` complete checkpoints, and the best that each of them knows."""
    found = complete_checkpoints(directory)
    kept = {path for path, _ in found[-keep:]}
    for _, state in found[-keep:]:
        if best := best_evaluation(state["log_history"]):
            kept.add(checkpoint_of(directory, best[0]))
    for path, _ in found:
        if path not in kept:
            _remove(path)


def _remove(checkpoint: Path) -> None:
    (checkpoint / _SEAL).unlink(missing_ok=True)  # first: a part of it must never pass for the whole
    shutil.rmtree(checkpoint)


def best_evaluation(log_history: Sequence[dict[str, Any]]) -> tuple[int, float] | None:
    """Step and held-out loss of the lowest one (the first of equals); None where nothing was evaluated."""
    evaluations = [(entry["eval_loss"], entry["step"]) for entry in log_history if "eval_loss" in entry]
    if not evaluations:
        return None
    loss, step = min(evaluations)
    return int(step), float(loss)


def shall_stop_early(log_history: Sequence[dict[str, Any]], patience: int | None) -> bool:
    """Whether the last `patience` held-out losses were none of them a new lowest one; None: never."""
    losses = [entry["eval_loss"] for entry in log_history if "eval_loss" in entry]
    return patience is not None and len(losses) - 1 - losses.index(min(losses)) >= patience if losses else False


def restore_weights(model: "PreTrainedModel", checkpoint: Path) -> None:
    """Load a checkpoint's weights, or its adapter's where `model` is a PEFT model, into `model`."""
    from peft import PeftModel, load_peft_weights, set_peft_model_state_dict

    if isinstance(model, PeftModel):
        set_peft_model_state_dict(model, load_peft_weights(str(checkpoint), device="cpu"))
    else:
        from accelerate import load_checkpoint_in_model  # type: ignore[import-untyped]

        load_checkpoint_in_model(model, str(checkpoint))


def keep_checkpoints(
    checkpoints: Path, keep: int, *, evaluates: bool, patience: int | None, say: Callable[[str], None]
) -> "TrainerCallback":
    """A Trainer callback that seals checkpoints, writes one with every evaluation, removes old ones and stops early."""
    from transformers import TrainerCallback

    class Keep(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
        """See `keep_checkpoints`."""

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if evaluates and state.global_step >= state.max_steps:
                control.should_evaluate = True  # the last weights have their chance too

        def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_save = state.global_step > 0
            if shall_stop_early(state.log_history, patience) and state.global_step < state.max_steps:
                say(f"stopping at step {state.global_step}: {patience} held-out losses without a new lowest one")
                control.should_training_stop = True

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            wait_for_all()
            if is_first_process():
                seal(checkpoint_of(checkpoints, state.global_step))
                remove_older(checkpoints, keep)

    return Keep()
