"""The shape of an adapter as peft takes it, for M1 and M2 alike."""

from typing import TYPE_CHECKING, Any

from smartdevdigest_ops.settings import LoraSettings

if TYPE_CHECKING:
    from peft import LoraConfig


def lora_config(lora: LoraSettings, **more: Any) -> "LoraConfig":
    """Peft's configuration of the adapter; `more` are its own further arguments.

    Sources: Hu et al. 2021 (arXiv 2106.09685); Kalajdzievski 2023, "rsLoRA" (arXiv 2312.03732); Liu et al. 2024, "DoRA"
    (arXiv 2402.09353).
    """
    from peft import LoraConfig

    # peft's all-linear leaves the output layer out; embeddings are no linear layers.
    targets = lora.target_modules if isinstance(lora.target_modules, str) else list(lora.target_modules)
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
        use_rslora=lora.rslora,
        use_dora=lora.dora,
        task_type="CAUSAL_LM",
        **more,
    )
