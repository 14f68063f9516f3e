"""The metrics of one system's answers, as statistics that can be resampled.

A document without a valid answer scores 0 in overlap and keywords, and counts as the worst score in difficulty: a
system cannot gain by not answering. It says nothing that could be unsupported, so shares of what was said leave it
out. A document without gold for a metric is not part of that metric's `n`, and neither is a system that does not answer
with the field (a baseline that only summarises).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from smartdevdigest_ops.contracts.label import FACTOR_NAMES
from smartdevdigest_ops.corpus.language import is_korean
from smartdevdigest_ops.evaluation.gold import TestDocument
from smartdevdigest_ops.evaluation.metrics.faithfulness import (
    FACT_KINDS,
    absent_items,
    copied_runs,
    covered_terms,
    read_source,
    unsupported_facts,
)
from smartdevdigest_ops.evaluation.metrics.names import METRICS
from smartdevdigest_ops.evaluation.metrics.overlap import list_scores, summary_scores
from smartdevdigest_ops.evaluation.statistics.ordinal import worst_score
from smartdevdigest_ops.evaluation.statistics.statistic import Metric, mean_metric, rank_metrics, ratio_metric
from smartdevdigest_ops.evaluation.systems import Answer

_HALF = 0.5 + 1e-9  # scores have one decimal: 3.5 - 3.0 must not miss by a rounding
_NOTHING = (0, 0)

Counts = dict[str, tuple[float, float]]


def document_scores(document: TestDocument, answer: Answer) -> dict[str, float]:
    """Every metric that one document has by itself, by name: those against gold, and the form."""
    gold, digest = document.gold, answer.digest
    scores: dict[str, float] = {}
    if gold.summary is not None and answer.has("summary"):
        scores |= summary_scores(gold.summary, digest["summary"] if digest else None, document.language)
    for name, of_gold, key in (("keyword", gold.keywords, "keywords"), ("term", gold.terms, "technical_terms")):
        if of_gold is None or not answer.has(key):
            continue
        scores |= (
            list_scores(name, of_gold, _items(digest, key), document.language)
            if digest
            else {f"{name}_f1": 0.0, f"{name}_f1_stemmed": 0.0}
        )
    if gold.difficulty is not None and answer.has("difficulty_level"):
        error = abs(answered_difficulty(answer, gold.difficulty) - gold.difficulty)
        scores |= {"difficulty_mae": error, "difficulty_within_half": float(error <= _HALF)}
    return scores | {"valid_json_rate": float(answer.valid)}


def document_counts(document: TestDocument, answer: Answer) -> Counts:
    """Metric -> (what counts, of how many) of one document: ratios of sums, such as unsupported names to names."""
    digest, language = answer.digest or {}, document.language
    source = read_source(document.title, document.content, language)
    counts: Counts = {}
    if answer.has("summary"):
        summary = digest.get("summary", "")
        facts = unsupported_facts(summary, source, language) if summary else dict.fromkeys(FACT_KINDS, _NOTHING)
        covered, num_terms = covered_terms(summary, source)
        counts |= {f"unsupported_{kind}": found for kind, found in facts.items()} | {
            "source_term_coverage": (covered, num_terms),
            "compression": (len(summary), len(document.content)) if summary else _NOTHING,
            "copy_rate": copied_runs(summary, source, language) if summary else _NOTHING,
            "language_match": (is_korean(summary) == (language == "ko"), 1) if summary else _NOTHING,
        }
    for name, key in (("absent_keywords", "keywords"), ("absent_terms", "technical_terms")):
        if answer.has(key):
            counts[name] = absent_items(_items(digest, key), source)
    return counts


def _items(digest: Mapping[str, Any] | None, key: str) -> list[str]:
    items = (digest or {}).get(key, [])
    return [item["term"] for item in items] if key == "technical_terms" else list(items)


def answered_difficulty(answer: Answer, gold: float) -> float:
    """The difficulty score answered; the worst possible one where there is no answer."""
    return float(answer.digest["difficulty_level"]["score"]) if answer.digest else worst_score(gold)


def system_metrics(documents: Sequence[TestDocument], answers: Sequence[Answer]) -> dict[str, Metric]:
    """Every metric that gold and answers allow, by name, of one system on the documents of one language."""
    pairs = list(zip(documents, answers, strict=True))
    units = [document.sampling_unit for document in documents]
    scores = [document_scores(document, answer) for document, answer in pairs]
    counts = [document_counts(document, answer) for document, answer in pairs]
    metrics: dict[str, Metric] = {}
    for name in METRICS:
        if found := [(row[name], unit) for row, unit in zip(scores, units, strict=True) if name in row]:
            metrics[name] = mean_metric(*zip(*found, strict=True))
        elif shares := [(*row[name], unit) for row, unit in zip(counts, units, strict=True) if name in row]:
            metrics[name] = ratio_metric(*zip(*shares, strict=True))
    if rated := rated_documents(documents, answers):
        gold, answered, of_rated = zip(*rated, strict=True)
        ranked = rank_metrics(gold, answered, of_rated)
        metrics |= {f"difficulty_{name}": metric for name, metric in ranked.items()}
    return {name: metrics[name] for name in METRICS if name in metrics}


def rated_documents(documents: Sequence[TestDocument], answers: Sequence[Answer]) -> list[tuple[float, float, str]]:
    """(gold, answered, sampling unit) of each document whose difficulty gold knows and the system answers with."""
    return [
        (document.gold.difficulty, answered_difficulty(answer, document.gold.difficulty), document.sampling_unit)
        for document, answer in zip(documents, answers, strict=True)
        if document.gold.difficulty is not None and answer.has("difficulty_level")
    ]


def factor_metrics(documents: Sequence[TestDocument], answers: Sequence[Answer]) -> dict[str, dict[str, Metric]]:
    """Factor -> metric (`FACTOR_METRICS`) of one system; empty for one that answers with the total alone.

    A missing answer counts as the worst. Of code only documents are judged that gold and the answer both see code in.
    """
    if not any(answer.factors for answer in answers):
        return {}
    table: dict[str, dict[str, Metric]] = {}
    for factor in FACTOR_NAMES:
        found = [
            (gold, worst_score(gold) if answered is None else answered, document.sampling_unit)
            for document, answer in zip(documents, answers, strict=True)
            if (gold := (document.gold.factors or {}).get(factor)) is not None
            and ((answered := (answer.factors or {}).get(factor)) is not None or not answer.factors)
        ]
        if found:
            golds, answered_factors, units = zip(*found, strict=True)
            errors = [abs(gold - given) for gold, given in zip(golds, answered_factors, strict=True)]
            table[factor] = {"mae": mean_metric(errors, units)} | rank_metrics(golds, answered_factors, units)
    return table


def worst_documents(
    documents: Sequence[TestDocument], answers: Sequence[Answer], *, count: int, excerpt_characters: int = 900
) -> list[dict[str, Any]]:
    """The documents whose summaries share least with gold (ROUGE-L, then chrF++), invalid answers first."""
    ranked = []
    for document, answer in zip(documents, answers, strict=True):
        scores = document_scores(document, answer)
        rank = (
            answer.valid,
            scores.get("rougeL", 0.0),
            scores.get("chrf_plus_plus", 0.0),
            -scores.get("difficulty_mae", 0.0),
        )
        ranked.append((rank, document.url, document, answer, scores))
    ranked.sort(key=lambda entry: entry[:2])
    return [
        {
            "url": document.url,
            "language": document.language,
            "title": document.title,
            "excerpt": document.content[:excerpt_characters],
            "excerpt_is_cut": len(document.content) > excerpt_characters,
            "gold_origin": document.gold.origin,
            "gold_summary": document.gold.summary,
            "gold_keywords": _listed(document.gold.keywords),
            "gold_terms": _listed(document.gold.terms),
            "gold_difficulty": document.gold.difficulty,
            "digest": answer.digest,
            "scores": {name: round(value, 6) for name, value in scores.items()},
        }
        for _, _, document, answer, scores in ranked[:count]
    ]


def _listed(items: Sequence[str] | None) -> list[str] | None:
    return None if items is None else list(items)
