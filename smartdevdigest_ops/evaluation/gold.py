"""Documents to evaluate on, with what a person or the teacher said of each.

Difficulty levels in gold files become scores on the 1.0-5.0 scale:

| level | the file uses elementary or expert | the file uses only these three | a number |
|---|---|---|---|
| beginner | 1.0 | 1.7 | as it is, 1-5 |
| elementary | 2.0 | | |
| intermediate | 3.0 | 3.0 | |
| advanced | 4.0 | 4.3 | |
| expert | 5.0 | | |

Five names are the contract's levels 1-5. Three names are a coarser scale that covers the same range: each stands for
the middle of its third (1.67, 3, 4.33). Which one a file uses is decided by the whole file, never line by line.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from smartdevdigest_ops.artifacts import content_hash
from smartdevdigest_ops.contracts import Label
from smartdevdigest_ops.evaluation.errors import EvaluationError

FIVE_LEVELS = {"beginner": 1.0, "elementary": 2.0, "intermediate": 3.0, "advanced": 4.0, "expert": 5.0}
THREE_LEVELS = {"beginner": 1.7, "intermediate": 3.0, "advanced": 4.3}


Origin = Literal["teacher", "human"]
TEACHER: Origin = "teacher"
HUMAN: Origin = "human"


@dataclass(frozen=True)
class Gold:
    """What is known of a document; None where nobody said."""

    summary: str | None = None
    keywords: tuple[str, ...] | None = None
    difficulty: float | None = None
    terms: tuple[str, ...] | None = None
    factors: Mapping[str, float | None] | None = None
    """Difficulty factor -> 1-5; None for code in a document without."""
    origin: Origin = HUMAN
    """Who said it: agreeing with the teacher that a model learned from is not being right."""


@dataclass(frozen=True)
class TestDocument:
    """A document to digest, and its gold."""

    __test__ = False  # not a test class, whatever its name says to pytest

    url: str
    language: str
    title: str | None
    content: str
    gold: Gold
    cluster: str | None = None
    """Near-duplicates and translations of it have the same; None: nothing is known, it stands alone."""
    other_gold: Gold | None = None
    """What somebody of another origin said of it too."""

    @property
    def golds(self) -> tuple[Gold, ...]:
        """All that was said of it."""
        return (self.gold,) if self.other_gold is None else (self.gold, self.other_gold)

    @property
    def sampling_unit(self) -> str:
        """What is drawn as one in resamples."""
        return self.cluster or self.url


def origins(documents: Sequence[TestDocument]) -> list[Origin]:
    """Who said the gold of the documents; the teacher first, whose gold has every field."""
    found = {gold.origin for document in documents for gold in document.golds}
    return [origin for origin in (TEACHER, HUMAN) if origin in found]


def seen_by(documents: Sequence[TestDocument], origin: Origin) -> dict[int, TestDocument]:
    """Index -> the document with its gold of this origin alone, of those that have such."""
    return {
        index: replace(document, gold=gold, other_gold=None)
        for index, document in enumerate(documents)
        for gold in document.golds
        if gold.origin == origin
    }


def gold_of_label(label: Label, factor_weights: Mapping[str, float] | None = None) -> Gold:
    """Gold that a teacher's label gives; its difficulty factors are weighed as the digests' are."""
    return Gold(
        label.summary,
        tuple(label.keywords),
        label.difficulty_factors.score(factor_weights),
        tuple(term.term for term in label.technical_terms),
        label.difficulty_factors.model_dump(),
        TEACHER,
    )


def choose_documents(
    rows: Sequence[Mapping[str, Any]],
    max_documents: int,
    factor_weights: Mapping[str, float] | None = None,
    clusters: Mapping[str, str] | None = None,
) -> list[TestDocument]:
    """At most `max_documents` rows of labeled_pairs, half per language, the lowest URL hashes first.

    `clusters`: URL -> near-duplicate cluster in the corpus. A hash draws alike on every machine, and a document once
    drawn stays so as the corpus grows around it.

    Raises:
        EvaluationError: there is no row.
    """
    if not rows:
        raise EvaluationError(
            "labeled_pairs: the test split holds no document, so nothing can be measured and no model released. "
            "Add labels for documents of the test split, or raise corpus.test_share."
        )
    return [
        TestDocument(
            row["url"], row["language"], row["title"], row["content"],
            gold_of_label(Label.model_validate_json(row["label"]), factor_weights), (clusters or {}).get(row["url"]),
        )
        for row in draw_rows(rows, max_documents)
    ]  # fmt: skip


def draw_rows(rows: Sequence[Mapping[str, Any]], max_documents: int) -> list[Mapping[str, Any]]:
    """At most `max_documents` rows, half per language, the lowest URL hashes first."""
    languages = sorted({row["language"] for row in rows})
    share = max(1, max_documents // max(1, len(languages)))
    drawn: list[Mapping[str, Any]] = []
    for language in languages:
        of_language = [row for row in rows if row["language"] == language]
        drawn += sorted(of_language, key=lambda row: content_hash(row["url"]))[:share]
    return drawn


def read_gold_summaries(path: Path) -> dict[str, str]:
    """URL -> summary of a JSON Lines file of `{"url", "summary"}`.

    Raises:
        EvaluationError: a line is something else.
    """
    summaries = {}
    for number, record in _read_lines(path):
        summary = record.get("summary")
        if not isinstance(summary, str) or not summary.strip():
            raise EvaluationError(
                f"{path}, line {number}: summary must be a text that is not blank, found {summary!r}. "
                "Nothing was evaluated; correct or remove the line."
            )
        summaries[record["url"]] = summary
    return summaries


def read_gold_difficulty(path: Path) -> dict[str, float]:
    """URL -> score 1.0-5.0 of a JSON Lines file of `{"url", "level"}`; see the module's table.

    Raises:
        EvaluationError: a line is something else.
    """
    found = {number: (record["url"], record.get("level")) for number, record in _read_lines(path)}
    names = {level.strip().lower() for _, level in found.values() if isinstance(level, str)}
    scale = THREE_LEVELS if names <= set(THREE_LEVELS) else FIVE_LEVELS
    scores = {}
    for number, (url, level) in found.items():
        score = scale.get(level.strip().lower()) if isinstance(level, str) else level
        if isinstance(score, bool) or not isinstance(score, int | float) or not 1 <= score <= 5:
            raise EvaluationError(
                f"{path}, line {number}: level must be one of {', '.join(FIVE_LEVELS)} or a number from 1 to 5, found "
                f"{level!r}. Nothing was evaluated; correct or remove the line."
            )
        scores[url] = float(score)
    return scores


def _strings(record: object) -> str:
    return "".join(value for value in record.values() if isinstance(value, str)) if isinstance(record, dict) else ""


def _read_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationError(f"{path} could not be read as UTF-8 JSON Lines: {error}") from None
    lines_of_urls: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise EvaluationError(f"{path}, line {number}: not JSON ({error}). Nothing was evaluated.") from None
        if any("\ud800" <= character <= "\udfff" for character in _strings(record)):
            raise EvaluationError(
                f"{path}, line {number}: holds half a surrogate pair, which is no text. Nothing was evaluated; write "
                "the file as UTF-8."
            )
        if not isinstance(record, dict) or not isinstance(record.get("url"), str):
            raise EvaluationError(f"{path}, line {number}: must be an object with a url, found {line[:80]}")
        if record["url"] in lines_of_urls:
            raise EvaluationError(
                f"{path}, line {number}: {record['url']} was on line {lines_of_urls[record['url']]} already, and it is "
                "unknown which of the two is meant. Nothing was evaluated; remove one."
            )
        lines_of_urls[record["url"]] = number
        yield number, record


def attach_gold(
    documents: Sequence[TestDocument], summaries: Mapping[str, str], difficulty: Mapping[str, float]
) -> list[TestDocument]:
    """The documents that have gold of either kind, with it."""
    return [
        replace(document, gold=Gold(summaries.get(document.url), None, difficulty.get(document.url)))
        for document in documents
        if document.url in summaries or document.url in difficulty
    ]
