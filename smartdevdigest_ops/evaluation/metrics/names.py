"""The metrics by name, in the report's order: what they are called, and which way is better."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class MetricInfo:
    """How a metric is read."""

    title: str
    group: str
    better: Literal["higher", "lower"] | None = "higher"
    """None: it describes, and is not compared."""


METRICS = {
    "rouge1": MetricInfo("ROUGE-1", "Summary against gold"),
    "rouge2": MetricInfo("ROUGE-2", "Summary against gold"),
    "rougeL": MetricInfo("ROUGE-L", "Summary against gold"),
    "rougeLsum": MetricInfo("ROUGE-Lsum", "Summary against gold"),
    "bleu": MetricInfo("BLEU", "Summary against gold"),
    "chrf_plus_plus": MetricInfo("chrF++", "Summary against gold"),
    "source_term_coverage": MetricInfo("Source terms covered", "Summary against its document"),
    "unsupported_numbers": MetricInfo("Numbers not in document", "Summary against its document", "lower"),
    "unsupported_names": MetricInfo("Names not in document", "Summary against its document", "lower"),
    "unsupported_code": MetricInfo("Code words not in document", "Summary against its document", "lower"),
    "compression": MetricInfo("Length, share of document", "Summary against its document", None),
    "copy_rate": MetricInfo("Copied runs of 3 words", "Summary against its document", None),
    "keyword_f1": MetricInfo("Keyword F1", "Keywords and terms"),
    "keyword_f1_stemmed": MetricInfo("Keyword F1, stemmed", "Keywords and terms"),
    "absent_keywords": MetricInfo("Keywords not in document", "Keywords and terms", "lower"),
    "term_f1": MetricInfo("Term F1", "Keywords and terms"),
    "term_f1_stemmed": MetricInfo("Term F1, stemmed", "Keywords and terms"),
    "absent_terms": MetricInfo("Terms not in document", "Keywords and terms", "lower"),
    "difficulty_mae": MetricInfo("Difficulty MAE", "Difficulty", "lower"),
    "difficulty_within_half": MetricInfo("Difficulty within 0.5", "Difficulty"),
    "difficulty_spearman": MetricInfo("Difficulty Spearman", "Difficulty"),
    "difficulty_kendall": MetricInfo("Difficulty Kendall tau-b", "Difficulty"),
    "difficulty_qwk": MetricInfo("Difficulty QWK", "Difficulty"),
    "language_match": MetricInfo("Summary in its document's language", "Form", None),
    "valid_json_rate": MetricInfo("Valid JSON", "Form", None),
}
METRIC_TITLES = {name: info.title for name, info in METRICS.items()}
LOWER_IS_BETTER = frozenset(name for name, info in METRICS.items() if info.better == "lower")
COMPARED = frozenset(name for name, info in METRICS.items() if info.better)

FACTOR_METRICS = {"mae": "MAE", "spearman": "Spearman", "kendall": "Kendall tau-b", "qwk": "QWK"}
