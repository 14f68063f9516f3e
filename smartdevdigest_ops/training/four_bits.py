"""Weights held in 4 bits to train an adapter over (QLoRA). Not run where there is no CUDA device.

Source: Dettmers et al. 2023, "QLoRA: Efficient Finetuning of Quantized LLMs" (arXiv 2305.14314), section 3.
"""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from smartdevdigest_ops.training.errors import TrainingError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def load_in_four_bits(directory: Path) -> "PreTrainedModel":
    """The model of `directory` with its linear layers in 4 bits; embeddings and the output layer stay as they are."""
    import torch
    from peft import prepare_model_for_kbit_training
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    held = AutoModelForCausalLM.from_pretrained(
        directory,
        quantization_config=BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        ),
        device_map={"": torch.cuda.current_device()},
    )
    prepared: PreTrainedModel = prepare_model_for_kbit_training(held, use_gradient_checkpointing=False)
    return prepared


def refuse_qlora_where_impossible(setting: str) -> None:
    """Stop before anything is computed for a run that could not be; `setting` is the one that asks for it.

    Raises:
        TrainingError: there is no CUDA device, or bitsandbytes is not installed.
    """
    import torch

    if not torch.cuda.is_available():
        raise TrainingError(
            f"{setting}=qlora holds the weights in 4 bits by CUDA kernels, and torch "
            f"{torch.__version__} sees no CUDA device here. Set it to lora, or run on a GPU."
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise TrainingError(
            f"{setting}=qlora needs the package bitsandbytes, which is not installed. Install it "
            "(pip install bitsandbytes) or set it to lora."
        )
