"""Answers without a model: what a trained one has to beat.

Summary: Lead-3, the first three sentences of the prose. Keywords: the terms of highest TF-IDF, fitted on the train
split. Difficulty: the train split's median. All three per language.
"""

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from smartdevdigest_ops.contracts import Label
from smartdevdigest_ops.evaluation.gold import TestDocument
from smartdevdigest_ops.evaluation.morphemes import candidate_terms, load_kiwi

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import TfidfVectorizer

NUM_SENTENCES = 3
# TF-IDF converges long before this many documents; a crawl of millions must not be cut into morphemes for a baseline.
_MOST_FITTED_DOCUMENTS = 2000
# Without a train split (gold files alone): the middle of the scale, and as many keywords as a digest usually has.
_UNKNOWN_DIFFICULTY = 3.0
_UNKNOWN_NUM_KEYWORDS = 5
# Enough to hold three sentences and to rank terms; papers run to 100,000 characters.
_MOST_CHARACTERS = 20_000

_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
_NOT_PROSE = re.compile(r"^\s*(#{1,6}\s|[-*+]\s|\d+[.)]\s|\||>|<|!\[|[-=*_]{3,}\s*$)")
_ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|cf|vs|etc|approx|resp|al|fig|eq|sec|no|dr|mr|mrs|ms|prof|st|inc|ltd|co|jr|sr|dept|est|vol)"
    r"|\b[A-Z]|\b(?:[A-Za-z]\.)+[A-Za-z])\.$",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?]+[\"'”’)\]]*(?=\s+[\"'“‘(\[`]*[A-Z0-9])")


def prose(content: str) -> str:
    """Paragraphs of `content` outside code fences, headings, lists, tables and quotes, blank lines between."""
    kept: list[str] = []
    fence: str | None = None
    for line in content[:_MOST_CHARACTERS].splitlines():
        mark = _FENCE.match(line)
        if mark and (fence is None or (mark[1][0] == fence[0] and len(mark[1]) >= len(fence))):
            fence = mark[1] if fence is None else None
            kept.append("")
        elif fence is None:
            is_code = line.startswith(("    ", "\t")) and not (kept and kept[-1])
            kept.append("" if is_code or _NOT_PROSE.match(line) else line.strip())
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip()


def split_sentences(text: str, language: str) -> list[str]:
    """Sentences of prose: Kiwi's for Korean; for English at . ! ? before a capital or digit, abbreviations aside.

    A blank line always ends a sentence.
    """
    sentences: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text):
        line = " ".join(paragraph.split())
        if language == "ko":
            sentences += [sentence.text for sentence in load_kiwi().split_into_sents(line)]
        else:
            sentences += _split_english(line)
    return [sentence for sentence in sentences if sentence]


def _split_english(line: str) -> list[str]:
    sentences, start = [], 0
    for end in _SENTENCE_END.finditer(line):
        if not _ABBREVIATION.search(line[start : end.end()]):
            sentences.append(line[start : end.end()].strip())
            start = end.end()
    return [*sentences, line[start:].strip()]


def lead(content: str, language: str, num_sentences: int = NUM_SENTENCES) -> str:
    """The first sentences of a document's prose; of the whole text where it has no prose."""
    return " ".join(split_sentences(prose(content) or content[:_MOST_CHARACTERS], language)[:num_sentences])


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
    return f"{title or ''}\n\n{prose(content) or content[:_MOST_CHARACTERS]}"


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
