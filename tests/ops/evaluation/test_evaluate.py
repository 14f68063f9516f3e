import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from judge_server import JudgeEndpoint

from smartdevdigest_ops.artifacts import ArtifactStore, Making
from smartdevdigest_ops.contracts import CrawlRecord, Label
from smartdevdigest_ops.evaluation.errors import EvaluationError
from smartdevdigest_ops.evaluation.evaluate import evaluate, write_report
from smartdevdigest_ops.evaluation.evaluate_files import evaluate_files
from smartdevdigest_ops.evaluation.gold import TestDocument
from smartdevdigest_ops.evaluation.metrics.names import METRIC_TITLES
from smartdevdigest_ops.evaluation.metrics.scores import document_scores
from smartdevdigest_ops.evaluation.statistics.intervals import Bootstrap
from smartdevdigest_ops.evaluation.systems import CANDIDATE, LEAD3, UNTUNED_BASE, Answer
from smartdevdigest_ops.settings import Settings, load_settings

BOOTSTRAP = Bootstrap(num_samples=100, confidence=0.95, seed=17)
Report = dict[str, Any]
UNDEFINED = {"absent_terms", "unsupported_code", "unsupported_numbers", "unsupported_names"}
AGAINST_GOLD_SUMMARIES = {"rouge1", "rouge2", "rougeL", "rougeLsum", "bleu", "chrf_plus_plus"}


@pytest.fixture(scope="module")
def report(gold_documents: list[TestDocument], answers_of_systems: dict[str, list[Answer]]) -> Report:
    return evaluate(gold_documents, answers_of_systems, bootstrap=BOOTSTRAP)


def test_every_language_and_system_has_every_metric_with_its_interval(report: Report) -> None:
    assert set(report["languages"]) == {"en", "ko"}
    for by_system in report["languages"].values():
        assert set(by_system) == {CANDIDATE, UNTUNED_BASE, LEAD3}
        for by_name in by_system.values():
            assert set(by_name) == set(METRIC_TITLES)
            for name, entry in by_name.items():
                assert entry["n"] == 12
                # Without terms in any answer there is no share of them.
                assert name in UNDEFINED if entry["mean"] is None else entry["low"] <= entry["high"]


def test_a_better_system_is_shown_to_be_better_by_paired_intervals(report: Report) -> None:
    for language in ("en", "ko"):
        assert report["comparisons"][language][LEAD3]["rougeL"]["low"] > 0
        assert report["comparisons"][language][LEAD3]["difficulty_mae"]["mean"] < 0
    assert "Against Lead-3, en: better in ROUGE-L (+" in report["verdict"]


def test_a_system_compared_with_its_equal_shows_no_difference(
    gold_documents: list[TestDocument], answers_of_systems: dict[str, list[Answer]]
) -> None:
    same = {CANDIDATE: answers_of_systems[CANDIDATE], LEAD3: answers_of_systems[CANDIDATE]}
    report = evaluate(gold_documents, same, bootstrap=BOOTSTRAP)
    same = {"mean": 0.0, "low": 0.0, "high": 0.0, "n": 12, "p": 1.0, "p_holm": 1.0}
    assert report["comparisons"]["ko"][LEAD3]["rougeL"] == same
    assert "Against Lead-3, ko: no difference shown in ROUGE-L (+0.000 [+0.000, +0.000])" in report["verdict"]


def test_a_document_without_an_answer_scores_worst_in_everything(gold_documents: list[TestDocument]) -> None:
    document = gold_documents[0]
    scores = document_scores(document, Answer(CANDIDATE, document.url, None, False))
    assert document.gold.difficulty is not None
    error = max(document.gold.difficulty - 1, 5 - document.gold.difficulty)
    assert scores.pop("difficulty_mae") == pytest.approx(error)
    assert set(scores.values()) == {0.0}


def test_results_by_teacher_labels_and_by_people_stay_apart(
    gold_documents: list[TestDocument], answers_of_systems: dict[str, list[Answer]]
) -> None:
    by_people = [replace(document, gold=replace(document.gold, origin="human")) for document in gold_documents[:5]]
    report = evaluate([*by_people, *gold_documents[5:]], answers_of_systems, bootstrap=BOOTSTRAP)
    assert report["origin"] == "teacher"
    assert report["num_documents"] == {"en": 7, "ko": 12}
    assert report["languages"]["en"][CANDIDATE]["rougeL"]["n"] == 7
    human = report["other_origins"]["human"]
    assert human["num_documents"] == {"en": 5}
    alone = evaluate(by_people, {s: given[:5] for s, given in answers_of_systems.items()}, bootstrap=BOOTSTRAP)
    assert alone["origin"] == "human"
    assert alone["languages"]["en"] == human["languages"]["en"]


def test_near_duplicates_count_as_one_document_in_the_uncertainty(
    gold_documents: list[TestDocument], answers_of_systems: dict[str, list[Answer]]
) -> None:
    clustered = [replace(document, cluster=str(index // 6)) for index, document in enumerate(gold_documents)]
    report = evaluate(clustered, answers_of_systems, bootstrap=BOOTSTRAP)
    assert report["num_clusters"] == {"en": 2, "ko": 2}
    assert report["small_sample_warnings"][0].startswith("en: 2 clusters of them.")


def test_fewer_than_ten_documents_are_flagged(gold_documents: list[TestDocument], report: Report) -> None:
    assert report["small_sample_warnings"] == []
    few = gold_documents[:3]
    answers = {system: [Answer(system, d.url, None, False) for d in few] for system in (CANDIDATE, LEAD3)}
    assert evaluate(few, answers, bootstrap=BOOTSTRAP)["small_sample_warnings"][0].startswith("en: 3 documents.")


def test_the_worst_digests_come_with_the_document_they_are_of(report: Report) -> None:
    worst = [entry for entry in report["worst_digests"] if entry["language"] == "ko"]
    assert len(worst) == 5
    scores = [entry["scores"]["rougeL"] for entry in worst]
    assert scores == sorted(scores)
    assert all(entry["excerpt"] and entry["gold_summary"] and entry["digest"] for entry in worst)


def test_files_of_equal_reports_are_equal_byte_for_byte(
    tmp_path: Path, report: Report, answers_of_systems: dict[str, list[Answer]], gold_documents: list[TestDocument]
) -> None:
    write_report(tmp_path / "a", report, answers_of_systems)
    again = evaluate(gold_documents, answers_of_systems, bootstrap=BOOTSTRAP)
    write_report(tmp_path / "b", again, answers_of_systems)
    for name in ("report.json", "report.html", "digests.jsonl"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def _write(path: Path, values: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values), encoding="utf-8")
    return path


@pytest.fixture
def files(
    tmp_path: Path, sample_documents: list[CrawlRecord], sample_labels: dict[str, Label]
) -> Callable[..., tuple[Path, Path, Path]]:
    """`files(num_summaries, num_levels)`: three documents and one bad record, with gold for the first of them."""

    def write(num_summaries: int, num_levels: int) -> tuple[Path, Path, Path]:
        labelled = [document for document in sample_documents if document.url in sample_labels][:3]
        records = [document.model_dump(exclude={"extra"}) for document in labelled]
        elsewhere = "https://elsewhere.example/x"
        summaries = [{"url": d.url, "summary": sample_labels[d.url].summary} for d in labelled[:num_summaries]]
        levels = [{"url": d.url, "level": "intermediate"} for d in labelled[:num_levels]]
        return (
            _write(tmp_path / "documents.jsonl", [*records, {"url": "bad"}]),
            _write(tmp_path / "summaries.jsonl", [*summaries, {"url": elsewhere, "summary": "x"}]),
            _write(tmp_path / "levels.jsonl", [*levels, {"url": elsewhere, "level": "beginner"}]),
        )

    return write


@pytest.fixture(scope="session")
def tiny_digester_dir(tiny_base_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with the `ci` profile's digest settings beside it."""
    from smartdevdigest_ops.digesting.model import write_digest_config
    from smartdevdigest_ops.evaluation.systems import DIGEST_CONFIG, with_settings_of

    settings_dir = tmp_path_factory.mktemp("settings")
    write_digest_config(settings_dir, load_settings("ci"))
    assert (settings_dir / DIGEST_CONFIG).is_file()
    return with_settings_of(settings_dir, tiny_base_model, tmp_path_factory.mktemp("tiny_digester"))


def test_a_model_is_evaluated_on_files_and_everything_left_out_is_counted(
    tmp_path: Path, files: Callable[..., tuple[Path, Path, Path]], tiny_digester_dir: Path, ci_settings: Settings
) -> None:
    documents, summaries, levels = files(1, 2)
    report = evaluate_files(documents, summaries, levels, tiny_digester_dir, tmp_path / "out", ci_settings)
    assert report["coverage"] == {
        "records refused": 1,
        "records of a URL again": 0,
        "documents without gold": 1,
        "gold summaries without a document": 1,
        "gold difficulties without a document": 1,
    }
    assert sum(report["num_documents"].values()) == 2
    assert report["valid_json_rate"][CANDIDATE]["mean"] == 1.0
    numbers = [m["candidate"]["rougeL"]["n"] for m in report["languages"].values() if "rougeL" in m["candidate"]]
    assert sum(numbers) == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["digests.jsonl", "report.html", "report.json"]
    assert set(report["systems"]) == {CANDIDATE, LEAD3, "textrank"}
    assert report["leakage"] is None  # the store holds no training data


def _write_as(suffix: str, directory: Path, jsonl: Path) -> Path:
    """The records of a JSON Lines file, in a file of another format of the crawl contract."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    written = directory / f"as{suffix}"
    records = [json.loads(line) for line in jsonl.read_text(encoding="utf-8").splitlines()]
    if suffix == ".jsonl.gz":
        written.write_bytes(gzip.compress(jsonl.read_bytes()))
    elif suffix == ".json":
        written.write_text(json.dumps(records, indent=2), encoding="utf-8")
    else:
        pq.write_table(pa.Table.from_pylist(records), written)
    return written


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".json", ".parquet"])
def test_documents_may_come_compressed_as_an_array_or_as_parquet(
    tmp_path: Path,
    files: Callable[..., tuple[Path, Path, Path]],
    ci_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    suffix: str,
) -> None:
    found: list[list[TestDocument]] = []
    monkeypatch.setattr(
        "smartdevdigest_ops.evaluation.evaluate_files.attach_gold", lambda documents, *_: found.append(documents) or []
    )
    documents, summaries, levels = files(2, 2)
    for file in (documents, _write_as(suffix, tmp_path, documents)):
        with pytest.raises(EvaluationError, match="none of its 3 documents has gold"):  # the bad record is refused
            evaluate_files(file, summaries, levels, tmp_path, tmp_path / "out", ci_settings)
    assert found[0] == found[1]


def test_files_are_judged_as_the_graph_judges_with_the_stores_labels_and_beside_another_model(
    tmp_path: Path,
    files: Callable[..., tuple[Path, Path, Path]],
    tiny_digester_dir: Path,
    ci_settings: Settings,
    sample_documents: list[CrawlRecord],
    sample_labels: dict[str, Label],
) -> None:
    documents, summaries, levels = files(2, 2)
    _publish_train_split(ArtifactStore(ci_settings.store_dir), tmp_path, sample_documents, sample_labels)
    out = tmp_path / "out"
    report = evaluate_files(
        documents, summaries, levels, tiny_digester_dir, out, ci_settings, against=tiny_digester_dir
    )
    assert set(report["systems"]) == {CANDIDATE, "other", LEAD3, "textrank", "majority", "readability"}
    for language, by_system in report["languages"].items():
        assert by_system[CANDIDATE] == by_system["other"]
        assert report["comparisons"][language]["other"]["rougeL"]["mean"] == 0
    assert report["origin"] == "human"
    # The two documents are in the train split of this store.
    assert len(report["leakage"]["url"]) == 2


def test_files_are_judged_by_the_judge_of_the_settings_and_judged_again_at_no_cost(
    tmp_path: Path,
    files: Callable[..., tuple[Path, Path, Path]],
    tiny_digester_dir: Path,
    judge_endpoint: JudgeEndpoint,
    judge_settings: Callable[..., dict[str, Any]],
) -> None:
    settings = load_settings(
        "ci",
        overrides={
            "store": {"root": str(tmp_path / "store")},
            "evaluation": {"judge": judge_settings(dimensions=["coverage"])},
        },
    )
    lines: list[str] = []

    def judged(out: str) -> Report:
        return evaluate_files(*files(2, 2), tiny_digester_dir, tmp_path / out, settings, log=lines.append)

    report = judged("out")
    num_requests = len(judge_endpoint.bodies)
    assert num_requests > 0
    assert report["judge"]["origin"] == "human"
    for by_system in report["judge"]["scores"].values():
        assert set(by_system) == {CANDIDATE, LEAD3}
    assert any(line.startswith("judge judge-model:") for line in lines)
    assert judged("again")["judge"] == report["judge"]
    assert len(judge_endpoint.bodies) == num_requests


def _publish_train_split(
    store: ArtifactStore, scratch: Path, documents: list[CrawlRecord], labels: dict[str, Label]
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    staged = scratch / "labeled_pairs"
    staged.mkdir()
    columns = ("url", "language", "title", "content")
    rows = [
        {name: getattr(d, name) for name in columns} | {"label": labels[d.url].model_dump_json()}
        for d in documents
        if d.url in labels
    ]
    pq.write_table(pa.Table.from_pylist(rows), staged / "train.parquet")
    artifact = store.publish(staged, "labeled_pairs")
    store.record(Making("labeled_pairs", None, artifact.version, "0" * 16, {}, {}, "1", {}, {}, {}, []))


def test_either_gold_may_be_absent(
    tmp_path: Path, files: Callable[..., tuple[Path, Path, Path]], tiny_digester_dir: Path, ci_settings: Settings
) -> None:
    documents, _, levels = files(1, 1)
    report = evaluate_files(documents, None, levels, tiny_digester_dir, tmp_path / "out", ci_settings)
    (by_system,) = report["languages"].values()
    assert "difficulty_mae" in by_system[CANDIDATE]
    assert not AGAINST_GOLD_SUMMARIES & set(by_system[CANDIDATE])


def test_without_any_gold_the_error_says_which_options_give_it(
    tmp_path: Path, files: Callable[..., tuple[Path, Path, Path]], ci_settings: Settings
) -> None:
    documents, _, _ = files(0, 0)
    with pytest.raises(EvaluationError, match="--gold-summaries"):
        evaluate_files(documents, None, None, tmp_path, tmp_path / "out", ci_settings)


def test_gold_of_other_documents_only_is_an_error(
    tmp_path: Path, files: Callable[..., tuple[Path, Path, Path]], ci_settings: Settings
) -> None:
    documents, summaries, levels = files(0, 0)
    with pytest.raises(EvaluationError, match="none of its 3 documents has gold: the gold files name 1 URLs"):
        evaluate_files(documents, summaries, levels, tmp_path, tmp_path / "out", ci_settings)
