"""Who follows a training: TensorBoard's event files, and Weights & Biases (extra `wandb`): off, offline or online.

Progress in the log and the Dagster metadata are not here: they are always there.
"""

import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from smartdevdigest_ops.errors import UserError
from smartdevdigest_ops.settings import TrackingSettings
from smartdevdigest_ops.stage.distributed import is_first_process


class TrackingError(UserError):
    """The tracker that the settings ask for is not installed."""


@contextmanager
def tracked(
    tracking: TrackingSettings, *, stage: str, directory: Path, log: Callable[[str], None]
) -> Iterator[list[str]]:
    """The Trainer's `report_to` while a run is open; `[]` in all processes but the first.

    Both write into `directory` (made here). Event files go to `tensorboard/<stage>`, a file per start. Offline runs of
    wandb stay there until `wandb sync` sends them; nothing goes over the network.

    Raises:
        TrackingError: wandb is not installed.
    """
    if not is_first_process():
        yield []
        return
    with _wandb(tracking, stage=stage, directory=directory, log=log) as report_to:
        if tracking.tensorboard:
            events = directory / "tensorboard" / stage
            log(f"{stage}: `tensorboard --logdir {events.parent}` shows its curves")
            with _environment("TENSORBOARD_LOGGING_DIR", str(events)):
                yield [*report_to, "tensorboard"]
        else:
            yield report_to


@contextmanager
def _wandb(
    tracking: TrackingSettings, *, stage: str, directory: Path, log: Callable[[str], None]
) -> Iterator[list[str]]:
    if tracking.wandb == "disabled":
        yield []
        return
    if importlib.util.find_spec("wandb") is None:
        raise TrackingError(
            f"tracking.wandb is {tracking.wandb!r}, but the package wandb is not installed, so {stage} could not be "
            "followed. Install the extra (pip install 'smartdevdigest[wandb]') or set tracking.wandb to disabled."
        )
    import wandb

    directory.mkdir(parents=True, exist_ok=True)
    run = wandb.init(project=tracking.project, name=stage, mode=tracking.wandb, dir=str(directory))
    finished = False
    try:
        yield ["wandb"]
        finished = True
    finally:
        run.finish(exit_code=0 if finished else 1)
    if tracking.wandb == "offline":
        log(f"{stage}: wandb run kept offline in {Path(run.dir).parent}; send it with `wandb sync`")


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """Transformers takes the directory of its event files from the environment."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before
