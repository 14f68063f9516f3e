import itertools

import pytest

from smartdevdigest_ops.evaluation.statistics.intervals import Bootstrap
from smartdevdigest_ops.evaluation.statistics.significance import holm, randomisation_p_value
from smartdevdigest_ops.evaluation.statistics.statistic import mean_metric, rank_metrics

BOOTSTRAP = Bootstrap(num_samples=4000, confidence=0.95, seed=17)
FIRST = [0.9, 0.7, 0.8, 0.6, 0.5, 0.9, 0.4, 0.8]
SECOND = [0.5, 0.6, 0.4, 0.7, 0.3, 0.6, 0.2, 0.5]


def test_p_is_the_share_of_all_exchanges_that_set_the_systems_as_far_apart() -> None:
    differences = [a - b for a, b in zip(FIRST, SECOND, strict=True)]
    sums = [
        abs(sum(sign * difference for sign, difference in zip(signs, differences, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    expected = sum(value >= abs(sum(differences)) - 1e-12 for value in sums) / len(sums)
    units = range(len(FIRST))
    p = randomisation_p_value(mean_metric(FIRST, units), mean_metric(SECOND, units), BOOTSTRAP)
    assert p == pytest.approx(expected, abs=0.006)  # 4,000 exchanges: three standard errors


def test_p_equals_scipys_permutation_test() -> None:
    import numpy as np
    from scipy.stats import permutation_test

    def difference(x: object, y: object, axis: int) -> object:
        return np.mean(x, axis=axis) - np.mean(y, axis=axis)

    exact = permutation_test((FIRST, SECOND), difference, permutation_type="samples", vectorized=True)
    units = range(len(FIRST))
    p = randomisation_p_value(mean_metric(FIRST, units), mean_metric(SECOND, units), BOOTSTRAP)
    assert p == pytest.approx(exact.pvalue, abs=0.006)


def test_a_system_does_not_differ_from_itself() -> None:
    metric = mean_metric(FIRST, range(8))
    assert randomisation_p_value(metric, metric, BOOTSTRAP) == 1.0


def test_copies_of_a_document_are_one_piece_of_evidence() -> None:
    clusters = list("abcdefgh") * 4
    alone = randomisation_p_value(mean_metric(FIRST, "abcdefgh"), mean_metric(SECOND, "abcdefgh"), BOOTSTRAP)
    copied = randomisation_p_value(mean_metric(FIRST * 4, clusters), mean_metric(SECOND * 4, clusters), BOOTSTRAP)
    each = range(32)
    independent = randomisation_p_value(mean_metric(FIRST * 4, each), mean_metric(SECOND * 4, each), BOOTSTRAP)
    assert copied == alone
    assert independent is not None
    assert alone is not None
    assert independent < alone


def test_rank_correlations_are_tested_too_and_are_undefined_for_a_constant() -> None:
    gold, good, bad = [1.0, 2.0, 3.0, 4.0, 5.0] * 4, [1.0, 2.0, 3.0, 4.0, 5.0] * 4, [5.0, 1.0, 4.0, 2.0, 3.0] * 4
    units = range(20)
    first, second = (rank_metrics(gold, answers, units) for answers in (good, bad))
    for name in ("spearman", "kendall", "qwk"):
        p = randomisation_p_value(first[name], second[name], BOOTSTRAP)
        assert p is not None
        assert p < 0.01
    constant = rank_metrics(gold, [3.0] * 20, units)["spearman"]
    assert randomisation_p_value(first["spearman"], constant, BOOTSTRAP) is None


def test_holm_multiplies_by_the_comparisons_left_and_never_falls() -> None:
    # By hand: 4 * 0.01, 3 * 0.02, 2 * 0.04, then 0.05 stays at least what came before it.
    corrected = holm({"a": 0.04, "b": 0.01, "c": None, "d": 0.05, "e": 0.02})
    assert corrected == {"a": 0.08, "b": 0.04, "c": None, "d": 0.08, "e": 0.06}
