"""The label: what a teacher says about a document, and what M2 learns to answer."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from smartdevdigest_ops.contracts.digest import Term
from smartdevdigest_ops.contracts.document import Language

# Order in which the model writes the factors. Fixed: digits are read at their position.
FACTOR_NAMES = ("technical_terms", "concept_complexity", "background_knowledge", "code_complexity")


def weighted_score(factors: Mapping[str, float | None], weights: Mapping[str, float] | None = None) -> float:
    """Weighted mean (None: all alike) of the factors that are not null, 1.0-5.0."""
    pairs = [
        (value, 1.0 if weights is None else weights[name])
        for name in FACTOR_NAMES
        if (value := factors[name]) is not None
    ]
    mean = sum(value * weight for value, weight in pairs) / sum(weight for _, weight in pairs)
    return min(5.0, max(1.0, mean))


class DifficultyFactors(BaseModel):
    """The rubric's four factors (data/sample/RUBRIC.md), each 1-5."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    technical_terms: int = Field(ge=1, le=5, description="Density of technical vocabulary.")
    concept_complexity: int = Field(ge=1, le=5, description="How involved the ideas are.")
    background_knowledge: int = Field(ge=1, le=5, description="What the reader must bring.")
    code_complexity: int | None = Field(ge=1, le=5, description="How hard the code is; null without code.")

    def score(self, weights: Mapping[str, float] | None = None) -> float:
        """Weighted mean (None: all alike) of the factors that are not null, to one decimal."""
        return round(weighted_score(self.model_dump(), weights), 1)


class Label(BaseModel):
    """One document's label. Extra keys of a label file are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    url: str = Field(min_length=1)
    language: Language
    summary: str = Field(min_length=1)
    keywords: list[str]
    difficulty_factors: DifficultyFactors
    prerequisites: list[str]
    technical_terms: list[Term]

    def answer(self) -> dict[str, Any]:
        """The JSON object that M2 is taught to write, in the key order of `digesting.grammar`."""
        return {
            "summary": self.summary,
            "keywords": self.keywords,
            "difficulty_factors": self.difficulty_factors.model_dump(),
            "prerequisites": self.prerequisites,
            "technical_terms": [term.model_dump() for term in self.technical_terms],
        }
