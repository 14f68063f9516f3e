"""A number with its interval: the percentile bootstrap over clusters of documents.

Near-duplicates and translations of one page are not independent: whole clusters are drawn, and a document is a cluster
of its own where nothing else is known. A resample is a weight per document, how often it was drawn, so that every
statistic (mean, ratio of sums, rank correlation, kappa) is computed on all resamples at once.

The same resamples are drawn for every system and metric on the same documents, so that differences are paired.

Source: Efron & Tibshirani 1993, chapter 13; Davison & Hinkley 1997, section 3.8 (clusters).
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Statistic = Callable[[NDArray[np.int64]], NDArray[np.float64]]

# Below this many clusters percentile intervals are too narrow to be trusted, and the report says so.
SMALL_SAMPLE = 10
# A statistic that is undefined on more of the resamples than this has no interval worth printing.
_MOST_UNDEFINED = 0.5
_DECIMALS = 6


@dataclass(frozen=True)
class Interval:
    """A statistic of `n` documents with its bounds; all None where it is undefined."""

    mean: float | None
    low: float | None
    high: float | None
    n: int

    def as_dict(self) -> dict[str, float | int | None]:
        """Plain JSON, to 6 decimals."""
        return {"mean": self.mean, "low": self.low, "high": self.high, "n": self.n}


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are drawn."""

    num_samples: int
    """B: resamples."""
    confidence: float
    seed: int

    def weights(self, clusters: Sequence[Hashable]) -> "NDArray[np.int64]":
        """(B, n) int64: how often each document is in each resample; the same for documents clustered alike."""
        import numpy as np

        cluster_of = number_clusters(clusters)
        num_clusters = int(cluster_of.max()) + 1
        drawn = np.random.default_rng([self.seed, num_clusters]).integers(
            0, num_clusters, size=(self.num_samples, num_clusters)
        )
        rows = np.arange(self.num_samples)[:, None] * num_clusters
        counts = np.bincount((rows + drawn).ravel(), minlength=self.num_samples * num_clusters)
        weights: NDArray[np.int64] = counts.reshape(self.num_samples, num_clusters)[:, cluster_of]
        return weights

    def interval(self, clusters: Sequence[Hashable], statistic: "Statistic") -> Interval:
        """Value of `statistic` on the documents as they are (`clusters`: that of each), bounds from the resamples.

        `statistic` takes (B, n) int64 weights and gives (B,) values, NaN where undefined.
        """
        import numpy as np

        n = len(clusters)
        if n == 0:
            return Interval(None, None, None, 0)
        value = float(statistic(np.ones((1, n), dtype=np.int64))[0])
        resampled = statistic(self.weights(clusters))
        defined = resampled[~np.isnan(resampled)]
        if np.isnan(value) or len(defined) < (1 - _MOST_UNDEFINED) * len(resampled):
            return Interval(None, None, None, n)
        tail = (1 - self.confidence) / 2
        low, high = np.quantile(defined, [tail, 1 - tail])
        # Adding 0 turns the -0.0 of a rounded difference into 0.0.
        value, low, high = (round(float(bound), _DECIMALS) + 0.0 for bound in (value, low, high))
        return Interval(value, low, high, n)

    def mean(self, values: Sequence[float], clusters: Sequence[Hashable] | None = None) -> Interval:
        """Mean over documents, each a cluster of its own unless `clusters` says otherwise."""
        import numpy as np

        array = np.asarray(values, dtype=np.float64)
        return self.interval(
            clusters if clusters is not None else range(len(array)),
            lambda weights: weights @ array / weights.sum(1),
        )

    def ratio(
        self, numerators: Sequence[float], denominators: Sequence[float], clusters: Sequence[Hashable] | None = None
    ) -> Interval:
        """Ratio of sums over documents, such as bits per byte; each a cluster of its own unless `clusters` says so."""
        import numpy as np

        top, bottom = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
        return self.interval(
            clusters if clusters is not None else range(len(top)),
            lambda weights: (weights @ top) / (weights @ bottom),
        )


def number_clusters(clusters: Sequence[Hashable]) -> "NDArray[np.int64]":
    """(n,) int64: number of each document's cluster, from 0 in the order of first appearance."""
    import numpy as np

    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters], dtype=np.int64)
