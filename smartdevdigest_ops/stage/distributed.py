"""Several processes at one stage: who is who, and how they are started.

One process per GPU, started by torch's launcher (`python -m torch.distributed.run`), each running the whole stage on
the same inputs. The first one alone logs, reports and publishes; what the others write is removed.
"""

import os
import sys
from pathlib import Path

from smartdevdigest_ops.settings import Settings


def num_processes() -> int:
    """Processes at this stage."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_launched() -> bool:
    """Whether this process was started by a launcher, alone or with others."""
    return "WORLD_SIZE" in os.environ


def is_first_process() -> bool:
    """Whether this process is the one that logs and publishes."""
    return int(os.environ.get("RANK", "0")) == 0


def wait_for_all() -> None:
    """Return when every process has come here; a process alone does at once."""
    if num_processes() == 1:
        return
    import torch.distributed

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()


def wanted_processes(settings: Settings) -> int:
    """`training.processes`; for auto one per GPU, where a GPU is to be used at all."""
    wanted = settings.training.processes
    if wanted != "auto":
        return wanted
    import torch

    return max(1, torch.cuda.device_count()) if settings.model.device in ("auto", "cuda") else 1


def launch_command(stage: str, spec: Path, processes: int) -> list[str]:
    """The command that runs a stage in `processes` processes of this machine."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return [*launcher, "-m", "smartdevdigest_ops.stage", stage, str(spec)]


def use_own_gpu() -> None:
    """Make `cuda` mean this process's own GPU, in a process that a launcher started."""
    import torch

    if is_launched() and torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
