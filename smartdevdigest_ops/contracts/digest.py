"""The digest: the one JSON object that the model answers with for a document."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

DifficultyLabel = Literal["beginner", "elementary", "intermediate", "advanced", "expert"]

# Upper bound (inclusive) of each label on the 1.0-5.0 scale; above the last bound: expert.
_LABEL_BOUNDS: tuple[tuple[float, DifficultyLabel], ...] = (
    (1.5, "beginner"),
    (2.5, "elementary"),
    (3.5, "intermediate"),
    (4.5, "advanced"),
)


def difficulty_label(score: float) -> DifficultyLabel:
    """Label of a difficulty score on the 1.0-5.0 scale.

    Raises:
        ValueError: the score lies outside 1.0-5.0.
    """
    if not 1.0 <= score <= 5.0:
        raise ValueError(f"difficulty score {score} lies outside 1.0-5.0")
    return next((label for bound, label in _LABEL_BOUNDS if score <= bound), "expert")


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Difficulty(_Strict):
    """How hard the document is to read."""

    score: float = Field(ge=1.0, le=5.0, description="1.0 (anyone) to 5.0 (expert), one decimal.")
    label: DifficultyLabel = Field(description="Name of the score's band.")

    @classmethod
    def of(cls, score: float) -> "Difficulty":
        """Difficulty with the score rounded to one decimal and its label."""
        rounded = round(score, 1)
        return cls(score=rounded, label=difficulty_label(rounded))

    @field_validator("score")
    @classmethod
    def _one_decimal(cls, score: float) -> float:
        if abs(score * 10 - round(score * 10)) > 1e-6:
            raise ValueError(f"must have one decimal, found {score}")
        return round(score, 1)

    @model_validator(mode="after")
    def _label_matches_score(self) -> "Difficulty":
        if self.label != difficulty_label(self.score):
            raise ValueError(
                f"label {self.label!r} is not that of score {self.score}: {difficulty_label(self.score)!r}"
            )
        return self


class Term(_Strict):
    """A technical term of the document and what it means there."""

    term: str = Field(min_length=1, description="As written in the document.")
    explanation: str = Field(min_length=1, description="One sentence in the document's language.")


class Digest(_Strict):
    """What the model answers for one document: exactly these keys."""

    summary: str = Field(min_length=1, description="Two or three sentences in the document's language.")
    keywords: list[str] = Field(description="Keywords as written in the document.")
    difficulty_level: Difficulty
    prerequisites: list[str] = Field(description="What a reader should know beforehand.")
    technical_terms: list[Term]
    processing_time: float = Field(ge=0.0, description="Seconds spent on this document.")
