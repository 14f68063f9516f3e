from typing import Any

import pytest

from smartdevdigest_ops.contracts import difficulty_label
from smartdevdigest_ops.evaluation.statistics.ordinal import (
    confusion,
    kappa,
    kendall,
    levels,
    spearman,
    worst_score,
)

LABELS = ("beginner", "elementary", "intermediate", "advanced", "expert")


def _scores(n: int, seed: int) -> tuple[Any, Any, Any]:
    import numpy as np

    rng = np.random.default_rng(seed)
    gold = rng.integers(10, 51, n) / 10
    answer = np.clip(np.round(gold + rng.normal(0, 1, n), 1), 1, 5)
    return gold, answer, rng.integers(0, n, (20, n))


def _weights(draws: Any) -> Any:
    import numpy as np

    return np.stack([np.bincount(row, minlength=draws.shape[1]) for row in draws])


def test_levels_are_the_contracts_labels_for_every_score() -> None:
    import numpy as np

    scores = [score / 10 for score in range(10, 51)]
    assert [LABELS[level - 1] for level in levels(np.array(scores))] == [difficulty_label(score) for score in scores]


@pytest.mark.parametrize("seed", range(3))
def test_kappa_equals_scikit_learns_on_every_resample(seed: int) -> None:
    from sklearn.metrics import cohen_kappa_score

    gold, answer, draws = _scores(40, seed)
    expected = [cohen_kappa_score(levels(gold[d]), levels(answer[d]), weights="quadratic") for d in draws]
    assert kappa(gold, answer, _weights(draws)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_spearman_equals_scipys_on_every_resample(seed: int) -> None:
    from scipy.stats import spearmanr

    gold, answer, draws = _scores(25, seed)
    expected = [spearmanr(gold[d], answer[d]).statistic for d in draws]
    assert spearman(gold, answer, _weights(draws)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_kendalls_tau_b_equals_scipys_on_every_resample(seed: int) -> None:
    from scipy.stats import kendalltau

    gold, answer, draws = _scores(25, seed)
    expected = [kendalltau(gold[d], answer[d]).statistic for d in draws]
    assert kendall(gold, answer, _weights(draws)) == pytest.approx(expected, abs=1e-12)


def test_a_constant_answer_has_kappa_zero_and_no_rank_correlation() -> None:
    import numpy as np

    gold, constant = np.array([1.0, 2.0, 4.0, 5.0]), np.full(4, 3.0)
    once = np.ones((1, 4), dtype=np.int64)
    assert kappa(gold, constant, once)[0] == 0.0
    assert np.isnan(spearman(gold, constant, once)[0])
    assert np.isnan(kendall(gold, constant, once)[0])


def test_kappa_is_undefined_where_there_is_one_level_only() -> None:
    import numpy as np

    same = np.array([3.0, 3.2, 2.9])
    assert np.isnan(kappa(same, same, np.ones((1, 3), dtype=np.int64))[0])


def test_confusion_counts_gold_in_rows_and_answers_in_columns() -> None:
    import numpy as np

    table = confusion(np.array([1.0, 1.5, 3.5, 5.0]), np.array([1.2, 2.0, 3.0, 1.0]))
    assert table[0][0] == table[0][1] == table[2][2] == table[4][0] == 1
    assert sum(map(sum, table)) == 4


def test_a_missing_answer_counts_as_the_end_farther_from_gold() -> None:
    assert (worst_score(1.0), worst_score(2.9), worst_score(3.0), worst_score(4.5)) == (5.0, 5.0, 1.0, 1.0)
