import pytest

from smartdevdigest_ops.evaluation.statistics.intervals import Bootstrap, Interval

BOOTSTRAP = Bootstrap(num_samples=400, confidence=0.95, seed=17)


def test_an_interval_holds_its_mean_and_the_number_of_documents() -> None:
    interval = BOOTSTRAP.mean([0.0, 0.2, 0.4, 0.9])
    assert interval.mean == pytest.approx(0.375)
    assert interval.low < interval.mean < interval.high
    assert interval.n == 4


def test_equal_values_have_an_interval_without_width() -> None:
    assert BOOTSTRAP.mean([0.5, 0.5, 0.5]) == Interval(0.5, 0.5, 0.5, 3)


def test_bounds_equal_the_percentiles_of_the_resampled_means() -> None:
    import numpy as np

    values = np.random.default_rng(0).random(30)
    means = (BOOTSTRAP.weights(range(30)) * values).sum(1) / 30
    interval = BOOTSTRAP.mean(list(values))
    assert (interval.low, interval.high) == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])), abs=1e-6)


def test_the_same_seed_draws_the_same_resamples_and_another_seed_others() -> None:
    other = Bootstrap(400, 0.95, seed=18)
    assert (BOOTSTRAP.weights(range(9)) == BOOTSTRAP.weights("abcdefghi")).all()
    assert (BOOTSTRAP.weights(range(9)) != other.weights(range(9))).any()


def test_documents_of_a_cluster_are_drawn_together() -> None:
    weights = BOOTSTRAP.weights(["a", "b", "a", "c"])
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, [0, 1, 3]].sum(1) == 3).all()  # three clusters drawn of three


def test_copies_of_a_document_do_not_narrow_the_interval() -> None:
    values, alone = [0.1, 0.5, 0.9, 0.4], BOOTSTRAP.mean([0.1, 0.5, 0.9, 0.4])
    copied = BOOTSTRAP.mean(values * 5, list("abcd") * 5)
    assert (copied.mean, copied.low, copied.high) == pytest.approx((alone.mean, alone.low, alone.high))
    assert copied.n == 20
    independent = BOOTSTRAP.mean(values * 5)
    assert independent.high - independent.low < copied.high - copied.low


def test_a_ratio_is_of_sums_so_long_documents_count_by_their_length() -> None:
    assert BOOTSTRAP.ratio([100.0, 1.0], [100.0, 10.0]).mean == pytest.approx(101 / 110, abs=1e-6)


def test_95_percent_intervals_hold_the_true_mean_about_95_times_in_100() -> None:
    import numpy as np

    rng = np.random.default_rng(3)
    held = 0
    for seed in range(200):
        interval = Bootstrap(200, 0.95, seed).mean(list(rng.normal(0.4, 0.2, 50)))
        held += interval.low <= 0.4 <= interval.high
    assert 0.88 <= held / 200 <= 0.99


def test_a_statistic_undefined_on_most_resamples_has_neither_value_nor_bounds() -> None:
    import numpy as np

    assert BOOTSTRAP.interval(range(5), lambda weights: np.full(len(weights), np.nan)) == Interval(None, None, None, 5)


def test_no_document_gives_an_undefined_figure_of_zero_documents() -> None:
    assert BOOTSTRAP.mean([]) == Interval(None, None, None, 0)
