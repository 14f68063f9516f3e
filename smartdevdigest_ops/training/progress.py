"""What a running training shows: a tqdm bar and a line for the log now and then. A loss that is not finite stops it."""

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from smartdevdigest_ops.training.errors import TrainingError

if TYPE_CHECKING:
    from transformers import TrainerCallback

_LINES_PER_RUN = 10


class Pace:
    """Tokens and seconds of the optimizer steps of this process; evaluation and checkpoints are not counted."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.tokens = 0
        self.steps = 0

    @property
    def tokens_per_second(self) -> float:
        """0 before the first step."""
        return self.tokens / self.seconds if self.seconds else 0.0


def watch(stage: str, pace: Pace, log: Callable[[str], None]) -> "TrainerCallback":
    """A Trainer callback that shows progress, keeps `pace` and stops a training that has diverged.

    The callback raises TrainingError as soon as a loss or a gradient norm is not finite, before that step's
    checkpoint is written.
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
            for name in ("loss", "grad_norm"):
                if not math.isfinite(logs.get(name, 0.0)):
                    self.bar.close()
                    raise TrainingError(
                        f"{stage}: the {name.replace('grad_norm', 'gradient norm')} is {logs[name]} at step "
                        f"{state.global_step} of {state.max_steps}: the training has diverged and nothing of this "
                        f"step was kept. Lower training.{stage.split('_')[0]}.learning_rate "
                        f"(now {args.learning_rate:g}), raise its warmup_steps, or set model.precision to float32."
                    )
            self.bar.set_postfix(loss=f"{logs['loss']:.3f}", refresh=False)
            if state.is_world_process_zero and (
                state.global_step % self.every == 0 or state.global_step == state.max_steps
            ):
                remaining = (state.max_steps - state.global_step) * pace.seconds / max(1, pace.steps)
                log(
                    f"{stage}: step {state.global_step}/{state.max_steps}, loss {logs['loss']:.3f}, "
                    f"{pace.tokens_per_second:.0f} tokens/s, {remaining:.0f} s to go"
                )

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.bar.close()

    return Watch()
