"""Whether two systems differ by more than chance on the same documents.

The test is the paired one of approximate randomisation: were the systems alike, it would not matter whose answer is
whose, so the answers of whole clusters are exchanged at random, and p is the share of exchanges after which the
systems lie at least as far apart as they do. It needs no distribution, and works for any statistic, kappa too. The
exchanges are as many as the bootstrap's resamples and come from its seed.

Source: Noreen 1989, chapter 3; Yeh 2000 (for F1 and the like); Holm 1979 (many comparisons); Davison & Hinkley 1997,
section 4.2.5 (the observed arrangement counts as one of them, so that p is never 0).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from smartdevdigest_ops.evaluation.statistics.intervals import Bootstrap, number_clusters
from smartdevdigest_ops.evaluation.statistics.statistic import Metric

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Differences that only rounding tells apart are equal.
_ROUNDING = 1e-12


def randomisation_p_value(metric: Metric, other: Metric, bootstrap: Bootstrap) -> float | None:
    """Two-sided p of the difference between two systems; None where it is undefined.

    An exchange that leaves the difference undefined counts as one at least as extreme: p errs to the safe side.
    """
    import numpy as np

    cluster_of = number_clusters(metric.clusters)
    rng = np.random.default_rng([bootstrap.seed, int(cluster_of.max()) + 1, 1])
    exchanged = rng.integers(0, 2, size=(bootstrap.num_samples, int(cluster_of.max()) + 1))[:, cluster_of]
    own = np.concatenate([np.zeros((1, metric.n), dtype=np.int64), exchanged])
    columns = np.concatenate([metric.columns, other.columns], axis=1)
    first = metric.statistic(columns, np.concatenate([1 - own, own], axis=1))
    second = metric.statistic(columns, np.concatenate([own, 1 - own], axis=1))
    differences: NDArray[np.float64] = np.abs(first - second)
    if np.isnan(differences[0]):
        return None
    as_extreme = ~(differences < differences[0] - _ROUNDING)
    return round(float(as_extreme.sum()) / len(differences), 6)


def holm(p_values: Mapping[str, float | None]) -> dict[str, float | None]:
    """P values after Holm's correction for so many comparisons; undefined ones are none."""
    defined = sorted((p, name) for name, p in p_values.items() if p is not None)
    corrected: dict[str, float | None] = dict.fromkeys(p_values)
    largest = 0.0
    for rank, (p, name) in enumerate(defined):
        largest = max(largest, min(1.0, (len(defined) - rank) * p))
        corrected[name] = round(largest, 6)
    return corrected
