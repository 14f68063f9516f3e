"""The stage on a tiny model, its checks passing and failing, and its resumption."""

import copy
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
from smartdevdigest_ops.evaluation.checks import (
    check_candidate_beats_lead3,
    check_every_metric_has_an_interval,
    check_korean_rouge,
    check_no_test_document_in_train,
    check_outputs_are_valid,
)
from smartdevdigest_ops.evaluation.evaluate import evaluate
from smartdevdigest_ops.evaluation.gold import TestDocument, choose_documents
from smartdevdigest_ops.evaluation.leakage import audit_leakage
from smartdevdigest_ops.evaluation.metrics.compression import (
    MeasuredText,
    bits_per_byte_by_language,
    choose_texts,
    document_bits,
)
from smartdevdigest_ops.evaluation.metrics.overlap import korean_self_check
from smartdevdigest_ops.evaluation.models import rounded_model, unquantized_model
from smartdevdigest_ops.evaluation.statistics.intervals import Bootstrap
from smartdevdigest_ops.evaluation.systems import (
    CANDIDATE,
    LEAD3,
    RELEASE,
    UNQUANTIZED,
    UNTUNED_BASE,
    Answer,
    generated_answers,
)
from smartdevdigest_ops.settings import Settings, load_settings
from smartdevdigest_ops.stage import StageContext, StageError, plan_stage
from smartdevdigest_ops.training.trainer.run import CURVE_FILE

BOOTSTRAP = Bootstrap(num_samples=100, confidence=0.95, seed=17)
Report = dict[str, Any]


@pytest.fixture(scope="module")
def report(gold_documents: list[TestDocument], answers_of_systems: dict[str, list[Answer]]) -> Report:
    return evaluate(gold_documents, answers_of_systems, bootstrap=BOOTSTRAP)


def test_every_check_passes_on_a_good_candidate(report: Report, gold_documents: list[TestDocument]) -> None:
    elsewhere = [{"url": "https://a.example/other", "content": "another document"}]
    for result in (
        check_outputs_are_valid(report),
        check_every_metric_has_an_interval(report),
        check_korean_rouge(*korean_self_check()),
        check_candidate_beats_lead3(report),
        check_no_test_document_in_train(report | {"leakage": audit_leakage(gold_documents, elsewhere)}),
    ):
        assert result.passed, result.message


def test_one_invalid_answer_fails_the_validity_check(
    gold_documents: list[TestDocument], answers_of_systems: dict[str, list[Answer]]
) -> None:
    invalid = Answer(CANDIDATE, gold_documents[0].url, None, False)
    answers = answers_of_systems | {CANDIDATE: [invalid, *answers_of_systems[CANDIDATE][1:]]}
    result = check_outputs_are_valid(evaluate(gold_documents, answers, bootstrap=BOOTSTRAP))
    assert not result.passed
    assert result.message.startswith("23 of 24 answers")


def test_a_figure_without_bounds_fails_the_interval_check_and_is_named(report: Report) -> None:
    broken = copy.deepcopy(report)
    broken["languages"]["ko"][LEAD3]["chrf_plus_plus"]["low"] = None
    result = check_every_metric_has_an_interval(broken)
    assert not result.passed
    assert "chrf_plus_plus of lead3 in ko" in result.message


def test_an_undefined_figure_needs_no_bounds(report: Report) -> None:
    undefined = copy.deepcopy(report)
    undefined["languages"]["ko"][LEAD3]["difficulty_spearman"] = {"mean": None, "low": None, "high": None, "n": 12}
    assert check_every_metric_has_an_interval(undefined).passed


@pytest.mark.parametrize(("identical", "contradictory"), [(0.0, 0.0), (1.0, 1.0)])
def test_rouge_that_drops_hangul_fails_the_soundness_check(identical: float, contradictory: float) -> None:
    assert not check_korean_rouge(identical, contradictory).passed


def test_a_candidate_that_is_lead3_does_not_beat_it(
    gold_documents: list[TestDocument], answers_of_systems: dict[str, list[Answer]]
) -> None:
    same = {CANDIDATE: answers_of_systems[LEAD3], LEAD3: answers_of_systems[LEAD3]}
    result = check_candidate_beats_lead3(evaluate(gold_documents, same, bootstrap=BOOTSTRAP))
    assert not result.passed
    assert "ko +0.000 [+0.000, +0.000] on 12 documents, no difference shown" in result.message


def test_a_test_document_in_the_train_split_fails_the_leakage_check_and_is_named(
    report: Report, gold_documents: list[TestDocument]
) -> None:
    url = gold_documents[0].url
    leaking = report | {"leakage": audit_leakage(gold_documents, [{"url": url, "content": "other"}])}
    result = check_no_test_document_in_train(leaking)
    assert not result.passed
    assert f"{url} (url, in {url})" in result.message


def test_a_keyword_list_found_in_training_text_is_no_reason_to_refuse(
    report: Report, gold_documents: list[TestDocument]
) -> None:
    listed = ", ".join(gold_documents[0].gold.keywords or ())
    audit = audit_leakage(gold_documents, [{"url": "https://a.example/other", "content": listed}])
    assert audit["gold_keywords"]
    assert check_no_test_document_in_train(report | {"leakage": audit}).passed


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


def test_bits_per_byte_of_a_language_is_total_bits_over_total_bytes() -> None:
    texts = [MeasuredText("en", "ab", "a"), MeasuredText("en", "abcd", "b"), MeasuredText("ko", "가", "c")]
    table = bits_per_byte_by_language(texts, [8.0, 4.0, 6.0], BOOTSTRAP)
    assert table["en"]["mean"] == 2.0
    assert table["ko"]["mean"] == 2.0  # 6 bits over 3 bytes of UTF-8
    assert table["en"]["n"] == 2


def test_bits_per_byte_of_near_duplicates_are_as_uncertain_as_those_of_one_document() -> None:
    rows = [{"url": f"https://a.example/{n}", "language": "en", "content": "abcd", "cluster": "one"} for n in range(4)]
    bits = [4.0, 8.0, 12.0, 16.0]
    table = bits_per_byte_by_language(choose_texts(rows, 4), bits, BOOTSTRAP)
    assert table["en"] == {"mean": 2.5, "low": 2.5, "high": 2.5, "n": 4}  # one cluster is drawn whole every time
    apart = choose_texts([row | {"cluster": None} for row in rows], 4)
    interval = bits_per_byte_by_language(apart, bits, BOOTSTRAP)["en"]
    assert interval["low"] < 2.5 < interval["high"]


def test_finished_bits_are_not_measured_again(tmp_path: Path, tiny_base_model: Path, ci_settings: Settings) -> None:
    journal = tmp_path / "bits.json"
    row = {"url": "https://a.example/x", "language": "en", "content": "Pods run containers."}
    texts = [each.text for each in choose_texts([row], 3)]
    measured = document_bits(tiny_base_model, texts, model_settings=ci_settings.model, name="base", journal=journal)
    absent = tmp_path / "no-model"
    assert document_bits(absent, texts, model_settings=ci_settings.model, name="base", journal=journal) == measured
    # A random model spreads over 1,024 tokens: about 10 bits a token, 20 bytes of text.
    assert 20 < measured[0] < 10 * 20 * 1.2


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
