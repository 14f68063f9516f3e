"""What becomes of the trained model: quantized, judged, released, put to use."""

from typing import Literal

from pydantic import Field

from smartdevdigest_ops.settings.section import Section


class QuantizationSettings(Section):
    """GPTQ (arXiv 2210.17323)."""

    bits: Literal[4, 8] = Field(4)
    group_size: int = Field(64, gt=0, description="Input channels per scale; must divide every layer's input size.")
    desc_act: bool = Field(False, description="Act-order.")
    symmetric: bool = Field(True)
    damping: float = Field(0.05, gt=0, lt=1, description="Share of the Hessian's mean diagonal added to it.")
    calibration_documents: int = Field(
        32, gt=1, description="Digest prompts with answers, train split, half per language."
    )
    calibration_tokens: int = Field(512, gt=15, description="Tokens per calibration sequence at most.")
    comparison_documents: int = Field(
        4, gt=0, description="Validation documents per language that are compared before and after."
    )
    max_bits_per_byte_increase: float = Field(
        0.25, gt=0, description="Gate: most loss per language against the unquantized model."
    )


class AnswerSettings(Section):
    """Guided generation of answers: the caps make every generation end."""

    batch_size: int = Field(8, gt=0, description="Documents generated together.")
    max_summary_characters: int = Field(400, gt=20)
    max_keywords: int = Field(8, gt=0)
    max_keyword_characters: int = Field(40, gt=1)
    max_prerequisites: int = Field(5, ge=0)
    max_prerequisite_characters: int = Field(60, gt=1)
    max_terms: int = Field(6, gt=0)
    max_explanation_characters: int = Field(160, gt=10)
    max_new_tokens: int = Field(
        512, gt=63, description="Answer budget in tokens; the prompt gets the rest of max_length."
    )


class DigestingSettings(AnswerSettings):
    """How digests are generated."""


class EvaluationSettings(Section):
    """What is measured, on how much."""

    max_documents: int = Field(200, gt=0, description="Test documents at most, drawn by URL hash, half per language.")
    bootstrap_samples: int = Field(1000, ge=100, description="Resamples of documents per interval.")
    confidence: float = Field(0.95, gt=0.5, lt=1)
    untuned_base: bool = Field(True, description="Generate with the untuned base model too.")
    bits_per_byte_documents: int = Field(
        8, gt=0, description="Test documents per language at most whose bits per byte are measured at every stage."
    )


class ReleaseSettings(Section):
    """When a candidate becomes the release."""

    min_valid_json_rate: float = Field(1.0, ge=0, le=1)
    tolerance: float = Field(
        0.02, ge=0, description="How far a candidate's upper bound may lie below the release's mean."
    )
    fields: tuple[str, ...] = Field(("rougeL", "keyword_f1"), description="Metrics that are compared, per language.")
