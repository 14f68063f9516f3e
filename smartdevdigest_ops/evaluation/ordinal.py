"""How near a difficulty score (1.0-5.0) is to gold: error, rank agreement, chance-corrected agreement of levels.

A level is the score's band in the contract (`difficulty_label`): 1 up to 1.5, 2 up to 2.5, ... 5 above 4.5.
A document without a valid answer counts as the worst possible one: the end of the scale farther from gold.
Every `*_resampled` function takes `draws`, (B, n) int64 positions of resampled documents, and gives (B,) values; NaN
where a resample leaves the statistic undefined (one value only).

Source: Cohen 1968 (weighted kappa), Spearman 1904.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NUM_LEVELS = 5


def levels(scores: "NDArray[np.float64]") -> "NDArray[np.int64]":
    """Level 1-5 of each score, int64."""
    import numpy as np

    return np.clip(np.ceil(scores - 0.5), 1, NUM_LEVELS).astype(np.int64)


def worst_score(gold: float) -> float:
    """The end of the scale farther from `gold`: what a missing answer counts as."""
    return 5.0 if gold < 3.0 else 1.0


def spearman_resampled(
    gold: "NDArray[np.float64]", answer: "NDArray[np.float64]", draws: "NDArray[np.int64]"
) -> "NDArray[np.float64]":
    """Spearman's rank correlation (average ranks for ties) of each resample: (B,)."""
    import numpy as np

    x, y = _ranks(gold, draws), _ranks(answer, draws)
    x, y = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    norm = np.sqrt((x * x).sum(1) * (y * y).sum(1))
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation: NDArray[np.float64] = np.where(norm > 0, (x * y).sum(1) / norm, np.nan)
    return correlation


def _ranks(values: "NDArray[np.float64]", draws: "NDArray[np.int64]") -> "NDArray[np.float64]":
    # Ranks follow from how often each distinct value was drawn: no sort per resample. (B, n)
    import numpy as np

    distinct, position = np.unique(values, return_inverse=True)
    drawn = position[draws]
    counts = _count(drawn, len(distinct))
    average = counts.cumsum(1) - (counts - 1) / 2
    return np.take_along_axis(average, drawn, axis=1)


def _count(cells: "NDArray[np.int64]", num_cells: int) -> "NDArray[np.int64]":
    # Counts per row: (B, n) cell numbers -> (B, num_cells).
    import numpy as np

    rows = np.arange(len(cells))[:, None] * num_cells
    return np.bincount((rows + cells).ravel(), minlength=len(cells) * num_cells).reshape(len(cells), num_cells)


def kappa_resampled(
    gold: "NDArray[np.float64]", answer: "NDArray[np.float64]", draws: "NDArray[np.int64]"
) -> "NDArray[np.float64]":
    """Quadratic weighted kappa of the levels of each resample: (B,); undefined where all are one and the same level."""
    import numpy as np

    cells = (levels(gold) - 1) * NUM_LEVELS + (levels(answer) - 1)
    observed = _count(cells[draws], NUM_LEVELS**2).reshape(len(draws), NUM_LEVELS, NUM_LEVELS)
    level = np.arange(NUM_LEVELS)
    weights = (level[:, None] - level[None, :]) ** 2
    expected = observed.sum(2)[:, :, None] * observed.sum(1)[:, None, :] / draws.shape[1]
    disagreement, by_chance = (observed * weights).sum((1, 2)), (expected * weights).sum((1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        kappa: NDArray[np.float64] = np.where(by_chance > 0, 1 - disagreement / by_chance, np.nan)
    return kappa


def confusion(gold: "NDArray[np.float64]", answer: "NDArray[np.float64]") -> list[list[int]]:
    """Documents by gold level (rows, 1-5) and answered level (columns, 1-5)."""
    import numpy as np

    table = np.zeros((NUM_LEVELS, NUM_LEVELS), dtype=np.int64)
    np.add.at(table, (levels(gold) - 1, levels(answer) - 1), 1)
    rows: list[list[int]] = table.tolist()
    return rows
