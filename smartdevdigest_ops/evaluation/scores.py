"""The metrics of one system's answers, as statistics that can be resampled.

A document without a valid answer scores 0 in overlap and keywords, and counts as the worst score in difficulty: a
system cannot gain by not answering. A document without gold for a metric is not part of that metric's `n`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from smartdevdigest_ops.evaluation.gold import TestDocument
from smartdevdigest_ops.evaluation.intervals import Bootstrap, Interval
from smartdevdigest_ops.evaluation.ordinal import kappa_resampled, spearman_resampled, worst_score
from smartdevdigest_ops.evaluation.overlap import KEYWORD_METRICS, keyword_scores, summary_scores
from smartdevdigest_ops.evaluation.systems import Answer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from smartdevdigest_ops.evaluation.intervals import Statistic


METRIC_TITLES = {
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "bleu": "BLEU",
    "chrf": "chrF",
    "keyword_f1": "Keyword F1",
    "keyword_f1_stemmed": "Keyword F1, stemmed",
    "difficulty_mae": "Difficulty MAE",
    "difficulty_within_half": "Difficulty within 0.5",
    "difficulty_spearman": "Difficulty Spearman",
    "difficulty_qwk": "Difficulty QWK",
    "valid_json_rate": "Valid JSON",
}
LOWER_IS_BETTER = frozenset({"difficulty_mae"})
_HALF = 0.5 + 1e-9  # scores have one decimal: 3.5 - 3.0 must not miss by a rounding


@dataclass(frozen=True)
class Metric:
    """One metric of one system on `n` documents."""

    n: int
    statistic: "Statistic"

    def interval(self, bootstrap: Bootstrap) -> Interval:
        """Its value and bounds."""
        return bootstrap.interval(self.n, self.statistic)

    def lead_over(self, other: "Metric", bootstrap: Bootstrap) -> Interval:
        """Value and bounds of this metric minus `other`'s, on the same resamples of the same documents."""
        return bootstrap.interval(self.n, lambda draws: self.statistic(draws) - other.statistic(draws))


def document_scores(document: TestDocument, answer: Answer) -> dict[str, float]:
    """Every metric that one document has by itself, by name."""
    gold, digest = document.gold, answer.digest or {}
    scores: dict[str, float] = {}
    if gold.summary is not None:
        scores |= summary_scores(gold.summary, digest.get("summary"), document.language)
    if gold.keywords is not None:
        scores |= (
            keyword_scores(gold.keywords, digest["keywords"], document.language)
            if digest
            else dict.fromkeys(KEYWORD_METRICS, 0.0)
        )
    if gold.difficulty is not None:
        error = abs(answered_difficulty(answer, gold.difficulty) - gold.difficulty)
        scores |= {"difficulty_mae": error, "difficulty_within_half": float(error <= _HALF)}
    return scores | {"valid_json_rate": float(answer.valid)}


def answered_difficulty(answer: Answer, gold: float) -> float:
    """The difficulty score answered; the worst possible one where there is no answer."""
    return float(answer.digest["difficulty_level"]["score"]) if answer.digest else worst_score(gold)


def system_metrics(documents: Sequence[TestDocument], answers: Sequence[Answer]) -> dict[str, Metric]:
    """Every metric that the documents' gold allows, by name, of one system on the documents of one language."""
    rows = [document_scores(document, answer) for document, answer in zip(documents, answers, strict=True)]
    metrics = {}
    for name in METRIC_TITLES:
        values = [row[name] for row in rows if name in row]
        if values:
            metrics[name] = Metric(len(values), _mean(values))
    pairs = [
        (document.gold.difficulty, answered_difficulty(answer, document.gold.difficulty))
        for document, answer in zip(documents, answers, strict=True)
        if document.gold.difficulty is not None
    ]
    if pairs:
        metrics |= _rank_metrics(pairs)
    return {name: metrics[name] for name in METRIC_TITLES if name in metrics}


def _mean(values: Sequence[float]) -> "Statistic":
    import numpy as np

    array = np.asarray(values, dtype=np.float64)

    def mean(draws: "NDArray[np.int64]") -> "NDArray[np.float64]":
        means: NDArray[np.float64] = array[draws].mean(1)
        return means

    return mean


def _rank_metrics(pairs: Sequence[tuple[float, float]]) -> dict[str, Metric]:
    import numpy as np

    gold, answered = (np.asarray(column, dtype=np.float64) for column in zip(*pairs, strict=True))
    return {
        "difficulty_spearman": Metric(len(pairs), lambda draws: spearman_resampled(gold, answered, draws)),
        "difficulty_qwk": Metric(len(pairs), lambda draws: kappa_resampled(gold, answered, draws)),
    }


def worst_documents(
    documents: Sequence[TestDocument], answers: Sequence[Answer], *, count: int, excerpt_characters: int = 900
) -> list[dict[str, Any]]:
    """The documents whose summaries share least with gold (ROUGE-L, then chrF), invalid answers first."""
    ranked = []
    for document, answer in zip(documents, answers, strict=True):
        scores = document_scores(document, answer)
        rank = (answer.valid, scores.get("rougeL", 0.0), scores.get("chrf", 0.0), -scores.get("difficulty_mae", 0.0))
        ranked.append((rank, document.url, document, answer, scores))
    ranked.sort(key=lambda entry: entry[:2])
    return [
        {
            "url": document.url,
            "language": document.language,
            "title": document.title,
            "excerpt": document.content[:excerpt_characters],
            "excerpt_is_cut": len(document.content) > excerpt_characters,
            "gold_summary": document.gold.summary,
            "gold_keywords": list(document.gold.keywords) if document.gold.keywords is not None else None,
            "gold_difficulty": document.gold.difficulty,
            "digest": answer.digest,
            "scores": {name: round(value, 6) for name, value in scores.items()},
        }
        for _, _, document, answer, scores in ranked[:count]
    ]
