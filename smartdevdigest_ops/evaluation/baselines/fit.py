"""Answers without a model: what a trained one has to beat. All are per language.

Lead-3: the first three sentences of the prose, the keywords of highest TF-IDF and the median difficulty of the train
split. TextRank: the three sentences that others share most with. Majority: the difficulty level that most train labels
have. Readability: difficulty by a regression on counts.
"""

import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from smartdevdigest_ops.contracts import Label
from smartdevdigest_ops.evaluation.baselines.readability import Readability
from smartdevdigest_ops.evaluation.baselines.textrank import textrank_summary
from smartdevdigest_ops.evaluation.gold import TestDocument
from smartdevdigest_ops.evaluation.statistics.ordinal import levels
from smartdevdigest_ops.evaluation.systems import LEAD3, MAJORITY, READABILITY, TEXTRANK
from smartdevdigest_ops.evaluation.text.morphemes import candidate_terms
from smartdevdigest_ops.evaluation.text.sentences import MOST_CHARACTERS, prose, split_sentences

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import TfidfVectorizer

NUM_SENTENCES = 3
# TF-IDF converges long before this many documents; a crawl of millions must not be cut into morphemes for a baseline.
_MOST_FITTED_DOCUMENTS = 2000
# Without a train split (gold files alone): the middle of the scale, and as many keywords as a digest usually has.
_UNKNOWN_DIFFICULTY = 3.0
_UNKNOWN_NUM_KEYWORDS = 5


def fit_baselines(
    documents: Sequence[Mapping[str, Any]],
    pairs: Sequence[Mapping[str, Any]],
    factor_weights: Mapping[str, float] | None = None,
) -> dict[str, Callable[[TestDocument], dict[str, Any]]]:
    """System -> what answers for it, fitted on train rows and labelled train rows (with `label`); either may be empty.

    Without labels there is neither majority nor readability.
    """
    labels = [Label.model_validate_json(row["label"]) for row in pairs]
    lead3 = Baseline.fit(documents, labels, factor_weights)
    baselines: dict[str, Callable[[TestDocument], dict[str, Any]]] = {
        LEAD3: lead3.answer,
        TEXTRANK: lambda document: {
            "summary": textrank_summary(document.content, document.language, NUM_SENTENCES),
        },
    }
    if labels:
        scores = [label.difficulty_factors.score(factor_weights) for label in labels]
        majority = majority_levels([label.language for label in labels], scores)
        readability = Readability(list(zip(pairs, scores, strict=True)))
        baselines[MAJORITY] = lambda document: _difficulty(majority.get(document.language))
        baselines[READABILITY] = lambda document: _difficulty(readability.score(document.content, document.language))
    return baselines


def _difficulty(score: float | None) -> dict[str, Any]:
    return {} if score is None else {"difficulty_level": {"score": score}}


def majority_levels(languages: Sequence[str], scores: Sequence[float]) -> dict[str, float]:
    """Language -> the level 1-5 that most of its scores have; the lower one among equals."""
    import numpy as np

    counts: dict[str, Counter[int]] = {}
    for language, level in zip(languages, levels(np.asarray(scores, dtype=np.float64)).tolist(), strict=True):
        counts.setdefault(language, Counter())[level] += 1
    return {language: float(min(of, key=lambda level: (-of[level], level))) for language, of in counts.items()}


def lead(content: str, language: str, num_sentences: int = NUM_SENTENCES) -> str:
    """The first sentences of a document's prose; of the whole text where it has no prose."""
    return " ".join(split_sentences(prose(content) or content[:MOST_CHARACTERS], language)[:num_sentences])


@dataclass
class Baseline:
    """Lead-3, TF-IDF keywords and the median difficulty, fitted per language."""

    difficulty: dict[str, float] = field(default_factory=dict)
    num_keywords: dict[str, int] = field(default_factory=dict)
    vectorizers: dict[str, "TfidfVectorizer"] = field(default_factory=dict)

    @classmethod
    def fit(
        cls,
        documents: Sequence[Mapping[str, Any]],
        labels: Sequence[Label],
        factor_weights: Mapping[str, float] | None = None,
    ) -> "Baseline":
        """Baseline of train rows (`language`, `title`, `content`) and train labels; either may be empty."""
        fitted = cls()
        for language in sorted({label.language for label in labels}):
            of_language = [label for label in labels if label.language == language]
            scores = [label.difficulty_factors.score(factor_weights) for label in of_language]
            fitted.difficulty[language] = round(statistics.median(scores), 1)
            fitted.num_keywords[language] = round(statistics.median(len(label.keywords) for label in of_language))
        for language in sorted({row["language"] for row in documents}):
            rows = [row for row in documents if row["language"] == language][:_MOST_FITTED_DOCUMENTS]
            vectorizer = _fit_vectorizer(rows, language)
            if vectorizer is not None:
                fitted.vectorizers[language] = vectorizer
        return fitted

    def answer(self, document: TestDocument) -> dict[str, Any]:
        """Summary, keywords and difficulty of one document, keyed as in a digest."""
        return {
            "summary": lead(document.content, document.language),
            "keywords": self.keywords(document),
            "difficulty_level": {"score": self.difficulty.get(document.language, _UNKNOWN_DIFFICULTY)},
        }

    def keywords(self, document: TestDocument) -> list[str]:
        """Terms of highest TF-IDF, as first written; alphabetical among equals."""
        vectorizer = self.vectorizers.get(document.language)
        if vectorizer is None:
            return []
        text = _text(document.title, document.content)
        weights = vectorizer.transform([text]).tocoo()
        names = vectorizer.get_feature_names_out()
        ranked = sorted(zip(-weights.data, names[weights.col], strict=True))
        written = {term.casefold(): term for term in reversed(candidate_terms(text, document.language))}
        best = ranked[: self.num_keywords.get(document.language, _UNKNOWN_NUM_KEYWORDS)]
        return [written[str(name)] for _, name in best]


def _text(title: str | None, content: str) -> str:
    return f"{title or ''}\n\n{prose(content) or content[:MOST_CHARACTERS]}"


def _fit_vectorizer(rows: Sequence[Mapping[str, Any]], language: str) -> "TfidfVectorizer | None":
    from sklearn.feature_extraction.text import TfidfVectorizer

    def terms(text: str) -> list[str]:
        return [term.casefold() for term in candidate_terms(text, language) if term.casefold() not in stop_words]

    stop_words = _stop_words(language)
    terms_of_documents = [terms(_text(row["title"], row["content"])) for row in rows]
    if not any(terms_of_documents):
        return None  # nothing to weigh, which scikit-learn refuses
    vectorizer = TfidfVectorizer(analyzer=_as_given, sublinear_tf=True).fit(terms_of_documents)
    vectorizer.set_params(analyzer=terms)
    return vectorizer


def _as_given(terms: list[str]) -> list[str]:
    return terms


def _stop_words(language: str) -> frozenset[str]:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return frozenset(ENGLISH_STOP_WORDS) if language == "en" else frozenset()
