"""GPTQ: the merged model in 4 bits (Frantar et al., arXiv 2210.17323).

Each linear layer's weights are rounded column by column, and the columns not yet rounded take up the error that this
makes on the calibration inputs.

By gptqmodel, the maintained successor of AutoGPTQ. SmolLM2-135M on 16 sequences of 512 tokens takes 76 s on two cores
(docs/results.md). What comes out is the same byte for byte from the same inputs: nothing is offloaded to a randomly
named directory, and the log, which holds timings, is read and left out.
"""

import csv
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smartdevdigest_ops.quantization.errors import QuantizationError
from smartdevdigest_ops.quantization.layer_formats import LayerFormat, dynamic_rules, plan_layers
from smartdevdigest_ops.quantization.quiet import output_to_log
from smartdevdigest_ops.settings import QuantizationSettings

if TYPE_CHECKING:
    import torch

_QUANTIZER_LOG = "quant_log.csv"
# gptqmodel refuses fewer: its loader takes two of the pool's threads for itself.
_MIN_WORKERS = 2


@dataclass(frozen=True)
class GptqReport:
    """What gptqmodel said of each layer, summed up."""

    num_layers: int
    num_fallback_layers: int
    """Layers rounded to nearest, because too few calibration tokens reached them or their Hessian had no inverse."""
    mean_loss: float | None
    """Mean squared output error of the layers that GPTQ solved; null if there is none."""

    def as_json(self) -> dict[str, Any]:
        """Plain values, for a file."""
        return asdict(self)


def quantize_gptq(
    model_dir: Path,
    out: Path,
    sequences: Sequence[Sequence[int]],
    settings: QuantizationSettings,
    *,
    device: str,
    threads: int,
    log_file: Path,
) -> GptqReport:
    """Quantize the model in `model_dir` on `sequences` of token ids and write it to `out` in the GPTQ layout.

    Needs about the model's size in memory, plus the Hessian of one layer. What is not packed (embeddings, norms) is
    stored in 16 bits: float32 weights become float16, whose rounding is an eighth of bfloat16's and which is the type
    of the scales, unless a value is too large for it.

    Raises:
        QuantizationError: settings and model do not fit (`plan_layers`), or gptqmodel could not quantize it.
    """
    dynamic = dynamic_rules(plan_layers(model_dir, settings), LayerFormat(settings.bits, settings.group_size))
    model_dir, out, log_file = model_dir.resolve(), out.resolve(), log_file.resolve()
    # Read once, at import. The packing extension would be compiled for a minute with a C++ compiler at first use;
    # without it packing runs in numpy and gives the same words.
    os.environ.setdefault("GPTQMODEL_CPU_WORKERS", str(max(_MIN_WORKERS, threads)))
    os.environ.setdefault("GPTQMODEL_DISABLE_PACK_EXT", "1")
    with output_to_log(log_file) as progress:
        report = _quantize(model_dir, out, sequences, settings, dynamic, device, progress)
    # gptqmodel "repairs" the generation settings and re-saves the tokenizer; both are the merged model's own.
    for file in model_dir.iterdir():
        if file.suffix != ".safetensors" and file.name not in ("config.json", "model.safetensors.index.json"):
            shutil.copy2(file, out / file.name)
    return report


def _quantize(
    model_dir: Path,
    out: Path,
    sequences: Sequence[Sequence[int]],
    settings: QuantizationSettings,
    dynamic: dict[str, dict[str, int]],
    device: str,
    progress: Any,
) -> GptqReport:
    import torch
    from gptqmodel import GPTQModel, QuantizeConfig
    from tqdm import tqdm  # noqa: PLC0415 - beside what it measures
    from transformers import AutoConfig

    stored = AutoConfig.from_pretrained(model_dir, local_files_only=True).dtype
    config = QuantizeConfig(
        bits=settings.bits,
        group_size=settings.group_size,
        desc_act=settings.desc_act,
        sym=settings.symmetric,
        damp_percent=settings.damping,
        dynamic=dynamic or None,
        offload_to_disk=False,
    )
    calibration = [{"input_ids": list(ids), "attention_mask": [1] * len(ids)} for ids in sequences]
    try:
        model = GPTQModel.load(str(model_dir), config, device=device, dtype=stored or torch.float32)
        with tqdm(total=model.model.config.num_hidden_layers, desc="GPTQ", unit="layer", file=progress) as bar:

            def show_layer(layer_idx: int, submodule_finalized: bool) -> None:
                bar.update(layer_idx + 1 - bar.n)

            model.layer_callback = show_layer
            # One sequence at a time: padding would count as calibration.
            model.quantize(calibration, batch_size=1)
        _store_in_16_bits(model.model)
        model.save(str(out))
    except (RuntimeError, ValueError) as error:
        raise QuantizationError(
            f"gptqmodel could not quantize {model_dir.name} with {settings.bits} bits and groups of "
            f"{settings.group_size}: {error}. Raise quantization.damping or "
            "quantization.calibration_documents, or set model.use_gptq to false."
        ) from error
    return _read_quantizer_log(out / _QUANTIZER_LOG)


def _store_in_16_bits(model: "torch.nn.Module") -> None:
    import torch

    parameters = [parameter for parameter in model.parameters() if parameter.dtype == torch.float32]
    largest = max((parameter.detach().abs().max().item() for parameter in parameters), default=0.0)
    dtype = torch.float16 if largest <= torch.finfo(torch.float16).max else torch.bfloat16
    for parameter in parameters:
        parameter.data = parameter.data.to(dtype)
    if parameters:
        model.config.dtype = dtype


def _read_quantizer_log(path: Path) -> GptqReport:
    """Sum up and remove gptqmodel's log: a row per layer with its loss, or the fallback's name in its place."""
    losses, fallbacks = [], 0
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            if "fallback" in row["loss"]:
                fallbacks += 1
            else:
                losses.append(float(row["loss"]))
    path.unlink()
    return GptqReport(
        num_layers=len(losses) + fallbacks,
        num_fallback_layers=fallbacks,
        mean_loss=sum(losses) / len(losses) if losses else None,
    )
