import pytest
from release_samples import entry

from smartdevdigest_ops.release.gate import compare


def told(candidate, release, paired=None, tolerance=0.02) -> dict[str, bool]:
    found = compare(candidate, release, paired or {}, tolerance=tolerance)
    return {f"{each.field} {each.language}": each.passed for each in found}


def of(mean: float, width: float = 0.01, field: str = "rougeL", language: str = "ko"):
    return {language: {field: entry(mean, width)}}


def test_a_language_that_is_no_longer_measured_fails() -> None:
    [failed] = [each for each in compare(of(0.3, language="en"), of(0.3), {}, tolerance=0.02) if not each.passed]
    assert str(failed) == "rougeL ko: release 0.300 [0.290, 0.310], of the candidate not measured"


def test_a_figure_that_became_undefined_fails_and_one_that_always_was_is_not_compared() -> None:
    undefined = {"ko": {"rougeL": {"mean": None, "low": None, "high": None, "n": 3}}}
    assert told(undefined, of(0.3)) == {"rougeL ko": False}
    assert told(of(0.3), undefined) == {"rougeL ko": True}


@pytest.mark.parametrize(("mean", "passes"), [(0.281, True), (0.28, True), (0.279, False)])
def test_the_bound_of_intervals_passes_and_below_it_fails(mean: float, passes: bool) -> None:
    assert told(of(mean), of(0.3)) == {"rougeL ko": passes}


def test_a_wider_interval_with_the_same_mean_is_not_shown_to_be_no_worse() -> None:
    assert told(of(0.3, width=0.04), of(0.3)) == {"rougeL ko": False}


@pytest.mark.parametrize(("low", "passes"), [(-0.02, True), (-0.0201, False)])
def test_the_bound_of_a_paired_difference_passes_and_below_it_fails(low: float, passes: bool) -> None:
    paired = {"ko": {"rougeL": {"mean": 0.0, "low": low, "high": 0.5, "n": 9}}}
    assert told(of(0.1), of(0.3), paired) == {"rougeL ko": passes}


@pytest.mark.parametrize(("high", "passes"), [(0.02, True), (0.0201, False)])
def test_of_an_error_the_upper_bound_decides(high: float, passes: bool) -> None:
    paired = {"ko": {"difficulty_mae": {"mean": 0.0, "low": -0.5, "high": high, "n": 9}}}
    assert told({}, {}, paired) == {}
    figures = of(0.8, field="difficulty_mae")
    assert told(figures, figures, paired) == {"difficulty_mae ko": passes}


def test_failures_come_first() -> None:
    found = compare(
        {"ko": {"a": entry(0.3), "b": entry(0.1)}}, {"ko": {"a": entry(0.3), "b": entry(0.3)}}, {}, tolerance=0.02
    )
    assert [each.field for each in found] == ["b", "a"]
