"""When a training has diverged: a loss or gradient that is not finite, or a loss far above its running median.

Rule: the loss of `divergence_steps` steps in a row exceeds `divergence_factor` times the median of the 50 losses
before them (10 at least). One bad batch is not divergence, and no checkpoint is written while the loss is above: the
last one kept is from before. Everything is read off the Trainer's log, which a resumed run has too.
"""

import math
import statistics
from collections.abc import Sequence
from typing import Any

from smartdevdigest_ops.settings import TrainingSettings

_WINDOW = 50
_FEWEST = 10


def steps_above(losses: Sequence[float], factor: float) -> int:
    """How many of the last losses in a row lie above `factor` times the median of those before them."""
    calm: list[float] = []
    above = 0
    for loss in losses:
        if len(calm) >= _FEWEST and loss > factor * statistics.median(calm[-_WINDOW:]):
            above += 1
        else:
            # Losses above come in too when they end: the run has settled, be it on another level.
            calm.append(loss)
            above = 0
    return above


class Divergence:
    """Follows one run's log."""

    def __init__(self, settings: TrainingSettings) -> None:
        self._settings = settings

    def is_above(self, log_history: Sequence[dict[str, Any]]) -> bool:
        """Whether the last step's loss is above the bound: weights that had better not be kept."""
        return self._steps_above(log_history) > 0

    def found(self, log_history: Sequence[dict[str, Any]]) -> tuple[int, str] | None:
        """The first step that went wrong and what was found there, once the run has diverged."""
        last = log_history[-1]
        for name, words in (("loss", "loss"), ("grad_norm", "gradient norm")):
            if not math.isfinite(last.get(name, 0.0)):
                return int(last["step"]), f"the {words} is {last[name]} at step {last['step']}"
        above = self._steps_above(log_history)
        if above < self._settings.divergence_steps:
            return None
        first = int(last["step"]) - above + 1
        return first, (
            f"the loss has been above {self._settings.divergence_factor:g} times its running median for {above} steps "
            f"(at last {last['loss']:.3f}), since step {first}"
        )

    def _steps_above(self, log_history: Sequence[dict[str, Any]]) -> int:
        losses = [entry["loss"] for entry in log_history if "loss" in entry]
        # A few windows decide; all of a long run would be read at every step of it.
        return steps_above(losses[-4 * _WINDOW :], self._settings.divergence_factor)
