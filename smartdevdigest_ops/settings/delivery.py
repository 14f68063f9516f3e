"""What becomes of the trained model: quantized, judged, released, put to use."""

import re
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from smartdevdigest_ops.settings.judge import JudgeSettings
from smartdevdigest_ops.settings.section import Section


class RecoverySettings(Section):
    """Training of scales and norms after quantization, to the unquantized model's predictions."""

    passes: int = Field(0, ge=0, description="Passes over its sequences; 0: no recovery training.")
    documents: int = Field(
        64, gt=1, description="Sequences, drawn as those of calibration are, which are the first of them."
    )
    learning_rate: float = Field(1e-3, gt=0, description="Relative change of a scale or norm weight in a step.")


class LayerOverride(Section):
    """Layers that are quantized otherwise than the rest. transformers alone cannot load such a model."""

    layers: str = Field(
        min_length=1, description="Regular expression found in their names: `down_proj`, `layers\\.(0|29)\\.`."
    )
    bits: Literal[4, 8, 16] = Field(8, description="16: not quantized.")
    group_size: int | None = Field(None, gt=0, description="null: that of the rest.")

    @field_validator("layers")
    @classmethod
    def _is_an_expression(cls, layers: str) -> str:
        try:
            re.compile(layers)
        except re.error as error:
            raise ValueError(f"{layers!r} is no regular expression: {error}. Mend it.") from None
        return layers


class QuantizationSettings(Section):
    """GPTQ (arXiv 2210.17323)."""

    bits: Literal[4, 8] = Field(4)
    group_size: int = Field(64, gt=0, description="Input channels per scale; must divide every layer's input size.")
    overrides: tuple[LayerOverride, ...] = Field((), description="Of single layers; the last that matches counts.")
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
    recovery: RecoverySettings = RecoverySettings()


class AnswerSettings(Section):
    """Guided generation of answers: the caps make every generation end."""

    batch_size: int = Field(8, gt=0, description="Documents generated together.")
    max_summary_characters: int = Field(
        600, gt=20, description="A teacher's English summaries have up to 600 (median 443)."
    )
    max_keywords: int = Field(8, gt=0)
    max_keyword_characters: int = Field(40, gt=1)
    max_prerequisites: int = Field(5, ge=0)
    max_prerequisite_characters: int = Field(60, gt=1)
    max_terms: int = Field(6, gt=0)
    max_explanation_characters: int = Field(160, gt=10)
    max_new_tokens: int = Field(
        512, gt=63, description="Answer budget in tokens; the prompt gets the rest of max_length."
    )


class FactorWeights(Section):
    """What each difficulty factor counts in the score; their sum does not matter."""

    technical_terms: float = Field(1.0, ge=0)
    concept_complexity: float = Field(1.0, ge=0)
    background_knowledge: float = Field(1.0, ge=0)
    code_complexity: float = Field(1.0, ge=0, description="Counts in documents that show code only.")

    @model_validator(mode="after")
    def _documents_without_code_have_a_score(self) -> Self:
        if not self.technical_terms + self.concept_complexity + self.background_knowledge:
            raise ValueError(
                "all factors but code_complexity weigh 0, so that a document without code has no difficulty. Give one "
                "of technical_terms, concept_complexity, background_knowledge a weight."
            )
        return self


class DigestingSettings(AnswerSettings):
    """Guided generation of digests: the caps make every generation end."""

    batch_size: int = Field(32, gt=0, description="Answers written at the same time; each takes memory for max_length.")
    long_documents: Literal["cut", "map_reduce"] = Field(
        "cut",
        description="Of a document longer than the prompt: its beginning only, or all of it in parts, merged. Parts "
        "cost a generation each, and one more for the summary.",
    )
    max_parts: int = Field(8, gt=1, description="Parts at most per document (map_reduce); the rest is not covered.")
    factor_weights: FactorWeights = FactorWeights()
    calibration_documents: int = Field(
        200, ge=0, description="Labelled validation documents at most that difficulty is calibrated on; 0: none."
    )


class EvaluationSettings(Section):
    """What is measured, on how much."""

    max_documents: int = Field(200, gt=0, description="Test documents at most, drawn by URL hash, half per language.")
    gold_summaries: str | None = Field(
        None,
        description="Summaries that people wrote (JSON Lines of url, summary): test documents that have one get tables "
        "of human gold, at most max_documents more of them. Name the file in data.gold_paths too.",
    )
    gold_levels: str | None = Field(
        None, description="Difficulty levels that people gave (JSON Lines of url, level), used likewise."
    )
    bootstrap_samples: int = Field(1000, ge=100, description="Resamples of documents per interval.")
    confidence: float = Field(0.95, gt=0.5, lt=1)
    unquantized: bool = Field(
        True, description="Generate with the candidate as it was before quantization too: what 4 bits cost."
    )
    rounded: bool = Field(
        False,
        description="Generate with the unquantized candidate rounded to nearest too, at the candidate's bits: what "
        "GPTQ is worth in digests. Written in full to scratch meanwhile; needs `unquantized`.",
    )
    untuned_base: bool = Field(True, description="Generate with the untuned base model too.")
    m1_without_m2: bool = Field(True, description="Generate with M1 too, asked as the untuned base is.")
    previous_release: bool = Field(
        True, description="Generate with the newest released model too that is another than the candidate."
    )
    bits_per_byte_documents: int = Field(
        8, gt=0, description="Test documents per language at most whose bits per byte are measured at every stage."
    )
    judge: JudgeSettings = Field(default_factory=lambda: JudgeSettings())


class ReleaseSettings(Section):
    """When a candidate becomes the release."""

    min_valid_json_rate: float = Field(1.0, ge=0, le=1)
    tolerance: float = Field(
        0.02,
        ge=0,
        description="How much worse a candidate may be: how far the interval of candidate minus release on the same "
        "documents may reach below 0; without such, how far a bound of its own interval may lie below the release's.",
    )
    fields: tuple[str, ...] = Field(("rougeL", "keyword_f1"), description="Metrics that are compared, per language.")
    max_quantization_loss: float = Field(
        0.05,
        ge=0,
        description="How much of a compared metric quantizing may cost: a candidate is refused whose interval of its "
        "difference from its unquantized self lies below minus this as a whole.",
    )
    max_difficulty_shift: float = Field(
        0.5,
        ge=0,
        description="Levels by which quantizing may shift the difficulty: a candidate is refused whose interval of the "
        "mean shift lies beyond this as a whole, up or down.",
    )
