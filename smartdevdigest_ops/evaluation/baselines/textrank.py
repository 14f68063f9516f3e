"""A summary of a document's own sentences, chosen by TextRank.

Sentences vote for each other by the words they share, relative to their lengths, and the votes of a sentence with many
votes count more. Words are those of ROUGE: Korean content morphemes, English stems.

Source: Mihalcea & Tarau 2004 (TextRank), section 4.1 (similarity) and equation 2 (weighted PageRank, damping 0.85).
"""

import math
from typing import TYPE_CHECKING

from smartdevdigest_ops.evaluation.text.morphemes import word_tokenizer
from smartdevdigest_ops.evaluation.text.sentences import MOST_CHARACTERS, prose, split_sentences

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_DAMPING = 0.85
_NUM_ITERATIONS = 200
_CONVERGED = 1e-10


def textrank_summary(content: str, language: str, num_sentences: int) -> str:
    """The sentences of most votes, in the document's order; the earlier one among equals."""
    sentences = split_sentences(prose(content) or content[:MOST_CHARACTERS], language)
    if len(sentences) <= num_sentences:
        return " ".join(sentences)
    ranks = page_rank(sentence_similarity(sentences, language))
    best = sorted(range(len(sentences)), key=lambda index: (-round(float(ranks[index]), 9), index))[:num_sentences]
    return " ".join(sentences[index] for index in sorted(best))


def sentence_similarity(sentences: list[str], language: str) -> "NDArray[np.float64]":
    """(S, S) float64: words shared over the sum of the logarithms of both lengths; 0 on the diagonal."""
    import numpy as np

    tokenizer = word_tokenizer(language)
    words = [tokenizer.tokenize(sentence) for sentence in sentences]
    sets = [set(of_sentence) for of_sentence in words]
    weights = np.zeros((len(sentences), len(sentences)))
    for i in range(len(sentences)):
        for j in range(i):
            length = math.log(len(words[i]) or 1) + math.log(len(words[j]) or 1)
            if length > 0:
                weights[i, j] = weights[j, i] = len(sets[i] & sets[j]) / length
    return weights


def page_rank(weights: "NDArray[np.float64]") -> "NDArray[np.float64]":
    """(S,) float64: PageRank of the nodes of a symmetric weighted graph, summing to 1.

    A node without edges gives its vote to all alike.
    """
    import numpy as np

    num_nodes = len(weights)
    totals = weights.sum(1, keepdims=True)
    shares = np.divide(weights, totals, out=np.full_like(weights, 1 / num_nodes), where=totals > 0)
    ranks: NDArray[np.float64] = np.full(num_nodes, 1 / num_nodes)
    for _ in range(_NUM_ITERATIONS):
        before, ranks = ranks, (1 - _DAMPING) / num_nodes + _DAMPING * (ranks @ shares)
        if np.abs(ranks - before).sum() < _CONVERGED:
            break
    return ranks
