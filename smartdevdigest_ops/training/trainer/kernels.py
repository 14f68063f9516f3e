"""Precision and kernels of a training, by device.

| device | precision | attention | loss | optimizer |
|---|---|---|---|---|
| cpu | float32, bfloat16 autocast where measured faster | SDPA | plain | fused AdamW |
| cuda | bfloat16 autocast | flash attention (variable lengths) where installed, else SDPA | liger's fused linear \
cross entropy where installed, else plain | fused AdamW |
| mps | float32 | SDPA | plain | AdamW |

Measured on two CPU cores without AMX (SmolLM2-135M): fused AdamW 1.21x, SDPA 1.18x over eager, chunked cross entropy
0.89x, bfloat16 autocast 0.28x, torch.compile 1.0x after 434 s of compiling. The cuda row was not run where this was
written; tests/gpu runs it where there is one.
"""

import importlib.util
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from smartdevdigest_ops.artifacts import write_atomically

if TYPE_CHECKING:
    import torch

Attention = Literal["sdpa", "flash_attention_2"]

# AMX gives 4 to 8, emulation 0.3; what lies between is noise of a busy machine, and not worth half the digits.
_LEAST_SPEEDUP = 1.5
_PROBE_SIZE = 384


@dataclass(frozen=True)
class Kernels:
    """What one run computes with."""

    autocast_bfloat16: bool
    """Over float32 master weights."""
    attention: Attention
    fused_loss: bool
    """liger-kernel's, which never holds the logits."""
    fused_optimizer: bool
    reason: str
    """Why this precision."""

    def __str__(self) -> str:
        precision = "bfloat16 autocast" if self.autocast_bfloat16 else "float32"
        loss = "liger" if self.fused_loss else "plain"
        return f"{precision} ({self.reason}), {self.attention}, {loss} cross entropy"


def choose_kernels(device: str, precision: str, remembered: Path) -> Kernels:
    """The kernels for `device`. A choice once measured is kept in `remembered`, for a run that is resumed.

    Args:
        device: cuda, mps or cpu.
        precision: `model.precision`.
        remembered: a JSON file in the making's scratch directory.
    """
    if remembered.is_file():
        return Kernels(**json.loads(remembered.read_text(encoding="utf-8")))
    autocast, reason = _choose_autocast(device, precision)
    kernels = Kernels(
        autocast_bfloat16=autocast,
        # It computes in bfloat16 only.
        attention="flash_attention_2" if device == "cuda" and autocast and _is_installed("flash_attn") else "sdpa",
        fused_loss=device == "cuda" and _is_installed("liger_kernel"),
        fused_optimizer=device in ("cpu", "cuda"),
        reason=reason,
    )
    write_atomically(remembered, json.dumps(asdict(kernels)))
    return kernels


def _choose_autocast(device: str, precision: str) -> tuple[bool, str]:
    if precision != "auto":
        return precision == "bfloat16", "as model.precision asks"
    if device == "cuda":
        return True, "the rule for cuda"
    if device != "cpu":
        return False, f"the rule for {device}"
    speedup = bfloat16_speedup()
    return speedup >= _LEAST_SPEEDUP, f"bfloat16 matrix products measured at {speedup:.2f}x of float32 here"


def bfloat16_speedup() -> float:
    """float32 seconds over bfloat16 seconds of one matrix product on this CPU, the better of two each."""
    import torch

    def seconds(dtype: "torch.dtype") -> float:
        a_NN = torch.ones(_PROBE_SIZE, _PROBE_SIZE, dtype=dtype)
        torch.mm(a_NN[:64], a_NN)  # the first product of a type sets its kernel up
        took = []
        for _ in range(2):
            started = time.perf_counter()
            torch.mm(a_NN, a_NN)
            took.append(time.perf_counter() - started)
        return min(took)

    return seconds(torch.float32) / seconds(torch.bfloat16)


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
