"""Merge the M2 adapter into M1, and measure that the merged model answers as the adapted one does.

LoRA (arXiv 2106.09685) adds `scale * B A` to a weight; merging writes that sum into the weight, so that quantizing and
serving see one plain model. The sum is taken in the precision M1 is stored in; the check compares logits before and
after, because an adapter that touches a tied embedding changes twice what it was trained to change once.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smartdevdigest_ops.quantization.errors import QuantizationError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Relative to the largest logit. float32 sums in another order differ near 1e-6; 16-bit weights round near 4e-3.
FLOAT32_TOLERANCE = 1e-4
HALF_TOLERANCE = 5e-2

# Prose in both languages and code: rows of the vocabulary that M1 added are among their tokens.
PROBE_TEXTS = (
    "A container image is a stack of read-only layers; the runtime adds one that can be written to.",
    "컨테이너 이미지는 읽기 전용 레이어를 쌓은 것이고, 실행할 때 쓰기 가능한 레이어가 하나 더해진다.",
    "def retry(call, attempts=3):\n    for attempt in range(attempts):\n        if call():\n            return True\n",
)


@dataclass(frozen=True)
class MergeReport:
    """How far the merged model's logits are from those with the adapter applied."""

    max_logit_difference: float
    max_logit: float
    tolerance: float
    """Largest `max_logit_difference` that counts as the same model."""
    num_merged_layers: int
    tied_embeddings: bool

    @property
    def exact(self) -> bool:
        """Whether the difference is within rounding; NaN is not."""
        return self.max_logit_difference <= self.tolerance

    def as_json(self) -> dict[str, Any]:
        """Plain values, for a file."""
        return asdict(self)


def merge_adapter(m1_dir: Path, adapter_dir: Path, out: Path, *, device: str = "cpu") -> MergeReport:
    """Write M1 with the adapter merged in, and its tokenizer, to `out`.

    Raises:
        QuantizationError: adapter and model do not fit, or merging untied the embeddings or made NaN.
    """
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(m1_dir, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(m1_dir, dtype="auto", local_files_only=True).to(device).eval()
    _require_vocabulary(model, tokenizer, m1_dir)
    tied = _is_tied(model)
    try:
        adapted = PeftModel.from_pretrained(model, adapter_dir).eval()
        num_layers = sum(name.endswith("lora_A") for name, _ in adapted.named_modules())
        with torch.inference_mode():
            before = _probe_logits(adapted, tokenizer)
        merged = adapted.merge_and_unload(safe_merge=True)
    except (RuntimeError, ValueError, KeyError) as error:
        raise QuantizationError(
            f"{adapter_dir}: the adapter could not be merged into {m1_dir} ({error}). It was trained on another M1, or "
            "its weights are not finite; materialize m2_adapter again."
        ) from error
    if tied != _is_tied(merged):
        raise QuantizationError(
            f"{adapter_dir}: merging untied the output embedding of {m1_dir} from its input embedding: the adapter "
            "targets one of them. Take embed_tokens and lm_head off training.m2.lora.target_modules."
        )
    with torch.inference_mode():
        after = _probe_logits(merged, tokenizer)
    merged.save_pretrained(out)
    tokenizer.save_pretrained(out)
    largest = max(logits.abs().max().item() for logits in before)
    relative = FLOAT32_TOLERANCE if merged.dtype == torch.float32 else HALF_TOLERANCE
    return MergeReport(
        # torch's max, not Python's: it returns NaN if there is one.
        max_logit_difference=torch.stack([(a - b).abs().max() for a, b in zip(before, after, strict=True)])
        .max()
        .item(),
        max_logit=largest,
        tolerance=relative * largest,
        num_merged_layers=num_layers,
        tied_embeddings=tied,
    )


def _probe_logits(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> list["torch.Tensor"]:
    """Logits (T, V) float32 on the CPU, per probe text."""
    return [
        model(**tokenizer(text, return_tensors="pt", return_token_type_ids=False).to(model.device))
        .logits[0]
        .float()
        .cpu()
        for text in PROBE_TEXTS
    ]


def _is_tied(model: "PreTrainedModel") -> bool:
    output = model.get_output_embeddings()
    return output is not None and output.weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()


def _require_vocabulary(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", m1_dir: Path) -> None:
    rows, size = model.get_input_embeddings().weight.shape[0], len(tokenizer)
    if rows < size:
        raise QuantizationError(
            f"{m1_dir}: the embedding has {rows} rows but the tokenizer {size} tokens; ids from {rows} on would crash. "
            "The tokenizer was extended after this checkpoint was made; materialize m1_checkpoint again."
        )
