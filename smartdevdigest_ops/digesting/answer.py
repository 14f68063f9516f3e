"""From a generated answer to a digest: pieces that were cut off go, and keywords and terms are held to the text."""

import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from smartdevdigest_ops.contracts import Difficulty, Digest, Term
from smartdevdigest_ops.contracts.label import FACTOR_NAMES
from smartdevdigest_ops.digesting.sections import SENTENCE_END
from smartdevdigest_ops.digesting.writer import LOOP_CHARACTERS, Answer, loops
from smartdevdigest_ops.settings import DigestingSettings


@dataclass(frozen=True)
class Corrections:
    """What was left out of an answer, by reason."""

    cut_items: int = 0
    """List items that a cap or the token budget ended."""
    repeated_items: int = 0
    """Keywords, prerequisites and terms that were there already."""
    items_not_in_text: int = 0
    """Keywords and terms that the document does not contain."""


def make_digest(
    answer: Answer, *, title: str | None, content: str, settings: DigestingSettings, seconds: float
) -> tuple[Digest, dict[str, Any], Corrections]:
    """Digest, the answer as it was generated, and what was left out of the one against the other.

    The difficulty score is the mean over the factors that are not null of the digits' expected value.
    """
    raw: dict[str, Any] = json.loads(answer.text)
    cut = answer.cut_fields
    keywords, cut_keywords = whole_items(raw["keywords"], "keywords" in cut, settings.max_keyword_characters)
    prerequisites, cut_prerequisites = whole_items(
        raw["prerequisites"], "prerequisites" in cut, settings.max_prerequisite_characters
    )
    terms = raw["technical_terms"][: -1 if "technical_terms" in cut else None]
    names, cut_terms = whole_items([term["term"] for term in terms], False, settings.max_keyword_characters)
    explanations = {
        _folded(term["term"]): whole_prose(term["explanation"], settings.max_explanation_characters, cut=False)
        for term in reversed(terms)  # the first explanation of a term counts
    }
    unique_keywords, unique_prerequisites, unique_names = (_unique(items) for items in (keywords, prerequisites, names))
    text = _folded(f"{title or ''}\n{content}")
    kept_keywords, kept_names = ([i for i in items if _folded(i) in text] for items in (unique_keywords, unique_names))
    digest = Digest(
        summary=whole_prose(raw["summary"], settings.max_summary_characters, cut="summary" in cut),
        keywords=kept_keywords,
        difficulty_level=Difficulty.of(difficulty_score(raw["difficulty_factors"], answer.factor_digits)),
        prerequisites=unique_prerequisites,
        technical_terms=[Term(term=name, explanation=explanations[_folded(name)]) for name in kept_names],
        processing_time=round(seconds, 3),
    )
    corrections = Corrections(
        cut_items=cut_keywords + cut_prerequisites + cut_terms + ("technical_terms" in cut),
        repeated_items=sum(map(len, (keywords, prerequisites, names)))
        - sum(map(len, (unique_keywords, unique_prerequisites, unique_names))),
        items_not_in_text=len(unique_keywords) + len(unique_names) - len(kept_keywords) - len(kept_names),
    )
    return digest, raw, corrections


def difficulty_score(factors: Mapping[str, int | None], factor_digits: Mapping[str, Sequence[float]]) -> float:
    """Mean of the factors' expected digits, 1.0-5.0; a factor without probabilities counts with its digit."""
    values = []
    for name in FACTOR_NAMES:
        digit = factors[name]
        if digit is not None:
            probabilities = factor_digits.get(name)
            expected = sum(d * p for d, p in enumerate(probabilities, 1)) if probabilities else float(digit)
            values.append(expected)
    return min(5.0, max(1.0, sum(values) / len(values)))


def whole_items(items: list[str], last_is_cut: bool, max_characters: int) -> tuple[list[str], int]:
    """Items that were not cut off, trimmed, and how many were. One as long as the cap was ended by it."""
    whole = [item.strip() for item in items[: -1 if last_is_cut else None] if len(item) < max_characters]
    return whole, len(items) - len(whole)


def whole_prose(text: str, max_characters: int, *, cut: bool) -> str:
    """The text up to its last whole sentence if it was cut off or loops; with an ellipsis if no sentence is whole."""
    if loops(text):
        text = text[:-LOOP_CHARACTERS]
    elif not cut and len(text) < max_characters:
        return text.strip()
    ends = [match.end() for match in SENTENCE_END.finditer(text)]
    return text[: ends[-1]].strip() if ends else f"{text.strip()}…"


def _unique(items: list[str]) -> list[str]:
    first: dict[str, str] = {}
    for item in items:
        first.setdefault(_folded(item), item)
    return list(first.values())


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
