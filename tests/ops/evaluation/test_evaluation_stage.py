"""The stage on a tiny model, and its resumption."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from smartdevdigest_ops.artifacts import ArtifactStore, Making
from smartdevdigest_ops.contracts import CrawlRecord, Difficulty, Digest, Label
from smartdevdigest_ops.corpus.read import read_split
from smartdevdigest_ops.digesting.model import DigestOutcome, write_digest_config
from smartdevdigest_ops.evaluation.gold import TestDocument, choose_documents
from smartdevdigest_ops.evaluation.models import rounded_model, unquantized_model
from smartdevdigest_ops.evaluation.systems import (
    CANDIDATE,
    LEAD3,
    RELEASE,
    UNQUANTIZED,
    UNTUNED_BASE,
    generated_answers,
)
from smartdevdigest_ops.settings import Settings, load_settings
from smartdevdigest_ops.stage import StageContext, StageError, plan_stage
from smartdevdigest_ops.training.trainer.run import CURVE_FILE


class StoppingDigester:
    """Answers with the document's first words in batches of two, and is killed after some batches."""

    def __init__(self, num_batches: int | None = None) -> None:
        self.num_batches = num_batches
        self.made: list[list[int]] = []

    def plan_batches(self, documents: Sequence[Any]) -> list[list[int]]:
        order = sorted(range(len(documents)), key=lambda index: len(documents[index].content))
        return [order[start : start + 2] for start in range(0, len(order), 2)]

    def digest_batch(self, documents: Sequence[Any], indices: Sequence[int]) -> list[Any]:
        if self.num_batches is not None and len(self.made) == self.num_batches:
            raise KeyboardInterrupt
        self.made.append(list(indices))
        return [DigestOutcome(index, _digest(documents[index]), None, 1.0, 9, 0.5) for index in indices]


def _digest(document: TestDocument) -> Digest:
    return Digest(
        summary=document.content[:40],
        keywords=[],
        difficulty_level=Difficulty.of(3.0),
        prerequisites=[],
        technical_terms=[],
        processing_time=1.23,
    )


def test_a_killed_generation_continues_after_its_last_whole_batch(
    tmp_path: Path, gold_documents: list[TestDocument]
) -> None:
    journal, documents = tmp_path / "digests.jsonl", gold_documents[:8]
    with pytest.raises(KeyboardInterrupt):
        generated_answers(CANDIDATE, StoppingDigester(2), documents, journal=journal)
    with journal.open("a", encoding="utf-8") as stream:
        stream.write('{"system": "candidate", "url": "cut of')
    resumed = StoppingDigester()
    answers = generated_answers(CANDIDATE, resumed, documents, journal=journal)
    whole = StoppingDigester()
    assert answers == generated_answers(CANDIDATE, whole, documents, journal=tmp_path / "other.jsonl")
    assert resumed.made == whole.made[2:]
    assert [answer.url for answer in answers] == [document.url for document in documents]
    assert all(answer.digest and "processing_time" not in answer.digest for answer in answers)


def _publish(store: ArtifactStore, asset: str, staged: Path, **inputs: str) -> str:
    artifact = store.publish(staged, asset)
    store.record(Making(asset, None, artifact.version, "0" * 16, inputs, {}, "1", {}, {}, {}, []))
    return artifact.version


@pytest.fixture
def upstream(
    tmp_path: Path,
    tiny_base_model: Path,
    tiny_adapter: Path,
    sample_documents: list[CrawlRecord],
    sample_labels: dict[str, Label],
    ci_settings: Settings,
) -> ArtifactStore:
    """A store with what the stage reads; the candidate is the tiny base model itself."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    store = ArtifactStore(ci_settings.store_dir)
    versions: dict[str, str] = {}
    for asset in ("base_model", "m1_checkpoint", "m2_adapter", "quantized_model"):
        staged = tmp_path / asset
        shutil.copytree(tiny_adapter if asset == "m2_adapter" else tiny_base_model, staged)
        if asset in ("m1_checkpoint", "m2_adapter"):
            (staged / CURVE_FILE).write_text('{"step": 1, "loss": 2.0}\n', encoding="utf-8")
        if asset == "quantized_model":
            write_digest_config(staged, ci_settings)
        versions[asset] = _publish(store, asset, staged, **versions if asset == "quantized_model" else {})
    labelled = [document for document in sample_documents if document.url in sample_labels]
    splits = {"train": labelled[10:40], "valid": labelled[8:10], "test": labelled[:8]}
    columns = ("url", "language", "title", "content", "source_type")
    for asset in ("corpus_snapshot", "labeled_pairs"):
        staged = tmp_path / asset
        staged.mkdir()
        for split, documents in splits.items():
            rows = [{name: getattr(d, name) for name in columns} | {"document_id": d.url} for d in documents]
            if asset == "labeled_pairs":
                rows = [row | {"label": sample_labels[row["url"]].model_dump_json()} for row in rows]
            pq.write_table(pa.Table.from_pylist(rows), staged / f"{split}.parquet")
        _publish(store, asset, staged)
    return store


def _other_model(store: ArtifactStore) -> str:
    """Version of a model like the candidate, which is not the current one."""
    current = store.current("quantized_model")
    assert current is not None
    staged = store.root / "staged-other-model"
    shutil.copytree(current.path, staged)
    (staged / "manifest.json").unlink()
    (staged / "notes.txt").write_text("earlier", encoding="utf-8")
    return store.publish(staged, "quantized_model").version


def _release(store: ArtifactStore, model: str, previous: str | None) -> str:
    staged = store.root / f"staged-release-{model}"
    staged.mkdir()
    text = json.dumps({"quantized_model": model, "previous": previous})
    (staged / "release.json").write_text(text, encoding="utf-8")
    artifact = store.publish(staged, "release")
    store.record(Making("release", None, artifact.version, f"{len(model):016x}", {}, {}, "1", {}, {}, {}, []))
    return artifact.version


def test_a_release_of_another_model_makes_the_report_stale_and_the_release_of_its_own_candidate_does_not(
    upstream: ArtifactStore, ci_settings: Settings
) -> None:
    first = plan_stage("evaluation_report", ci_settings)
    assert not first.outside
    earlier = _release(upstream, _other_model(upstream), previous=None)
    compared = plan_stage("evaluation_report", ci_settings)
    assert set(compared.outside) == {"file:release.json"}
    assert compared.fingerprint != first.fingerprint
    candidate = upstream.current("quantized_model")
    assert candidate is not None
    _release(upstream, candidate.version, previous=earlier)
    assert plan_stage("evaluation_report", ci_settings).fingerprint == compared.fingerprint


def test_other_files_of_a_judge_of_this_machine_make_the_report_stale(
    upstream: ArtifactStore, tmp_path: Path, tiny_base_model: Path
) -> None:
    judge = tmp_path / "judge"
    shutil.copytree(tiny_base_model, judge)
    settings = load_settings(
        "ci",
        overrides={
            "store": {"root": str(tmp_path / "store")},
            "evaluation": {"judge": {"teacher": "local", "local": {"model": str(judge)}}},
        },
    )
    first = plan_stage("evaluation_report", settings)
    assert "file:config.json" in first.outside
    (judge / "tokenizer_config.json").write_text("{}", encoding="utf-8")
    assert plan_stage("evaluation_report", settings).fingerprint != first.fingerprint


def test_an_adapter_that_the_candidate_was_not_made_from_is_not_taken_for_it(
    upstream: ArtifactStore, ci_settings: Settings, tmp_path: Path
) -> None:
    def context() -> StageContext:
        inputs = {asset: upstream.current(asset) for asset in ("m1_checkpoint", "m2_adapter", "quantized_model")}
        return StageContext(ci_settings, inputs, tmp_path, tmp_path, upstream, None, print)

    assert isinstance(unquantized_model(context()), Path)
    before = upstream.current("m2_adapter")
    assert before is not None
    shutil.copytree(before.path, tmp_path / "later")
    (tmp_path / "later" / "manifest.json").unlink()
    (tmp_path / "later" / "notes.txt").write_text("later", encoding="utf-8")
    later = _publish(upstream, "m2_adapter", tmp_path / "later")
    why = f"the candidate was made from m2_adapter {before.version}, and {later} is the current one"
    assert unquantized_model(context()) == why


def test_the_layers_that_the_candidate_packed_are_rounded_in_what_it_was_made_from(
    upstream: ArtifactStore, ci_settings: Settings, tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    from smartdevdigest_ops.quantization.rounding import round_to_nearest

    names = ("m1_checkpoint", "m2_adapter", "quantized_model")
    packed = tmp_path / "packed"
    packed.mkdir()
    quantization = {"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": True}
    (packed / "config.json").write_text(json.dumps({"quantization_config": quantization}), encoding="utf-8")
    layer = "model.layers.1.mlp.up_proj"
    save_file({f"{layer}.qweight": torch.zeros(1, dtype=torch.int32)}, packed / "model.safetensors")
    versions = {asset: artifact.version for asset in names if (artifact := upstream.current(asset))}
    _publish(upstream, "quantized_model", packed, **versions)
    inputs = {asset: upstream.current(asset) for asset in names}
    context = StageContext(ci_settings, inputs, tmp_path, tmp_path, upstream, None, print)
    rounded, unquantized = rounded_model(context), unquantized_model(context)
    assert isinstance(rounded, Path)
    assert isinstance(unquantized, Path)
    before, after = (load_file(directory / "model.safetensors") for directory in (unquantized, rounded))
    assert [name for name in before if not torch.equal(before[name], after[name])] == [f"{layer}.weight"]
    nearest = round_to_nearest(before[f"{layer}.weight"].float(), bits=4, group_size=32, symmetric=True)
    assert torch.equal(after[f"{layer}.weight"].float(), nearest)
    (rounded / "kept.txt").touch()
    assert rounded_model(context) == rounded  # a killed making takes it up
    assert (rounded / "kept.txt").is_file()


def _candidate_alone(tmp_path: Path, **changes: Any) -> Settings:
    """Settings under which no model but the candidate generates."""
    switched_off = dict.fromkeys(("unquantized", "rounded", "untuned_base", "m1_without_m2", "previous_release"), False)
    overrides = {"store": {"root": str(tmp_path / "store")}, "evaluation": switched_off | changes}
    return load_settings("ci", overrides=overrides)


def test_gold_files_decide_whether_the_report_is_up_to_date_and_a_missing_one_is_named(
    upstream: ArtifactStore, tmp_path: Path
) -> None:
    gold = tmp_path / "levels.jsonl"
    settings = _candidate_alone(tmp_path, gold_levels=str(gold))
    with pytest.raises(StageError, match=r"needs the file .*levels\.jsonl, which is not there"):
        plan_stage("evaluation_report", settings)
    gold.write_text('{"url": "https://a.example/x", "level": 2}\n', encoding="utf-8")
    first = plan_stage("evaluation_report", settings)
    assert set(first.outside) == {"file:levels.jsonl"}
    gold.write_text('{"url": "https://a.example/x", "level": 3}\n', encoding="utf-8")
    assert plan_stage("evaluation_report", settings).fingerprint != first.fingerprint


@pytest.mark.slow
def test_the_stage_reports_against_the_teacher_and_against_people_with_one_answer_a_document(
    upstream: ArtifactStore, tmp_path: Path, run: Callable[..., Making]
) -> None:
    labels = upstream.current("labeled_pairs")
    assert labels is not None
    rows = read_split(labels.path, "test")
    labelled = {document.url for document in choose_documents(rows, 2)}
    both = next(url for url in sorted(labelled))
    other = next(row["url"] for row in rows if row["url"] not in labelled)
    gold = tmp_path / "summaries.jsonl"
    urls = (both, other, "https://elsewhere.example/x")
    gold.write_text(
        "".join(json.dumps({"url": url, "summary": "A person wrote this."}) + "\n" for url in urls), encoding="utf-8"
    )
    settings = _candidate_alone(tmp_path, max_documents=2, gold_summaries=str(gold))
    making = run("evaluation_report", settings)
    directory = upstream.open("evaluation_report", making.version).path
    report = json.loads((directory / "report.json").read_text(encoding="utf-8"))
    assert report["origin"] == "teacher"
    assert sum(report["num_documents"].values()) == 2
    human = report["other_origins"]["human"]
    assert sum(human["num_documents"].values()) == 2
    for by_system in human["languages"].values():
        assert "rougeL" in by_system[CANDIDATE]
        assert "keyword_f1" not in by_system[CANDIDATE]  # people gave none
        assert "difficulty_mae" not in by_system[CANDIDATE]
    assert report["generation"][CANDIDATE]["num_documents"] == 3
    digests = [json.loads(line) for line in (directory / "digests.jsonl").read_text(encoding="utf-8").splitlines()]
    answered = [digest["url"] for digest in digests if digest["system"] == CANDIDATE]
    assert sorted(answered) == sorted(labelled | {other})
    assert report["coverage"]["gold summaries without a test document"] == 1
    assert "Against gold of another origin: human" in making.notes["markdown"]
    assert making.metrics["num_documents_human"] == 2
    seconds = making.metrics["seconds_per_document_candidate"]
    assert seconds > 0
    assert f"| {report['systems'][CANDIDATE]} | {seconds:.2f} |" in making.notes["markdown"]
    assert not any("seconds" in name for name in report["generation"][CANDIDATE])
    assert "seconds" not in digests[0]
    page = (directory / "report.html").read_text(encoding="utf-8")
    assert "gold summaries without a test document: 1" in page


@pytest.mark.slow
def test_the_stage_measures_every_system_and_stage_and_comes_out_the_same_again(
    upstream: ArtifactStore, ci_settings: Settings, run: Callable[..., Making]
) -> None:
    _release(upstream, _other_model(upstream), previous=None)
    making = run("evaluation_report", ci_settings)
    artifact = upstream.open("evaluation_report", making.version)
    assert set(artifact.files) == {"report.json", "report.html", "digests.jsonl"}
    report = json.loads((artifact.path / "report.json").read_text(encoding="utf-8"))
    models = {CANDIDATE, UNQUANTIZED, RELEASE, UNTUNED_BASE}
    assert set(report["systems"]) == models | {LEAD3, "textrank", "majority", "readability"}
    assert report["systems_not_run"] == {
        "m1": "switched off in the settings",
        "rounded": "the candidate holds no packed layer",
    }
    assert set(report["judge"]) == {"not_run"}
    assert not any(name.startswith("judge") for name in making.metrics)
    # The candidate is the base model here, asked alike, and its unquantized self has an adapter merged.
    for by_system in report["languages"].values():
        assert by_system[CANDIDATE] == by_system[UNTUNED_BASE] == by_system[RELEASE]
    assert report["bits_per_byte"]["base_model"] == report["bits_per_byte"]["quantized_model"]
    assert report["bits_per_byte"][UNQUANTIZED] != report["bits_per_byte"]["quantized_model"]
    assert set(report["quantization"]) == set(report["languages"])
    assert report["training_curves"]["m2_adapter"] == [{"step": 1, "loss": 2.0}]
    assert making.notes["markdown"].count("data:image/png;base64,") == len(report["languages"])
    failed = {check["name"] for check in making.checks if not check["passed"]}
    assert failed <= {"candidate_beats_lead3"}
    assert making.metrics["num_documents"] == sum(report["num_documents"].values())
    assert making.metrics["valid_json_rate"] == 1.0
    assert "rougeL_ko" in making.metrics or "rougeL_en" in making.metrics

    home = artifact.path.parent
    shutil.rmtree(home / "makings")
    shutil.rmtree(artifact.path)
    assert run("evaluation_report", ci_settings).version == making.version
