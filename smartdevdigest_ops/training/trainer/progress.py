"""What a running training shows: a tqdm bar and a line for the log now and then. A diverged one is stopped."""

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from smartdevdigest_ops.training.errors import TrainingError
from smartdevdigest_ops.training.trainer.divergence import Divergence
from smartdevdigest_ops.training.trainer.order import RunOrder

if TYPE_CHECKING:
    from transformers import TrainerCallback

_LINES_PER_RUN = 10


class Pace:
    """Tokens and seconds of the optimizer steps of this process; evaluation and checkpoints are not counted."""

    def __init__(self, bytes_per_token: float | None = None) -> None:
        self.seconds = 0.0
        self.tokens = 0
        self.steps = 0
        self._bytes_per_token = bytes_per_token

    @property
    def tokens_per_second(self) -> float:
        """0 before the first step."""
        return self.tokens / self.seconds if self.seconds else 0.0

    def seconds_for(self, steps: int) -> float:
        """How long so many further steps will take."""
        return steps * self.seconds / max(1, self.steps)

    def describe(self, loss: float) -> str:
        """Loss and throughput, and what they are in bytes of text where that is known."""
        if self._bytes_per_token is None:
            return f"loss {loss:.3f}, {self.tokens_per_second:.0f} tokens/s"
        bits_per_byte = loss / math.log(2) / self._bytes_per_token
        return (
            f"loss {loss:.3f} ({bits_per_byte:.3f} bits per byte), {self.tokens_per_second:.0f} tokens/s "
            f"({self.tokens_per_second * self._bytes_per_token / 1000:.2f} kB/s)"
        )


def watch(
    stage: str, pace: Pace, log: Callable[[str], None], *, divergence: Divergence, order: RunOrder
) -> "TrainerCallback":
    """A Trainer callback that shows progress, keeps `pace` and stops a training that has diverged.

    It raises TrainingError before the checkpoint of the step at which that is found, and keeps any from being written
    while the loss is above its bound.
    """
    from tqdm import tqdm  # noqa: PLC0415
    from transformers import TrainerCallback

    class Watch(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
        """See `watch`."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.bar = tqdm(
                total=state.max_steps,
                initial=state.global_step,
                desc=f"Training {stage}",
                unit="step",
                disable=not state.is_world_process_zero,
            )
            self.tokens_before = state.num_input_tokens_seen
            self.every = max(1, state.max_steps // _LINES_PER_RUN)

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.started = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            pace.seconds += time.perf_counter() - self.started
            pace.tokens = state.num_input_tokens_seen - self.tokens_before
            pace.steps += 1
            self.bar.update(1)

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
            if not logs or "loss" not in logs:
                return
            if found := divergence.found(state.log_history):
                self.bar.close()
                step, what = found
                raise TrainingError(
                    f"{stage}: {what} of {state.max_steps}: the training has diverged. Nothing from "
                    f"there on was kept; the last checkpoint is from before. That step trained on "
                    f"{order.name_documents(step)}. Lower training.{stage.split('_')[0]}.learning_rate "
                    f"(now {args.learning_rate:g}), raise its warmup_steps, look at these documents, or set "
                    "model.precision to float32."
                )
            if divergence.is_above(state.log_history):
                control.should_save = control.should_evaluate = False
            self.bar.set_postfix(loss=f"{logs['loss']:.3f}", refresh=False)
            if state.is_world_process_zero and (
                state.global_step % self.every == 0 or state.global_step == state.max_steps
            ):
                remaining = pace.seconds_for(state.max_steps - state.global_step)
                log(
                    f"{stage}: step {state.global_step}/{state.max_steps}, {pace.describe(logs['loss'])}, "
                    f"{remaining:.0f} s to go"
                )

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.bar.close()

    return Watch()
