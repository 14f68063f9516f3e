"""The digest of a long document from the readings of its parts.

Keywords, prerequisites and terms are ranked by how many parts name them, then by where they are named first, and kept
up to the caps of a single answer. A difficulty factor is the mean of the parts' expected digits, each part weighed by
its characters: a reader meets every part for as long as it is. Code counts in the parts that show some. The summary is
not merged: the model writes it from the parts' summaries (`summaries_as_document`), in the words of a digest as usual.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from smartdevdigest_ops.contracts.label import FACTOR_NAMES
from smartdevdigest_ops.digesting.answer import Reading, folded
from smartdevdigest_ops.settings import DigestingSettings

Item = TypeVar("Item")


def summaries_as_document(parts: Sequence[Reading]) -> str:
    """What the model is asked to digest for the summary of the whole: the parts' summaries, a paragraph each."""
    return "\n\n".join(part.summary for part in parts)


def merge_readings(
    parts: Sequence[Reading], num_characters: Sequence[int], summary: Reading, settings: DigestingSettings
) -> Reading:
    """The reading of a document.

    Args:
        parts: Of its parts, in order.
        num_characters: Characters of each part.
        summary: Of the parts' summaries; only what it says in its own summary counts.
        settings: Caps of the lists.
    """
    keywords = _ranked([part.keywords for part in parts], str)
    prerequisites = _ranked([part.prerequisites for part in parts], str)
    terms = _ranked([part.terms for part in parts], lambda term: term.term)
    return Reading(
        summary=summary.summary,
        keywords=tuple(keywords[: settings.max_keywords]),
        factors=merge_factors([part.factors for part in parts], num_characters),
        prerequisites=tuple(prerequisites[: settings.max_prerequisites]),
        terms=tuple(terms[: settings.max_terms]),
        num_cut=sum(part.num_cut for part in parts),
        num_repeated=sum(part.num_repeated for part in parts),
    )


def merge_factors(
    parts: Sequence[Mapping[str, float | None]], num_characters: Sequence[int]
) -> dict[str, float | None]:
    """Each factor's mean over the parts where it is not None, weighed by their characters.

    Parts that cover nothing (code whose first line is longer than the prompt) count alike where there are no others.
    """
    merged: dict[str, float | None] = {}
    for name in FACTOR_NAMES:
        pairs = [
            (value, characters)
            for part, characters in zip(parts, num_characters, strict=True)
            if (value := part[name]) is not None
        ]
        if not any(characters for _, characters in pairs):
            pairs = [(value, 1) for value, _ in pairs]
        total = sum(characters for _, characters in pairs)
        merged[name] = sum(value * characters for value, characters in pairs) / total if pairs else None
    return merged


def _ranked(lists: Sequence[Sequence[Item]], name: Callable[[Item], str]) -> list[Item]:
    first: dict[str, Item] = {}
    count: Counter[str] = Counter()
    for items in lists:
        for item in items:
            first.setdefault(folded(name(item)), item)
            count[folded(name(item))] += 1
    return [first[key] for key in sorted(first, key=lambda key: -count[key])]  # stable: ties stay in their order
