"""Difficulty of the labelled validation documents by a model, and the calibration that follows from it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smartdevdigest_ops.artifacts import content_hash
from smartdevdigest_ops.contracts import Label
from smartdevdigest_ops.digesting.calibration import DifficultyCalibration, fit_calibration
from smartdevdigest_ops.digesting.model import Digester
from smartdevdigest_ops.journal import read_journal


@dataclass(frozen=True)
class LabelledDocument:
    """A document, and the difficulty that its label gives it."""

    url: str
    language: str
    title: str | None
    content: str
    difficulty: float


def choose_labelled(
    rows: Sequence[Mapping[str, Any]], max_documents: int, factor_weights: Mapping[str, float]
) -> list[LabelledDocument]:
    """At most `max_documents` rows of labeled_pairs, half per language, the lowest URL hashes first."""
    languages = sorted({row["language"] for row in rows})
    chosen = []
    for language in languages:
        of_language = sorted(
            (row for row in rows if row["language"] == language), key=lambda row: content_hash(row["url"])
        )
        for row in of_language[: max_documents // len(languages)]:
            score = Label.model_validate_json(row["label"]).difficulty_factors.score(factor_weights)
            chosen.append(LabelledDocument(row["url"], language, row["title"], row["content"], score))
    return chosen


def calibrate_difficulty(
    digester: Digester, documents: Sequence[LabelledDocument], *, journal: Path
) -> DifficultyCalibration:
    """Calibration of the digester's scores; those that `journal` holds are not computed again.

    A document that cannot be read counts for nothing. None may be of the test split.
    """
    scores: dict[str, float] = _read_journal(journal)
    with journal.open("a", encoding="utf-8") as stream:
        for indices in digester.plan_batches(documents):
            if scores.keys() >= {documents[index].url for index in indices}:
                continue
            found = digester.read_difficulty(documents, indices)
            # 4 digits: what is fitted must not depend on the last bits of a batch.
            made = {documents[index].url: round(score, 4) for index, score in found.items()}
            stream.write(json.dumps(made, ensure_ascii=False) + "\n")
            stream.flush()
            scores |= made
    by_language: dict[str, list[tuple[float, float]]] = {}
    for document in documents:
        if document.url in scores:
            by_language.setdefault(document.language, []).append((scores[document.url], document.difficulty))
    return fit_calibration(by_language)


def _read_journal(journal: Path) -> dict[str, float]:
    scores: dict[str, float] = {}
    for line in read_journal(journal):
        scores |= json.loads(line)
    return scores
