"""Which device, precision and thread count a stage computes with."""

import os
from typing import TYPE_CHECKING, Literal

from smartdevdigest_ops.errors import UserError

if TYPE_CHECKING:
    import torch

Device = Literal["cuda", "mps", "cpu"]


class DeviceError(UserError):
    """The device that the settings ask for is not there."""


def choose_device(wanted: str) -> Device:
    """The device to compute on: `wanted`, or for `auto` the best of cuda, mps and cpu.

    Raises:
        DeviceError: a device was asked for by name and is not available.
    """
    import torch

    available: dict[str, bool] = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if wanted == "auto":
        return "cuda" if available["cuda"] else "mps" if available["mps"] else "cpu"
    if not available.get(wanted, False):
        there = ", ".join(name for name, found in available.items() if found)
        raise DeviceError(
            f"model.device is {wanted!r}, which this machine does not offer to torch {torch.__version__} "
            f"(available: {there}). Set model.device to auto or to one of these."
        )
    return wanted  # type: ignore[return-value]  # one of the keys above


def choose_dtype(precision: str, device: str) -> "torch.dtype":
    """Compute type: bfloat16 on cuda and float32 elsewhere, unless `precision` names one."""
    import torch

    if precision == "auto":
        return torch.bfloat16 if device == "cuda" else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def use_threads(threads: int) -> int:
    """Set torch's CPU threads (0: one per core, or OMP_NUM_THREADS) and return the number."""
    import torch

    torch.set_num_threads(threads or int(os.environ.get("OMP_NUM_THREADS", 0)) or os.cpu_count() or 1)
    return torch.get_num_threads()
