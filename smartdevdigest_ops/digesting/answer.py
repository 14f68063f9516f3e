"""From a generated answer to a digest: pieces that were cut off go, and keywords and terms are held to the text.

An Answer becomes a Reading (`read_answer`), the readings of a long document's parts become one (`digesting.merge`),
and a Reading becomes a Digest (`compose_digest`).
"""

import json
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from smartdevdigest_ops.contracts import Difficulty, Digest, Term
from smartdevdigest_ops.contracts.label import FACTOR_NAMES, weighted_score
from smartdevdigest_ops.digesting.grammar import HANGUL_FILLER
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


@dataclass(frozen=True)
class Reading:
    """What an answer says, without what was cut off or said twice; not held to the text yet."""

    summary: str
    keywords: tuple[str, ...]
    factors: Mapping[str, float | None]
    """Factor -> expected digit, 1.0-5.0; None for code in a document without."""
    prerequisites: tuple[str, ...]
    terms: tuple[Term, ...]
    num_cut: int = 0
    num_repeated: int = 0


def read_answer(answer: Answer, settings: DigestingSettings) -> Reading:
    """What an answer says."""
    raw: dict[str, Any] = json.loads(answer.text)
    cut = answer.cut_fields
    keywords, cut_keywords = whole_items(raw["keywords"], "keywords" in cut, settings.max_keyword_characters)
    prerequisites, cut_prerequisites = whole_items(
        raw["prerequisites"], "prerequisites" in cut, settings.max_prerequisite_characters
    )
    terms = raw["technical_terms"][: -1 if "technical_terms" in cut else None]
    names, cut_terms = whole_items([term["term"] for term in terms], False, settings.max_keyword_characters)
    explanations = {
        folded(term["term"]): whole_prose(term["explanation"], settings.max_explanation_characters, cut=False)
        for term in reversed(terms)  # the first explanation of a term counts
    }
    unique_keywords, unique_prerequisites, unique_names = (_unique(items) for items in (keywords, prerequisites, names))
    return Reading(
        summary=whole_prose(raw["summary"], settings.max_summary_characters, cut="summary" in cut),
        keywords=tuple(unique_keywords),
        factors=expected_digits(answer),
        prerequisites=tuple(unique_prerequisites),
        terms=tuple(Term(term=name, explanation=explanations[folded(name)]) for name in unique_names),
        num_cut=cut_keywords + cut_prerequisites + cut_terms + ("technical_terms" in cut),
        num_repeated=sum(map(len, (keywords, prerequisites, names)))
        - sum(map(len, (unique_keywords, unique_prerequisites, unique_names))),
    )


def compose_digest(
    reading: Reading,
    *,
    title: str | None,
    content: str,
    settings: DigestingSettings,
    seconds: float,
    calibrate: Callable[[float], float] | None = None,
) -> tuple[Digest, Corrections]:
    """Digest of a document, and what was left out of the answer.

    The difficulty is the mean of the factors by `settings.factor_weights`, then what `calibrate` makes of it.
    """
    text = folded(f"{title or ''}\n{content}")
    keywords = [keyword for keyword in reading.keywords if folded(keyword) in text]
    terms = [term for term in reading.terms if folded(term.term) in text]
    score = weighted_score(reading.factors, settings.factor_weights.model_dump())
    digest = Digest(
        summary=reading.summary,
        keywords=keywords,
        difficulty_level=Difficulty.of(calibrate(score) if calibrate else score),
        prerequisites=list(reading.prerequisites),
        technical_terms=terms,
        processing_time=round(seconds, 3),
    )
    num_missing = len(reading.keywords) + len(reading.terms) - len(keywords) - len(terms)
    return digest, Corrections(reading.num_cut, reading.num_repeated, num_missing)


def expected_digits(answer: Answer) -> dict[str, float | None]:
    """Each factor's expected digit, 1.0-5.0; None where the answer has none. The answer may end behind the factors."""
    expected: dict[str, float | None] = dict.fromkeys(FACTOR_NAMES)
    for name, probabilities in answer.factor_digits.items():
        expected[name] = sum(digit * probability for digit, probability in enumerate(probabilities, 1))
    return expected


def folded(text: str) -> str:
    """The text as it is compared: width, case and white space do not count."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def whole_items(items: list[str], last_is_cut: bool, max_characters: int) -> tuple[list[str], int]:
    """Items that were not cut off, trimmed, and how many were. One as long as the cap was ended by it."""
    whole = [item.strip() for item in items[: -1 if last_is_cut else None] if len(item) < max_characters]
    return whole, len(items) - len(whole)


def whole_prose(text: str, max_characters: int, *, cut: bool) -> str:
    """The text up to its last whole sentence if it was cut off or loops; with an ellipsis if no sentence is whole."""
    text = text.removesuffix(HANGUL_FILLER)
    if loops(text):
        text = text[:-LOOP_CHARACTERS]
    elif not cut and len(text) < max_characters:
        return text.strip()
    ends = [match.end() for match in SENTENCE_END.finditer(text)]
    return text[: ends[-1]].strip() if ends else f"{text.strip()}…"


def _unique(items: list[str]) -> list[str]:
    first: dict[str, str] = {}
    for item in items:
        first.setdefault(folded(item), item)
    return list(first.values())
