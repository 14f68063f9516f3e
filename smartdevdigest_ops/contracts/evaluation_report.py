"""report.json of an evaluation: what was measured of every system, with intervals."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Interval(_Part):
    """A figure with the bounds of its bootstrap interval; all null where the statistic is undefined."""

    mean: float | None
    low: float | None
    high: float | None
    n: int = Field(ge=0, description="Documents (or pairs of them) that it is a figure of.")


class Difference(Interval):
    """Candidate minus another system, on the same documents."""

    p: float | None = Field(None, description="Two-sided paired randomisation test.")
    p_holm: float | None = Field(None, description="p, corrected for the metrics of one language and other system.")


Language = Annotated[str, Field(description="ko or en")]
System = Annotated[str, Field(description="A key of `systems`.")]
Metric = Annotated[str, Field(description="A key of `metrics`.")]


class Tables(_Part):
    """What was measured against gold of one origin."""

    languages: dict[Language, dict[System, dict[Metric, Interval]]]
    comparisons: dict[Language, dict[System, dict[Metric, Difference]]] = Field(
        description="The candidate minus each other system."
    )
    num_documents: dict[Language, int]
    num_clusters: dict[Language, int] = Field(
        description="What is drawn as one in resamples: documents, or clusters of near-duplicates."
    )


class Generation(BaseModel):
    """How one system's answers were generated; further keys count what was left out of them, by reason."""

    model_config = ConfigDict(extra="allow")

    num_documents: int
    num_valid: int
    refused: dict[str, int] = Field(description="Documents without a digest, by reason.")
    truncated_documents: int = Field(description="Documents that the prompts did not hold whole.")
    mean_covered_share: float | None
    answers_with_cut_items: int
    num_new_tokens: int
    new_tokens_per_document: float


class CalibrationRow(_Part):
    """Documents that were answered with one level."""

    level: int = Field(ge=1, le=5)
    answered: float = Field(description="Mean of the answered scores.")
    gold: Interval


class QuantizationDelta(_Part):
    """A quantized model beside itself before quantization."""

    difficulty_shift: Interval
    difficulty_distance: Interval
    same_summary: Interval


class CurvePoint(_Part):
    """One point of a training's curve."""

    step: int
    loss: float = Field(description="Nats per token.")
    held_out_loss: float | None = None


class WorstDigest(_Part):
    """One of the candidate's worst digests, beside its document and gold."""

    url: str
    language: str
    title: str | None
    excerpt: str
    excerpt_is_cut: bool
    gold_origin: str
    gold_summary: str | None
    gold_keywords: list[str] | None
    gold_terms: list[str] | None
    gold_difficulty: float | None
    digest: dict[str, Any] | None
    scores: dict[Metric, float]


class BootstrapSettings(_Part):
    """How intervals were drawn."""

    samples: int
    confidence: float
    seed: int


class Leak(_Part):
    """A test document, and where in training it was found."""

    url: str
    train_url: str


class JudgeNotRun(_Part):
    """Nothing was judged."""

    not_run: str = Field(description="Why.")


class KnownAnswersOfKind(_Part):
    """Accuracy on pairs whose worse summary was spoilt in one way."""

    total: Interval
    tests: dict[str, Interval] = Field(description="By dimension, and of the preference.")
    num_pairs: int


class KnownAnswers(_Part):
    """How often the judge was right about pairs with a known answer."""

    total: Interval
    languages: dict[Language, Interval]
    kinds: dict[str, KnownAnswersOfKind]
    position_bias: Interval = Field(description="Share of pairs whose verdict followed the place, not the summary.")


class Wins(_Part):
    """The candidate beside another system, both orders asked."""

    win_rate: Interval = Field(description="A tie, where the two orders do not agree, counts half.")
    wins: int
    ties: int
    losses: int


class Judged(_Part):
    """What a model said of the summaries, and how far it can be believed."""

    name: str
    teacher: str = Field(description="openai: behind an endpoint; local: on this machine.")
    origin: str
    reliable: bool = Field(description="Whether its accuracy on known answers reaches min_accuracy.")
    known_answers: KnownAnswers
    scores: dict[Language, dict[System, dict[str, Interval]]] = Field(description="By dimension, 1-5.")
    wins: dict[Language, dict[System, Wins]]
    dimensions: list[str]
    min_accuracy: float
    repeats: int
    num_documents: dict[Language, int]
    readings: dict[str, int] = Field(description="Questions, by how their value was read.")
    usage: dict[str, Any] = Field(description="Replies, tokens and cost of all answers that are used here.")


class EvaluationReport(Tables):
    """What systems answered, against gold."""

    origin: str = Field(description="Who said the gold of the tables of this level: teacher or human.")
    other_origins: dict[str, Tables] = Field(
        description="The same of documents with gold of another origin; one with both is in both."
    )
    valid_json_rate: dict[System, Interval] = Field(description="Of the systems that generate, all languages.")
    generation: dict[System, Generation]
    difficulty_confusion: dict[Language, list[list[int]]] = Field(
        description="Documents by gold level (rows) and the candidate's level (columns)."
    )
    difficulty_calibration: dict[Language, list[CalibrationRow]] = Field(description="Of the candidate.")
    difficulty_factors: dict[Language, dict[System, dict[str, dict[str, Interval]]]] = Field(
        description="Factor -> metric -> figure, before calibration."
    )
    quantization: dict[Language, dict[System, QuantizationDelta]] = Field(
        description="Of the candidate, and of rounding to nearest."
    )
    systems: dict[System, str] = Field(description="Titles, in the order of the report.")
    systems_not_run: dict[System, str] = Field(description="Why.")
    metrics: dict[Metric, str] = Field(description="Titles, in the order of the report.")
    small_sample_warnings: list[str]
    verdict: str = Field(description="What a reader should take away, a sentence a line.")
    worst_digests: list[WorstDigest]
    bootstrap: BootstrapSettings
    judge: JudgeNotRun | Judged
    bits_per_byte: dict[str, dict[Language, Interval]] = Field(description="By model on the way to the candidate.")
    training_curves: dict[str, list[CurvePoint]] = Field(description="By asset.")
    coverage: dict[str, int] = Field(description="What was left out, by reason.")
    baselines_fitted_on: str
    leakage: dict[str, list[Leak]] | None = Field(
        description="By kind, those that were looked for; null where no training data was at hand."
    )
