"""Precision and kernels of a training, by device.

| device | precision | attention | loss | optimizer |
|---|---|---|---|---|
| cpu | bfloat16 autocast where its instructions have it (AVX512-BF16, AMX), else float32 | SDPA | plain | fused AdamW |
| cuda | bfloat16 autocast | flash attention (variable lengths) where installed, else SDPA | liger's fused linear \
cross entropy where installed, else plain | fused AdamW |
| mps | float32 | SDPA | plain | AdamW |

The choice follows from what the CPU can do, not from a timing: a probe on a busy machine now and then says otherwise,
and the same settings would give other weights. A training step of SmolLM2-135M (1,024 tokens) is 1.9 times as fast with
bfloat16 on two cores with AVX512-BF16, 2.3 times on one with AMX (`benchmarks/m1_kernels.py`), and was 0.3 times
where it is emulated.
Measured on two cores without either: fused AdamW 1.21x, SDPA 1.18x over eager, chunked cross entropy 0.89x,
torch.compile 1.0x after 434 s of compiling. The cuda row was not run where this was written; where there is one,
tests/ops/training/trainer/test_training_on_cuda.py runs it.
"""

import importlib.util
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from smartdevdigest_ops.artifacts import write_atomically

Attention = Literal["sdpa", "flash_attention_2"]


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
    """The kernels for `device`. Kept in `remembered`, for a run that is resumed on another machine.

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
    found = bfloat16_instructions()
    if found is None:
        return False, "this CPU has no bfloat16 instructions"
    return True, f"this CPU has {found}"


def bfloat16_instructions() -> str | None:
    """Instructions that multiply bfloat16 matrices on this CPU; None where torch would emulate them."""
    import torch

    if torch.cpu._is_amx_tile_supported():
        return "AMX"
    return "AVX512-BF16" if torch.cpu._is_avx512_bf16_supported() else None


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
