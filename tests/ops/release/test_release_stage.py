import json
from pathlib import Path
from typing import Any

import pytest
from release_samples import CHECKS, Graph, Run, entry, report_of

from smartdevdigest_ops.artifacts import ArtifactError, ArtifactStore, Making
from smartdevdigest_ops.release import ReleaseError, read_release, release_before
from smartdevdigest_ops.release.stage import (
    check_artifacts_exist,
    check_no_field_is_worse,
    check_nothing_leaked,
    check_outputs_are_valid,
    check_quantization,
)
from smartdevdigest_ops.settings import ReleaseSettings

BOUNDS = ReleaseSettings(fields=("rougeL",), max_quantization_loss=0.05, max_difficulty_shift=0.5)


@pytest.fixture
def graph(tmp_path: Path, run: Run) -> Graph:
    return Graph(tmp_path, run)


def _check(making: Making, name: str) -> dict[str, Any]:
    return next(check for check in making.checks if check["name"] == name)


def test_the_first_candidate_with_valid_outputs_becomes_the_release(graph: Graph) -> None:
    making, release = graph.gate("first")
    assert release["accepted"]
    assert release["previous"] is None
    assert release["quantized_model"] == graph.store.current_making("quantized_model").version
    assert all(check["passed"] for check in making.checks)
    assert making.metrics == {"accepted": 1.0, "num_compared_fields": 0.0, "valid_json_rate": 1.0}
    assert graph.store.current("release").version == making.version


def test_a_first_candidate_with_an_invalid_output_is_refused_and_there_is_no_release(graph: Graph) -> None:
    making, release = graph.gate("first", valid=0.9)
    assert not release["accepted"]
    assert _check(making, "outputs_are_valid")["message"] == "valid JSON rate 0.900, at least 1.000 needed."
    assert "there is no release" in making.notes["markdown"]
    assert graph.store.current("release") is None


def test_after_a_refused_first_candidate_the_next_valid_one_is_the_first_release(graph: Graph) -> None:
    graph.gate("first", valid=0.9)
    _, release = graph.gate("second")
    assert release["accepted"]
    assert release["previous"] is None


def test_a_candidate_that_is_no_worse_replaces_the_release_and_names_it(graph: Graph) -> None:
    first, _ = graph.gate("first")
    making, release = graph.gate("second", rouge=0.28)
    assert release["accepted"]
    assert release["previous"] == first.version
    assert making.metrics["num_compared_fields"] == 6


def test_a_worse_candidate_is_refused_by_field_and_language_and_nothing_moves(graph: Graph) -> None:
    first, _ = graph.gate("first")
    making, release = graph.gate("second", rouge=0.25)
    check = _check(making, "no_field_is_worse")
    assert not check["passed"]
    assert check["message"].startswith(
        "rougeL en: candidate 0.250 [0.240, 0.260] on 30 documents, release 0.300 [0.290, 0.310] on 30; bounds at most "
        "0.020 below the release's needed; rougeL ko"
    )
    assert check["metadata"]["margin_rougeL_ko"] == pytest.approx(-0.03)
    assert (check["metadata"]["num_fields"], check["metadata"]["num_worse"]) == (6, 2)
    assert f"model {release['quantized_model']} stays the release" in making.notes["markdown"]
    assert making.version == first.version
    assert making.metrics["accepted"] == 0.0


def test_a_larger_error_is_worse_although_the_figure_is_higher(graph: Graph) -> None:
    graph.gate("first")
    refused, _ = graph.gate("second", error=0.9)
    assert not _check(refused, "no_field_is_worse")["passed"]
    accepted, _ = graph.gate("third", error=0.5)
    assert _check(accepted, "no_field_is_worse")["passed"]


def test_the_release_before_a_candidate_stays_the_same_when_the_candidate_is_released(graph: Graph) -> None:
    graph.gate("first")
    first = graph.store.current("quantized_model").version
    assert release_before(graph.store, first) is None
    before = release_before(graph.store, graph.publish("quantized_model", "weights.txt", "second").version)
    graph.gate("second")
    second = graph.store.current("quantized_model").version
    after = release_before(graph.store, second)
    assert read_release(graph.store.current("release"))["quantized_model"] == second
    assert read_release(after)["quantized_model"] == first
    assert after.version == before.version


def test_the_release_made_again_is_unchanged_and_passes(graph: Graph) -> None:
    first, _ = graph.gate("first")
    again, _ = graph.gate("first", rouge=0.1, settings=graph.with_fields("rougeL"))
    assert again.fingerprint != first.fingerprint
    assert again.version == first.version
    assert _check(again, "no_field_is_worse")["passed"]


def test_a_field_that_the_report_does_not_hold_is_refused_with_those_it_does(graph: Graph) -> None:
    with pytest.raises(ReleaseError, match=r"release\.fields names bertscore.*Fields there: rougeL, keyword_f1"):
        graph.gate("first", settings=graph.with_fields("bertscore"))


def test_a_damaged_model_is_never_released(graph: Graph) -> None:
    graph.publish("evaluation_report", "report.json", json.dumps(report_of()))
    model = graph.publish("quantized_model", "weights.txt", "first")
    (model.path / "weights.txt").write_text("tampe", encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"weights\.txt"):
        graph._run("release", graph.settings)


@pytest.mark.parametrize(("text", "passes"), [("first", True), ("tampe", False)])
def test_the_check_that_the_artifacts_exist_reads_their_files(graph: Graph, text: str, passes: bool) -> None:
    report = graph.publish("evaluation_report", "report.json", json.dumps(report_of()))
    model = graph.publish("quantized_model", "weights.txt", "first")
    (model.path / "weights.txt").write_text(text, encoding="utf-8")
    release = {"quantized_model": model.version, "evaluation_report": report.version}
    result = check_artifacts_exist(ArtifactStore(graph.settings.store_dir), release)
    assert result.passed is passes
    assert ("weights.txt" in result.message) is not passes


def test_a_paired_comparison_of_the_same_release_decides_instead_of_the_figures(graph: Graph) -> None:
    graph.gate("first")
    making, _ = graph.gate("second", rouge=0.25, paired=entry(0.0, 0.015))
    assert _check(making, "no_field_is_worse")["passed"]
    assert "candidate minus release +0.000 [-0.015, +0.015] on the same 30 documents" in making.notes["markdown"]
    refused, _ = graph.gate("third", rouge=0.5, paired=entry(0.0, 0.03))
    assert not _check(refused, "no_field_is_worse")["passed"]
    assert "lower bound at least -0.020 needed" in _check(refused, "no_field_is_worse")["message"]


def test_a_report_that_was_paired_with_another_release_is_not_taken_for_paired(graph: Graph) -> None:
    graph.gate("first")
    making, _ = graph.gate("second", rouge=0.25, paired=entry(0.0, 0.015), **{"file:release.json": "0" * 64})
    assert not _check(making, "no_field_is_worse")["passed"]


@pytest.mark.parametrize(
    ("difference", "passes"),
    [(entry(-0.04, 0.03), True), (entry(-0.09, 0.03), False), ({"mean": None, "low": None, "high": None}, True)],
)
def test_a_candidate_that_quantizing_is_shown_to_have_cost_a_field_is_refused(
    difference: dict[str, Any], passes: bool
) -> None:
    model = Making("quantized_model", None, "v", "f", {}, {}, "1", {}, {}, {}, [CHECKS["quantized_model"]])
    paired = {"ko": {"rougeL": difference, "bleu": entry(-0.5)}, "en": None}
    result = check_quantization(model, paired, {}, BOUNDS)
    assert result.passed is passes
    assert ("worse: rougeL ko" in result.message) is not passes


@pytest.mark.parametrize(("mean", "passes"), [(0.2, True), (-0.45, True), (0.8, False), (-0.8, False)])
def test_a_candidate_whose_difficulty_quantizing_shifted_is_refused_where_the_interval_shows_it(
    mean: float, passes: bool
) -> None:
    model = Making("quantized_model", None, "v", "f", {}, {}, "1", {}, {}, {}, [CHECKS["quantized_model"]])
    result = check_quantization(model, {}, {"en": entry(0.0), "ko": entry(mean, 0.2)}, BOUNDS)
    assert result.passed is passes
    assert ("By more than 0.5: ko." in result.message) is not passes


def test_each_check_of_the_gate_passes_and_fails() -> None:
    def made(asset: str, **changes: Any) -> Making:
        return Making(asset, None, "v", "f", {}, {}, "1", {}, {}, {}, [CHECKS[asset] | changes])

    assert check_outputs_are_valid(report_of(), 1.0).passed
    assert not check_outputs_are_valid(report_of(valid=0.99), 1.0).passed
    assert check_no_field_is_worse([], None).passed
    assert check_quantization(made("quantized_model"), {}, {}, BOUNDS).metadata["increase_ko"] == 0.01
    assert not check_quantization(made("quantized_model", passed=False), {}, {}, BOUNDS).passed
    assert not check_quantization(None, {}, {}, BOUNDS).passed
    evaluated = made("evaluation_report")
    assert check_nothing_leaked({}, evaluated).passed
    assert check_nothing_leaked({"leakage": {"url": [], "gold_keywords": [{"url": "x"}]}}, evaluated).passed
    assert not check_nothing_leaked({"leakage": {"url": [{"url": "x"}]}}, evaluated).passed
    assert not check_nothing_leaked({}, made("evaluation_report", passed=False)).passed
    assert not check_nothing_leaked({}, None).passed
