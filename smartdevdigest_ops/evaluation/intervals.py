"""A number with its interval: the percentile bootstrap over documents.

The same resamples are drawn for every system and metric on the same number of documents, so that differences are
paired. A statistic of the whole set (kappa, a ratio of sums) is recomputed on every resample.

Source: Efron & Tibshirani 1993, chapter 13.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Statistic = Callable[[NDArray[np.int64]], NDArray[np.float64]]

# Below this many documents percentile intervals are too narrow to be trusted, and the report says so.
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

    def draws(self, n: int) -> "NDArray[np.int64]":
        """(B, n) int64: positions of the documents of each resample; the same for the same `n`."""
        import numpy as np

        return np.random.default_rng([self.seed, n]).integers(0, n, size=(self.num_samples, n))

    def interval(self, n: int, statistic: "Statistic") -> Interval:
        """Value of `statistic` on the documents as they are, bounds from the resamples.

        `statistic` takes (B, n) int64 positions and gives (B,) values, NaN where undefined.
        """
        import numpy as np

        if n == 0:
            return Interval(None, None, None, 0)
        value = float(statistic(np.arange(n)[None, :])[0])
        resampled = statistic(self.draws(n))
        defined = resampled[~np.isnan(resampled)]
        if np.isnan(value) or len(defined) < (1 - _MOST_UNDEFINED) * len(resampled):
            return Interval(None, None, None, n)
        tail = (1 - self.confidence) / 2
        low, high = np.quantile(defined, [tail, 1 - tail])
        return Interval(round(value, _DECIMALS), round(float(low), _DECIMALS), round(float(high), _DECIMALS), n)

    def mean(self, values: Sequence[float]) -> Interval:
        """Mean over documents."""
        import numpy as np

        array = np.asarray(values, dtype=np.float64)
        return self.interval(len(array), lambda draws: array[draws].mean(1))

    def ratio(self, numerators: Sequence[float], denominators: Sequence[float]) -> Interval:
        """Ratio of sums over documents, such as bits per byte."""
        import numpy as np

        top, bottom = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
        return self.interval(len(top), lambda draws: top[draws].sum(1) / bottom[draws].sum(1))
