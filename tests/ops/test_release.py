import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smartdevdigest_ops.artifacts import Artifact, ArtifactError, ArtifactStore, Making
from smartdevdigest_ops.release import ReleaseError, check_artifacts_exist, decide, read_release, release_before
from smartdevdigest_ops.settings import Settings, load_settings

Run = Callable[..., Making]


def _entry(mean: float, width: float = 0.01, n: int = 30) -> dict[str, Any]:
    return {"mean": mean, "low": mean - width, "high": mean + width, "n": n}


def _report(rouge: float = 0.3, keywords: float = 0.4, error: float = 0.8, valid: float = 1.0) -> dict[str, Any]:
    fields = {"rougeL": _entry(rouge), "keyword_f1": _entry(keywords), "difficulty_mae": _entry(error)}
    return {
        "languages": {language: {"candidate": fields} for language in ("en", "ko")},
        "valid_json_rate": {"candidate": _entry(valid, 0.0)},
    }


class Graph:
    """A scratch store in which candidates are published and taken to the gate."""

    def __init__(self, root: Path, run: Run) -> None:
        self.store = ArtifactStore(root / "store")
        self.settings = self.with_fields("rougeL", "keyword_f1", "difficulty_mae")
        self._run = run
        self._scratch = root
        self._count = 0

    def with_fields(self, *fields: str) -> Settings:
        release = {"fields": fields, "tolerance": 0.02}
        return load_settings("ci", overrides={"store": {"root": str(self.store.root)}, "release": release})

    def publish(self, asset: str, name: str, content: str) -> Artifact:
        self._count += 1
        staged = self._scratch / f"staged-{self._count}"
        staged.mkdir()
        (staged / name).write_text(content, encoding="utf-8")
        artifact = self.store.publish(staged, asset)
        self.store.record(Making(asset, None, artifact.version, f"{self._count:016x}", {}, {}, "1", {}, {}, {}, []))
        return artifact

    def gate(self, model: str, settings: Settings | None = None, **figures: float) -> tuple[Making, dict[str, Any]]:
        self.publish("quantized_model", "weights.txt", model)
        self.publish("evaluation_report", "report.json", json.dumps(_report(**figures)))
        making = self._run("release", settings or self.settings)
        return making, read_release(self.store.open("release", making.version))


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
    assert making.metrics == {"accepted": 1.0, "num_compared_fields": 0.0}
    assert graph.store.current("release").version == making.version


def test_a_first_candidate_with_an_invalid_output_is_refused_and_there_is_no_release(graph: Graph) -> None:
    making, release = graph.gate("first", valid=0.9)
    message = _check(making, "gate_passes")["message"]
    assert not release["accepted"]
    assert "there is no release: valid JSON rate 0.900, at least 1.000 needed" in message
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
    message = _check(making, "gate_passes")["message"]
    assert not _check(making, "gate_passes")["passed"]
    assert "rougeL en: candidate 0.250 [0.240, 0.260] on 30 documents, release 0.300 on 30" in message
    assert "rougeL ko" in message
    assert f"model {release['quantized_model']} stays the release" in message
    assert making.version == first.version
    assert making.metrics["accepted"] == 0.0


def test_a_larger_error_is_worse_although_the_figure_is_higher(graph: Graph) -> None:
    graph.gate("first")
    refused, _ = graph.gate("second", error=0.9)
    assert not _check(refused, "gate_passes")["passed"]
    accepted, _ = graph.gate("third", error=0.5)
    assert _check(accepted, "gate_passes")["passed"]


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
    assert _check(again, "gate_passes")["passed"]


def test_a_field_that_the_report_does_not_hold_is_refused_with_those_it_does(graph: Graph) -> None:
    with pytest.raises(ReleaseError, match=r"release\.fields names bertscore.*Fields there: rougeL, keyword_f1"):
        graph.gate("first", settings=graph.with_fields("bertscore"))


def test_a_damaged_model_is_never_released(graph: Graph) -> None:
    graph.publish("evaluation_report", "report.json", json.dumps(_report()))
    model = graph.publish("quantized_model", "weights.txt", "first")
    (model.path / "weights.txt").write_text("tampe", encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"weights\.txt"):
        graph._run("release", graph.settings)


@pytest.mark.parametrize(("text", "passes"), [("first", True), ("tampe", False)])
def test_the_check_that_the_artifacts_exist_reads_their_files(graph: Graph, text: str, passes: bool) -> None:
    report = graph.publish("evaluation_report", "report.json", json.dumps(_report()))
    model = graph.publish("quantized_model", "weights.txt", "first")
    (model.path / "weights.txt").write_text(text, encoding="utf-8")
    release = {"quantized_model": model.version, "evaluation_report": report.version}
    result = check_artifacts_exist(ArtifactStore(graph.settings.store_dir), release)
    assert result.passed is passes
    assert ("weights.txt" in result.message) is not passes


def test_a_language_that_is_no_longer_measured_fails_the_gate() -> None:
    old = {"ko": {"rougeL": _entry(0.3)}, "en": {"rougeL": _entry(0.3)}}
    verdict = decide(1.0, {"en": {"rougeL": _entry(0.3)}}, old, min_valid_json_rate=1.0, tolerance=0.02)
    assert not verdict.passed
    assert "rougeL ko" in verdict.reasons[0]


def test_the_bound_itself_passes_and_below_it_fails() -> None:
    old = {"ko": {"rougeL": _entry(0.3)}}
    for high, passes in ((0.28, True), (0.2799, False)):
        new = {"ko": {"rougeL": {"mean": 0.2, "low": 0.1, "high": high, "n": 5}}}
        assert decide(1.0, new, old, min_valid_json_rate=1.0, tolerance=0.02).passed is passes
