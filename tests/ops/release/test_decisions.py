from pathlib import Path

import pytest
from release_samples import Graph, Run

from smartdevdigest_ops.artifacts import ArtifactError
from smartdevdigest_ops.cli import main
from smartdevdigest_ops.lineage.ancestry import ancestry_lines, find_version
from smartdevdigest_ops.release import ReleaseError, read_release, release_before, released_model
from smartdevdigest_ops.release.decisions import promote, roll_back
from smartdevdigest_ops.stage import is_fresh
from smartdevdigest_ops.stage.demand import demand_for_inputs


@pytest.fixture
def graph(tmp_path: Path, run: Run) -> Graph:
    return Graph(tmp_path, run)


def models(graph: Graph, *names: str) -> list[str]:
    """Versions of models that were released one after the other."""
    return [graph.gate(name)[1]["quantized_model"] for name in names]


def served(graph: Graph) -> str:
    return released_model(graph.store).version


def test_a_rollback_serves_the_model_before_and_says_why(graph: Graph) -> None:
    first, second = models(graph, "first", "second")
    before = graph.store.current("release")
    making = roll_back(graph.settings, None, "answers in the wrong language")
    release = read_release(graph.store.current("release"))
    assert served(graph) == first
    assert release["previous"] == before.version
    decision = making.notes["decision"]
    assert (decision["by"], decision["from"], decision["to"]) == ("rollback", second, first)
    assert decision["why"] == "answers in the wrong language"
    assert decision["when"] == making.created
    assert list(release["set_aside"]) == [second]
    told = "\n".join(ancestry_lines(graph.store, find_version(graph.store, "release")))
    assert "answers in the wrong language" in told
    assert f"quantized_model@{first}" in told
    assert release_before(graph.store, second).version == making.version


def test_after_a_rollback_nothing_is_due_until_there_is_a_new_candidate(graph: Graph) -> None:
    first, second = models(graph, "first", "second")
    roll_back(graph.settings, None, "why")
    assert is_fresh("release", graph.settings)
    assert demand_for_inputs("release", graph.settings) is None
    graph._run("release", graph.settings)  # as the job `refresh` does, which decides again
    assert served(graph) == first
    graph.publish("quantized_model", "weights.txt", "third")
    assert not is_fresh("release", graph.settings)
    third = graph.gate("third")[1]["quantized_model"]
    assert served(graph) == third
    assert list(read_release(graph.store.current("release"))["set_aside"]) == [second]


def test_the_model_that_was_set_aside_is_not_released_by_a_new_report_or_other_settings(graph: Graph) -> None:
    first, second = models(graph, "first", "second")
    roll_back(graph.settings, None, "why")
    making, _ = graph.gate("second", rouge=0.9, settings=graph.with_fields("rougeL"))
    assert served(graph) == first
    assert making.passed_gates  # nothing failed: somebody decided so
    assert making.metrics["accepted"] == 0
    assert f"release --promote {second}" in making.notes["markdown"]
    assert making.notes["decision"]["by"] == "rollback"


def test_a_promotion_serves_a_refused_candidate_and_survives_the_next_run(graph: Graph) -> None:
    (first,) = models(graph, "first")
    graph.gate("worse", rouge=0.1)
    worse = graph.store.current_making("quantized_model").version
    assert served(graph) == first
    promote(graph.settings, worse, "shorter summaries are wanted")
    assert served(graph) == worse
    assert is_fresh("release", graph.settings)
    graph._run("release", graph.settings)
    assert served(graph) == worse
    promote(graph.settings, first, "and back")
    assert list(read_release(graph.store.current("release"))["set_aside"]) == [worse]


def test_a_rollback_goes_to_the_release_or_model_that_is_named(graph: Graph) -> None:
    first, second, third = models(graph, "first", "second", "third")
    roll_back(graph.settings, first, "why")
    assert served(graph) == first
    roll_back(graph.settings, third, "why")
    assert served(graph) == third
    with pytest.raises(ReleaseError, match=f"Models released before: {first}, {second}"):
        roll_back(graph.settings, "0" * 16, "why")


@pytest.mark.parametrize("case", ["no reason", "served already", "gone", "damaged", "never evaluated"])
def test_a_decision_that_cannot_be_carried_out_changes_nothing(graph: Graph, case: str) -> None:
    first, second = models(graph, "first", "second")
    before = graph.store.current("release")
    target, why = first, "why"
    if case == "no reason":
        why = " "
    elif case == "served already":
        target = second
    elif case == "gone":
        target = "0" * 16
    elif case == "damaged":
        (graph.store.open("quantized_model", first).path / "weights.txt").write_text("tampe")
    else:
        target = graph.publish("quantized_model", "weights.txt", "fourth").version
    with pytest.raises((ReleaseError, ArtifactError)):
        promote(graph.settings, target, why)
    assert graph.store.current("release") == before


def test_the_command_tells_the_history_and_rolls_back(graph: Graph, monkeypatch, capsys) -> None:
    monkeypatch.setenv("SMARTDEVDIGEST_STORE", str(graph.store.root))
    monkeypatch.setenv("SMARTDEVDIGEST_PROFILE", "ci")
    first, second = models(graph, "first", "second")
    assert main(["release", "--rollback", "--why", "too slow"]) == 0
    assert f"rollback: {second} -> {first}" in capsys.readouterr().out
    assert main(["release"]) == 0
    told = capsys.readouterr().out.split("\n")
    assert told[0].endswith(f"(current): model {first}")
    assert "by rollback: too slow" in told[1]
    assert sum(line.startswith("release ") for line in told) == 3
    assert any(line.startswith(f"set aside: model {second}") and line.endswith("too slow") for line in told)
    assert main(["release", "--promote", second]) == 2
    assert "needs its reason" in capsys.readouterr().err
