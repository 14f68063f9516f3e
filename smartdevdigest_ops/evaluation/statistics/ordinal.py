"""How near a difficulty score (1.0-5.0) is to gold: error, rank agreement, chance-corrected agreement of levels.

A level is the score's band in the contract (`difficulty_label`): 1 up to 1.5, 2 up to 2.5, ... 5 above 4.5.
A document without a valid answer counts as the worst possible one: the end of the scale farther from gold.
Every statistic takes `weights`, (B, n) int64, how often each document is in each resample, and gives (B,) values; NaN
where a resample leaves it undefined (one value only).

Source: Cohen 1968 (weighted kappa), Spearman 1904, Kendall 1945 (tau-b).
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Scores = NDArray[np.float64]
    Weights = NDArray[np.int64]

NUM_LEVELS = 5


def levels(scores: "Scores") -> "NDArray[np.int64]":
    """Level 1-5 of each score, int64."""
    import numpy as np

    return np.clip(np.ceil(scores - 0.5), 1, NUM_LEVELS).astype(np.int64)


def worst_score(gold: float) -> float:
    """The end of the scale farther from `gold`: what a missing answer counts as."""
    return 5.0 if gold < 3.0 else 1.0


def spearman(gold: "Scores", answer: "Scores", weights: "Weights") -> "Scores":
    """Spearman's rank correlation (average ranks for ties) of each resample: (B,)."""
    import numpy as np

    totals = weights.sum(1, keepdims=True)
    x, y = (
        ranks - (weights * ranks).sum(1, keepdims=True) / totals
        for ranks in (_ranks(gold, weights), _ranks(answer, weights))
    )
    norm = np.sqrt((weights * x * x).sum(1) * (weights * y * y).sum(1))
    return _divide((weights * x * y).sum(1), norm)


def _ranks(values: "Scores", weights: "Weights") -> "Scores":
    # Ranks follow from how often each distinct value was drawn: no sort per resample. (B, n)
    counts, position = _count_distinct(values, weights)
    average: Scores = counts.cumsum(1) - (counts - 1) / 2
    return average[:, position]


def _count_distinct(values: "NDArray[Any]", weights: "Weights") -> "tuple[Weights, NDArray[np.int64]]":
    # How often each distinct value (row, of a matrix) was drawn, (B, U), and which of them each document has, (n,).
    import numpy as np

    distinct, position = np.unique(values, return_inverse=True, axis=0)
    indicator = np.zeros((len(values), len(distinct)), dtype=np.int64)
    indicator[np.arange(len(values)), position.reshape(-1)] = 1
    return weights @ indicator, position.reshape(-1)


def kendall(gold: "Scores", answer: "Scores", weights: "Weights") -> "Scores":
    """Kendall's tau-b of each resample: (B,)."""
    import numpy as np

    pairs = np.stack([gold, answer], axis=1)
    distinct = np.unique(pairs, axis=0)
    counts = _count_distinct(pairs, weights)[0].astype(np.float64)
    x, y = distinct.T
    # (U, U): 1 where the two rank alike in gold and answer, -1 where against each other, 0 where tied.
    concordance = np.sign(x[:, None] - x[None, :]) * np.sign(y[:, None] - y[None, :])
    difference = ((counts @ concordance) * counts).sum(1) / 2
    untied = [_num_untied_pairs(column, weights) for column in (gold, answer)]
    return _divide(difference, np.sqrt(untied[0] * untied[1]))


def _num_untied_pairs(values: "Scores", weights: "Weights") -> "Scores":
    counts = _count_distinct(values, weights)[0].astype(float)
    untied: Scores = (counts.sum(1) ** 2 - (counts**2).sum(1)) / 2
    return untied


def kappa(gold: "Scores", answer: "Scores", weights: "Weights") -> "Scores":
    """Quadratic weighted kappa of the levels of each resample: (B,); undefined where all are one and the same level."""
    import numpy as np

    indicator = np.zeros((len(gold), NUM_LEVELS**2), dtype=np.int64)
    indicator[np.arange(len(gold)), (levels(gold) - 1) * NUM_LEVELS + (levels(answer) - 1)] = 1
    observed = (weights @ indicator).reshape(len(weights), NUM_LEVELS, NUM_LEVELS)
    level = np.arange(NUM_LEVELS)
    penalty = (level[:, None] - level[None, :]) ** 2
    expected = observed.sum(2)[:, :, None] * observed.sum(1)[:, None, :] / weights.sum(1)[:, None, None]
    return 1 - _divide((observed * penalty).sum((1, 2)), (expected * penalty).sum((1, 2)))


def _divide(top: "NDArray[Any]", bottom: "NDArray[Any]") -> "Scores":
    import numpy as np

    with np.errstate(divide="ignore", invalid="ignore"):
        quotient: Scores = np.where(bottom > 0, top / bottom, np.nan)
    return quotient


def confusion(gold: "Scores", answer: "Scores") -> list[list[int]]:
    """Documents by gold level (rows, 1-5) and answered level (columns, 1-5)."""
    import numpy as np

    table = np.zeros((NUM_LEVELS, NUM_LEVELS), dtype=np.int64)
    np.add.at(table, (levels(gold) - 1, levels(answer) - 1), 1)
    rows: list[list[int]] = table.tolist()
    return rows
