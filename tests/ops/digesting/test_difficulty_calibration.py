import random

import pytest

from smartdevdigest_ops.digesting.calibration import (
    DifficultyCalibration,
    fit_calibration,
    read_calibration,
    write_calibration,
)


def fitted(pairs):
    return fit_calibration({"en": pairs}).languages["en"]


def noisy(num, of, seed=1):
    draw = random.Random(seed)
    scores = [draw.uniform(1.5, 4.5) for _ in range(num)]
    return [(score, min(5.0, max(1.0, of(score) + draw.gauss(0, 0.1)))) for score in scores]


def test_a_score_that_is_off_by_a_line_is_put_right():
    found = fitted(noisy(40, lambda score: 0.5 * score + 2))
    assert found.method in ("linear", "isotonic")
    assert found.mae < 0.2 < found.mae_identity
    calibration = DifficultyCalibration({"en": found})
    assert calibration.apply(2.0, language="en") == pytest.approx(3.0, abs=0.15)
    assert calibration.apply(2.0, language="ko") == 2.0


def test_a_step_is_followed_by_isotonic_regression_only():
    found = fitted(noisy(120, lambda score: 1.5 if score < 3 else 4.0))
    assert found.method == "isotonic"
    assert found.candidates["isotonic"] < found.candidates["linear"]


def test_a_good_score_is_left_alone_and_noise_is_not_fitted():
    assert fitted(noisy(40, lambda score: score)).method == "identity"


def test_too_few_labels_are_said_to_be_too_few():
    found = fitted([(2.0, 4.0)] * 5)
    assert found.method == "identity"
    assert "5 documents are too few" in found.reason


def test_maps_never_fall_and_stay_on_the_scale():
    calibration = fit_calibration({"en": noisy(60, lambda score: 6 - score), "ko": noisy(60, lambda s: 3 * s - 4)})
    for language in ("en", "ko"):
        values = [calibration.apply(1 + i / 50, language=language) for i in range(201)]
        assert values == sorted(values)
        assert 1 <= values[0] <= values[-1] <= 5


def test_a_line_that_leaves_the_scale_is_bent_along_its_bound():
    import numpy as np

    from smartdevdigest_ops.digesting.calibration import _fit_linear

    scores = np.linspace(2, 4, 21)
    knots = _fit_linear(scores, 2 * scores - 3)
    assert DifficultyCalibration({}).apply(3.0, language="en") == 3.0
    assert dict(knots) == pytest.approx({1.0: 1.0, 2.0: 1.0, 4.0: 5.0, 5.0: 5.0})


def test_a_calibration_is_read_as_it_was_written(tmp_path):
    calibration = fit_calibration({"en": noisy(40, lambda score: 0.5 * score + 2), "ko": [(2.0, 3.0)]})
    write_calibration(tmp_path, calibration)
    assert read_calibration(tmp_path) == calibration
    assert read_calibration(tmp_path / "elsewhere") == DifficultyCalibration()
