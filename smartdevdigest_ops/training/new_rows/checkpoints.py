"""What fitting new rows has computed, on disk: a fit that was killed goes on from there with the same result."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def kept(
    file: Path, compute: "Callable[[], dict[str, torch.Tensor]]", device: "torch.device"
) -> "dict[str, torch.Tensor]":
    """What `compute` gives, on `device`; read from `file` where it was computed before a kill."""
    from safetensors.torch import load_file

    if not file.is_file():
        _publish({name: tensor.contiguous() for name, tensor in compute().items()}, file)
    tensors: dict[str, torch.Tensor] = load_file(file, device=str(device))
    return tensors


def save_rows(file: Path, parameters: "Sequence[torch.Tensor]", optimizer: "torch.optim.Adam", step: int) -> None:
    """Rows and Adam's moments after `step` steps."""
    import torch

    tensors = {"step": torch.tensor(step)}
    for index, parameter in enumerate(parameters):
        tensors[f"row_{index}"] = parameter.detach()
        # An output row of untied embeddings has moments before its input row has any.
        for name, moment in optimizer.state[parameter].items():
            tensors[f"{name}_{index}"] = moment
    _publish({name: tensor.clone() for name, tensor in tensors.items()}, file)


def restore_rows(file: Path, parameters: "Sequence[torch.Tensor]", optimizer: "torch.optim.Adam") -> int:
    """Load what `save_rows` wrote, where it did; returns the steps done."""
    import torch
    from safetensors.torch import load_file

    if not file.is_file():
        return 0
    tensors = load_file(file, device=str(parameters[0].device))
    with torch.no_grad():
        for index, parameter in enumerate(parameters):
            parameter.copy_(tensors[f"row_{index}"])
            if f"exp_avg_{index}" in tensors:
                optimizer.state[parameter] = {
                    name: tensors[f"{name}_{index}"].cpu() if name == "step" else tensors[f"{name}_{index}"]
                    for name in ("step", "exp_avg", "exp_avg_sq")
                }
    return int(tensors["step"])


def _publish(tensors: "dict[str, torch.Tensor]", file: Path) -> None:
    from safetensors.torch import save_file

    partial = file.with_suffix(f".{os.getpid()}.partial")  # processes that share a making compute it alike
    save_file({name: tensor.cpu() for name, tensor in tensors.items()}, partial)
    partial.replace(file)
