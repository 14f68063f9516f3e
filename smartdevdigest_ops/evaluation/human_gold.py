"""Gold of people for test documents of the corpus, from the files that `evaluation` names.

A page is looked up by its canonical URL, as its recorded label is. A document that the teacher labelled too keeps both
golds: it stands in the tables of either, and every system answers it once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from smartdevdigest_ops.corpus.url import UrlError, canonical_url
from smartdevdigest_ops.evaluation.errors import EvaluationError
from smartdevdigest_ops.evaluation.gold import (
    Gold,
    TestDocument,
    choose_documents,
    draw_rows,
    read_gold_difficulty,
    read_gold_summaries,
)
from smartdevdigest_ops.settings import Settings, resolve_path

Value = TypeVar("Value")
Rows = Sequence[Mapping[str, Any]]


def gold_files(settings: Settings) -> list[Path]:
    """The files of `evaluation.gold_summaries` and `evaluation.gold_levels`, as far as they are set."""
    evaluation = settings.evaluation
    return [resolve_path(path) for path in (evaluation.gold_summaries, evaluation.gold_levels) if path]


@dataclass(frozen=True)
class HumanGold:
    """What people said, by canonical URL."""

    summaries: Mapping[str, str] = field(default_factory=dict)
    levels: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of_settings(cls, settings: Settings) -> "HumanGold":
        """That of the files of the settings; none where none are set.

        Raises:
            EvaluationError: a line of them is no gold, or one page is named twice.
        """
        summaries, levels = (
            resolve_path(path) if path else None
            for path in (settings.evaluation.gold_summaries, settings.evaluation.gold_levels)
        )
        return cls(
            _by_page(summaries, read_gold_summaries(summaries)) if summaries else {},
            _by_page(levels, read_gold_difficulty(levels)) if levels else {},
        )

    def of(self, url: str) -> Gold | None:
        """What people said of a page; None where nobody did."""
        summary, level = self.summaries.get(_page(url)), self.levels.get(_page(url))
        return None if summary is None and level is None else Gold(summary, None, level)


def _page(url: str) -> str:
    try:
        return canonical_url(url)
    except UrlError:
        return url  # it names no page of a corpus, and is counted as such


def _by_page(path: Path, values: Mapping[str, Value]) -> dict[str, Value]:
    pages: dict[str, Value] = {}
    spelled: dict[str, str] = {}
    for url, value in values.items():
        if (first := spelled.setdefault(_page(url), url)) != url:
            raise EvaluationError(
                f"{path}: {first} and {url} are one page, and it is unknown which of the two lines is meant. Nothing "
                "was evaluated; remove one."
            )
        pages[_page(url)] = value
    return pages


def choose_with_human_gold(
    labelled_rows: Rows,
    corpus_rows: Rows,
    human: HumanGold,
    max_documents: int,
    factor_weights: Mapping[str, float] | None = None,
) -> tuple[list[TestDocument], dict[str, int]]:
    """The test documents of a report, and what of the gold of people was left out and why.

    `choose_documents` of `labelled_rows` (test split of labeled_pairs), with the gold that people gave to them; then
    at most `max_documents` other `corpus_rows` (test split of the snapshot) that people gave gold to, drawn in the
    same way.

    Raises:
        EvaluationError: no test document has gold.
    """
    clusters = {row["url"]: row["cluster"] for row in corpus_rows if row.get("cluster")}
    of_people = [row for row in corpus_rows if human.of(row["url"])]
    documents = (
        choose_documents(labelled_rows, max_documents, factor_weights, clusters)
        if labelled_rows or not of_people
        else []
    )
    if not (human.summaries or human.levels):
        return documents, {}
    documents = [replace(document, other_gold=human.of(document.url)) for document in documents]
    chosen = {_page(document.url) for document in documents}
    others = [row for row in of_people if _page(row["url"]) not in chosen]
    drawn = draw_rows(others, max_documents)
    for row in drawn:
        gold = human.of(row["url"]) or Gold()
        documents.append(
            TestDocument(row["url"], row["language"], row["title"], row["content"], gold, row.get("cluster"))
        )
    found = chosen | {_page(row["url"]) for row in of_people}
    return documents, {
        "gold summaries without a test document": len(human.summaries.keys() - found),
        "gold levels without a test document": len(human.levels.keys() - found),
        "test documents with human gold beyond max_documents": len(others) - len(drawn),
    }
