"""Recovery training: what a quantized model stores in 16 bits, trained to predict as the unquantized model does.

GPTQ keeps each layer's own output; what the errors of all layers do together it does not see. Here every code stays as
GPTQ chose it, and only the scales of its groups and the weights of the norms are trained, end to end, on the
Kullback-Leibler divergence of the next token's distributions. Layout and size stay the same, so every loader reads it.

Both are trained as relative changes, by one learning rate: 0.001 is a thousandth of a scale in a step, whatever the
model's magnitudes. All in float32: in 16 bits such a change would be rounded away.

Source: scales alone, end to end, Chen et al. 2024 (EfficientQAT, arXiv 2407.11062), section 3.3; norms alone, Li et al.
2023 (Norm Tweaking, arXiv 2309.02784), section 3.
"""

import math
import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smartdevdigest_ops.quantization.errors import QuantizationError
from smartdevdigest_ops.quantization.load import load_for_inference, stored_tensors

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from smartdevdigest_ops.settings import RecoverySettings

_WARMUP_SHARE = 0.1
# Of the sequences, not trained on: what is kept is what is closer on these.
_HELD_OUT_SHARE = 0.125
_MIN_SEQUENCES = 2


@dataclass(frozen=True)
class RecoveryReport:
    """How far the quantized model's predictions are from the unquantized one's, on sequences not trained on."""

    num_steps: int
    num_trained_values: int
    divergence_before: float
    """Mean Kullback-Leibler divergence per token, in bits."""
    divergence_after: float

    @property
    def is_kept(self) -> bool:
        """Whether training brought the two closer; NaN is not closer."""
        return self.divergence_after < self.divergence_before

    def as_json(self) -> dict[str, Any]:
        """Plain values, for a file."""
        return asdict(self)


def recover(
    quantized_dir: Path,
    merged_dir: Path,
    out: Path,
    sequences: Sequence[Sequence[int]],
    settings: "RecoverySettings",
    *,
    device: str,
    seed: int,
) -> RecoveryReport:
    """Write `quantized_dir` to `out` with trained scales and norms, or as it is where training brought it no closer.

    One sequence of token ids is a step; the last eighth of them is held out. Holds both models in float32 and the
    activations of one sequence. The same inputs give the same files on a CPU.

    Raises:
        QuantizationError: there are fewer than two sequences, or the directory cannot be unpacked.
    """
    import torch
    from tqdm import tqdm  # noqa: PLC0415 - beside what it measures

    if len(sequences) < _MIN_SEQUENCES:
        raise QuantizationError(
            f"recovery training needs {_MIN_SEQUENCES} calibration sequences, one of them to measure on, and has "
            f"{len(sequences)}. Label more documents, or set quantization.recovery.passes to 0."
        )
    torch.manual_seed(seed)
    num_held_out = max(1, round(len(sequences) * _HELD_OUT_SHARE))
    trained_on, held_out = list(sequences[:-num_held_out]), sequences[-num_held_out:]
    # From the CPU's path: kernels that stay packed have no gradient.
    teacher = load_for_inference(merged_dir, device="cpu", dtype=torch.float32).to(device)
    student = load_for_inference(quantized_dir, device="cpu", dtype=torch.float32).to(device)
    before = _mean_divergence(student, teacher, held_out)
    changes = _make_trainable(student, quantized_dir)
    num_steps = settings.passes * len(trained_on)
    optimizer = torch.optim.AdamW(changes.values(), lr=settings.learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, num_steps))
    order = random.Random(seed)
    with tqdm(total=num_steps, desc="Recovery", unit="step") as bar:
        for _ in range(settings.passes):
            for sequence in order.sample(trained_on, len(trained_on)):
                loss = _divergence(student, teacher, sequence).mean()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()
                bar.update()
                bar.set_postfix(bits=f"{loss.item():.4f}")
    report = RecoveryReport(
        num_steps=num_steps,
        num_trained_values=sum(change.numel() for change in changes.values()),
        divergence_before=before,
        divergence_after=_mean_divergence(student, teacher, held_out),
    )
    shutil.copytree(quantized_dir, out)
    if report.is_kept:
        _write(out, {name: change.detach().cpu() for name, change in changes.items()})
    return report


def _rate(step: int, num_steps: int) -> float:
    """Share of the learning rate: up over the first tenth, then down along a cosine to nothing."""
    warmup = max(1, round(num_steps * _WARMUP_SHARE))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, num_steps - warmup)))


def _make_trainable(student: "PreTrainedModel", quantized_dir: Path) -> dict[str, "torch.nn.Parameter"]:
    """Freeze `student` but for one relative change per scale (G, O) and norm weight; tensor name -> change."""
    import torch
    from torch.nn.utils import parametrize

    class RelativeChange(torch.nn.Module):
        """A frozen weight times 1 + change: of each of its elements, or of each group's."""

        def __init__(self, shape: torch.Size, groups_I: torch.Tensor | None) -> None:
            super().__init__()
            self.change = torch.nn.Parameter(torch.zeros(shape))
            self.groups_I = groups_I

        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            change = self.change if self.groups_I is None else self.change[self.groups_I].T
            return weight * (1 + change)

    student.requires_grad_(False)
    trained: dict[str, torch.Tensor] = {}
    groups: dict[str, torch.Tensor] = {}
    for name, tensor in stored_tensors(quantized_dir):
        layer, _, kind = name.rpartition(".")
        if kind == "scales" or (kind == "weight" and tensor.ndim == 1):
            trained[name] = tensor
        elif kind == "g_idx":
            groups[layer] = tensor.long()
    changes: dict[str, torch.nn.Parameter] = {}
    for name, tensor in trained.items():
        layer = name.rpartition(".")[0]
        change = RelativeChange(tensor.shape, groups[layer].to(student.device) if name.endswith(".scales") else None)
        parametrize.register_parametrization(student.get_submodule(layer), "weight", change.to(student.device))
        changes[name] = change.change
    return changes


def _divergence(student: "PreTrainedModel", teacher: "PreTrainedModel", sequence: Sequence[int]) -> "torch.Tensor":
    """Kullback-Leibler divergence (T,) of the student's next-token distributions from the teacher's, in bits."""
    import torch

    ids_1T = torch.tensor([list(sequence)], device=student.device)
    with torch.no_grad():
        teacher_TV = teacher(input_ids=ids_1T, use_cache=False).logits[0].log_softmax(-1)
    student_TV = student(input_ids=ids_1T, use_cache=False).logits[0].log_softmax(-1)
    bits_T: torch.Tensor = (teacher_TV.exp() * (teacher_TV - student_TV)).sum(-1) / math.log(2)
    return bits_T


def _mean_divergence(
    student: "PreTrainedModel", teacher: "PreTrainedModel", sequences: Sequence[Sequence[int]]
) -> float:
    import torch

    with torch.no_grad():
        return float(torch.cat([_divergence(student, teacher, sequence) for sequence in sequences]).mean())


def _write(model_dir: Path, changes: Mapping[str, "torch.Tensor"]) -> None:
    """Multiply stored tensors by 1 + change, each in its own type."""
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    for file in sorted(model_dir.glob("*.safetensors")):
        with safe_open(file, framework="pt") as stream:
            metadata = stream.metadata()
        tensors = load_file(file)
        for name in tensors.keys() & changes.keys():
            tensors[name] = (tensors[name].float() * (1 + changes[name])).to(tensors[name].dtype)
        save_file(tensors, file, metadata=metadata)
