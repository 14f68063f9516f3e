"""Weights & Biases around one training (extra `wandb`): off, offline or online."""

import importlib.util
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
    """The Trainer's `report_to` while a run is open; `[]` when tracking is off or this is not the first process.

    Offline runs stay in `directory` (made here) until `wandb sync` sends them; nothing goes over the network.

    Raises:
        TrackingError: wandb is not installed.
    """
    if tracking.wandb == "disabled" or not is_first_process():
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
