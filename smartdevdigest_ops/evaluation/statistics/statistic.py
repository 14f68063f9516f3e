"""A metric of one system on some documents, as a function that can be computed on resamples of them.

`columns` are what the metric needs of each document, (k, n) float64: its score; numerator and denominator; gold and
answer. The statistic takes columns and weights, (B, n) int64, and gives (B,) values, NaN where undefined.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smartdevdigest_ops.evaluation.statistics import ordinal
from smartdevdigest_ops.evaluation.statistics.intervals import Bootstrap, Interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Columns = NDArray[np.float64]
    Weights = NDArray[np.int64]


@dataclass(frozen=True)
class Metric:
    """One metric of one system."""

    columns: "Columns"
    clusters: tuple[Hashable, ...]
    """Of each document."""
    statistic: "Callable[[Columns, Weights], NDArray[np.float64]]"

    @property
    def n(self) -> int:
        """Documents that it is of."""
        return len(self.clusters)

    def interval(self, bootstrap: Bootstrap) -> Interval:
        """Its value and bounds."""
        return bootstrap.interval(self.clusters, lambda weights: self.statistic(self.columns, weights))

    def lead_over(self, other: "Metric", bootstrap: Bootstrap) -> Interval:
        """Value and bounds of this metric minus `other`'s, on the same resamples of the same documents."""
        return bootstrap.interval(
            self.clusters,
            lambda weights: self.statistic(self.columns, weights) - other.statistic(other.columns, weights),
        )


def mean_metric(values: Sequence[float], clusters: Sequence[Hashable]) -> Metric:
    """Mean of a score that each document has."""
    return Metric(_columns(values), tuple(clusters), lambda columns, weights: weights @ columns[0] / weights.sum(1))


def ratio_metric(tops: Sequence[float], bottoms: Sequence[float], clusters: Sequence[Hashable]) -> Metric:
    """Sum of `tops` over sum of `bottoms`: a document counts by how much there is of it."""
    import numpy as np

    def ratio(columns: "Columns", weights: "Weights") -> "NDArray[np.float64]":
        top, bottom = weights @ columns[0], weights @ columns[1]
        with np.errstate(divide="ignore", invalid="ignore"):
            shares: NDArray[np.float64] = np.where(bottom > 0, top / bottom, np.nan)
        return shares

    return Metric(_columns(tops, bottoms), tuple(clusters), ratio)


def rank_metrics(gold: Sequence[float], answers: Sequence[float], clusters: Sequence[Hashable]) -> dict[str, Metric]:
    """`spearman`, `kendall` and `qwk` of scores against gold."""
    columns, of_documents = _columns(gold, answers), tuple(clusters)
    return {
        "spearman": Metric(columns, of_documents, lambda pair, weights: ordinal.spearman(pair[0], pair[1], weights)),
        "kendall": Metric(columns, of_documents, lambda pair, weights: ordinal.kendall(pair[0], pair[1], weights)),
        "qwk": Metric(columns, of_documents, lambda pair, weights: ordinal.kappa(pair[0], pair[1], weights)),
    }


def _columns(*columns: Sequence[float]) -> "Columns":
    import numpy as np

    return np.array(columns, dtype=np.float64)
