"""Pairs of summaries of which it is known which one is better: what the judge is judged by.

| kind | better | worse | asked |
|---|---|---|---|
| `foreign` | the gold summary | gold of another document of the language | faithfulness, coverage, preference |
| `altered_numbers` | the gold summary | itself with its numbers altered | faithfulness, preference |
| `truncated` | the candidate's summary | its first half | coverage, preference |

The answer must really be known. Numbers are altered that stand in the document, to ones that do not. A summary is
truncated only where that loses terms that the document says most often: half of a bad summary may be no worse. Where
gold itself is judged, the judge sees no reference, which would be the answer letter by letter.

Whatever is drawn is drawn by the seed and the URL: the pairs of a document do not depend on the other documents' order.
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from smartdevdigest_ops.evaluation.gold import TestDocument
from smartdevdigest_ops.evaluation.judge.judgement import Judgement, Preference, Rating
from smartdevdigest_ops.evaluation.metrics.faithfulness import Source, covered_terms, read_source
from smartdevdigest_ops.settings import JudgeSettings

KINDS = {
    "foreign": "Gold against gold of another document",
    "altered_numbers": "Gold against gold with altered numbers",
    "truncated": "The digest against its first half",
}
PREFERENCE = "preference"
_ASKED: Mapping[str, tuple[str, ...]] = {
    "foreign": ("faithfulness", "coverage", PREFERENCE),
    "altered_numbers": ("faithfulness", PREFERENCE),
    "truncated": ("coverage", PREFERENCE),
}
# Not inside a word, a version or an identifier: those of IPv6, H.264 and v1.2.3 are names.
_NUMBER = re.compile(r"(?<![A-Za-z0-9_.\-])\d+(?:,\d{3})*(?:\.\d+)?(?![A-Za-z0-9_]|[.,-]\d)")
_LEAST_WORDS = 8
_MOST_DRAWS = 100


@dataclass(frozen=True)
class KnownPair:
    """Two summaries of a document, the better one known."""

    kind: str
    document: TestDocument
    reference: str | None
    better: str
    worse: str
    asked: tuple[str, ...]
    """Dimensions, and PREFERENCE."""

    def ratings(self, dimension: str) -> tuple[Judgement, Judgement]:
        """Of the better one and of the worse one."""
        better, worse = (
            Rating(self.document, self.reference, dimension, summary) for summary in (self.better, self.worse)
        )
        return better, worse

    def preferences(self) -> tuple[Judgement, Judgement]:
        """With the better one first, and with it second."""
        return (
            Preference(self.document, self.reference, self.better, self.worse),
            Preference(self.document, self.reference, self.worse, self.better),
        )

    def judgements(self) -> list[Judgement]:
        """All that is put to the judge."""
        found: list[Judgement] = []
        for name in self.asked:
            found += self.preferences() if name == PREFERENCE else self.ratings(name)
        return found


def build_pairs(
    documents: Sequence[TestDocument], digests: Sequence[str | None], settings: JudgeSettings, seed: int
) -> list[KnownPair]:
    """The pairs that the documents give: `digests` are the candidate's summaries, None where there is none.

    Every document must have a gold summary.
    """
    pairs: list[KnownPair] = []
    for document, digest in zip(documents, digests, strict=True):
        gold = document.gold.summary or ""
        source = read_source(document.title, document.content, document.language)
        for kind, better, worse in (
            ("foreign", gold, _foreign_gold(document, documents, seed)),
            ("altered_numbers", gold, alter_numbers(gold, source, f"{seed} {document.url}")),
            ("truncated", digest, truncate(digest, source) if digest else None),
        ):
            asked = tuple(
                name
                for name in _ASKED[kind]
                if (settings.pairwise if name == PREFERENCE else name in settings.dimensions)
            )
            if better is not None and worse is not None and asked:
                reference = gold if kind == "truncated" else None
                pairs.append(KnownPair(kind, document, reference, better, worse, asked))
    return pairs


def _foreign_gold(document: TestDocument, documents: Sequence[TestDocument], seed: int) -> str | None:
    others = {
        other.url: other.gold.summary
        for other in documents
        if other.language == document.language
        and other.sampling_unit != document.sampling_unit
        and other.gold.summary != document.gold.summary
    }
    return others[random.Random(f"{seed} {document.url}").choice(sorted(others))] if others else None


def alter_numbers(summary: str, source: Source, seed: str) -> str | None:
    """The summary with each number that its document holds made into one that it does not; None where there is none."""
    random_source = random.Random(seed)
    altered: dict[str, str] = {}

    def alter(match: re.Match[str]) -> str:
        number = match[0]
        if number.replace(",", "") not in source.numbers:
            return number
        if number not in altered:
            altered[number] = _other_number(number, source, random_source)
        return altered[number]

    text = _NUMBER.sub(alter, summary)
    return text if altered else None


def _other_number(number: str, source: Source, random_source: random.Random) -> str:
    for _ in range(_MOST_DRAWS):
        drawn = re.sub(r"\d", lambda _: str(random_source.randint(1, 9)), number)
        if drawn != number and drawn.replace(",", "") not in source.numbers:
            return drawn
    # The document holds every number of so many digits.
    return str(random_source.randint(10**9, 10**10 - 1))


def truncate(summary: str, source: Source) -> str | None:
    """The first half of a summary's words; None where that loses none of the document's most frequent terms."""
    words = summary.split()
    half = " ".join(words[: len(words) // 2])
    if len(words) < _LEAST_WORDS or covered_terms(half, source)[0] >= covered_terms(summary, source)[0]:
        return None
    return half
