"""Difficulty from counts that need no understanding: what a model's difficulty score has to beat.

A ridge regression per language on: words per sentence and share of long words, the two that LIX adds up; letters per
word; the logarithm of the length; the share of the text that is code. It is fitted on the labels of the train split.

Source: Björnsson 1968 (LIX: sentence length and words of more than six letters); Kincaid et al. 1975 fit their formula
to human grades by regression in the same way. Korean has no formula in common use; its words are those between spaces,
which carry their particles, and it is the regression's to find what their length says.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from smartdevdigest_ops.evaluation.text.sentences import prose, split_sentences

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

# Averages over sentences settle long before this.
_MOST_CHARACTERS = 5000
_MOST_FITTED_DOCUMENTS = 500
# Five weights and a constant are not fitted to less.
FEWEST_DOCUMENTS = 12
_LONG_WORD_LETTERS = 7


def readability_counts(content: str, language: str) -> list[float]:
    """Words per sentence, letters per word, share of long words, log of the length, share that is no prose."""
    text = prose(content[:_MOST_CHARACTERS])
    sentences = split_sentences(text, language)
    words = [word.strip(".,;:!?()[]\"'`") for word in text.split()]
    letters = [len(word) for word in words if word]
    num_words = max(1, len(letters))
    return [
        num_words / max(1, len(sentences)),
        sum(letters) / num_words,
        sum(length >= _LONG_WORD_LETTERS for length in letters) / num_words,
        math.log(len(content)),
        1 - min(1.0, len(text) / len(content[:_MOST_CHARACTERS])),
    ]


class Readability:
    """Regressions of difficulty on the counts, per language."""

    def __init__(self, labelled: Sequence[tuple[Mapping[str, Any], float]]) -> None:
        """`labelled`: train rows (`language`, `content`) with their difficulty; languages with few are left out."""
        from sklearn.linear_model import Ridge
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        self._fitted: dict[str, Pipeline] = {}
        for language in sorted({row["language"] for row, _ in labelled}):
            of_language = [pair for pair in labelled if pair[0]["language"] == language][:_MOST_FITTED_DOCUMENTS]
            if len(of_language) >= FEWEST_DOCUMENTS:
                counts = [readability_counts(row["content"], language) for row, _ in of_language]
                scores = [score for _, score in of_language]
                self._fitted[language] = make_pipeline(StandardScaler(), Ridge(alpha=1.0)).fit(counts, scores)

    def score(self, content: str, language: str) -> float | None:
        """Difficulty 1.0-5.0 to one decimal; None in a language that it was not fitted for."""
        if language not in self._fitted:
            return None
        predicted = float(self._fitted[language].predict([readability_counts(content, language)])[0])
        return round(min(5.0, max(1.0, predicted)), 1)
