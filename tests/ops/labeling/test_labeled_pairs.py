"""The stage: labels joined to the corpus, and its checks."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from teacher_server import TeacherEndpoint

from smartdevdigest_ops.artifacts import ArtifactStore, Making
from smartdevdigest_ops.cli import main
from smartdevdigest_ops.contracts import CrawlRecord, Label
from smartdevdigest_ops.corpus.read import read_split
from smartdevdigest_ops.labeling.checks import (
    LabelCounts,
    check_every_split,
    check_no_crossing,
    check_totals,
    check_train,
    check_valid,
)
from smartdevdigest_ops.labeling.errors import LabelingError
from smartdevdigest_ops.settings import Settings, load_settings
from smartdevdigest_ops.stage import is_fresh

KEY = "sk-very-secret-0123456789"


@pytest.fixture
def splits(sample_documents: list[CrawlRecord]) -> dict[str, list[CrawlRecord]]:
    return {"train": sample_documents[:20], "valid": sample_documents[20:24], "test": sample_documents[24:28]}


def artifact_dir(settings: Settings, making: Making) -> Path:
    return ArtifactStore(settings.store_dir).open("labeled_pairs", making.version).path


def test_labels_join_their_documents_and_every_number_adds_up(
    ci_settings: Settings,
    run: Callable[..., Making],
    publish_documents: Any,
    splits: dict[str, list[CrawlRecord]],
    sample_labels: dict[str, Label],
) -> None:
    publish_documents(ci_settings, splits)
    making = run("labeled_pairs", ci_settings)
    assert all(check["passed"] for check in making.checks)
    assert {name: making.metrics[f"num_labeled_{name}"] for name in splits} == {"train": 20, "valid": 4, "test": 4}
    assert making.metrics["num_labels_without_document"] == 80 - 28
    rows = read_split(artifact_dir(ci_settings, making), "train")
    assert [row["document_id"] for row in rows] == sorted(row["document_id"] for row in rows)
    for row in rows:
        label = Label.model_validate(json.loads(row["label"]))
        assert label == sample_labels[row["url"]]


def test_a_document_without_a_label_is_left_out_counted_and_never_invented(
    tmp_path: Path,
    run: Callable[..., Making],
    publish_documents: Any,
    splits: dict[str, list[CrawlRecord]],
    sample_labels: dict[str, Label],
) -> None:
    known, wrong = splits["train"][0], splits["train"][1]
    other = next(document for document in splits["train"] if document.language != wrong.language)
    labels = [
        sample_labels[known.url].model_dump() | {"keywords": ["no such word anywhere"]},
        sample_labels[wrong.url].model_dump() | {"summary": sample_labels[other.url].summary},
    ]
    file = tmp_path / "labels.jsonl"
    file.write_text("".join(json.dumps(label) + "\n" for label in labels) + "{bad\n", encoding="utf-8")
    settings = load_settings(
        "ci", overrides={"store": {"root": str(tmp_path / "store")}, "data": {"label_paths": [str(file)]}}
    )
    publish_documents(settings, splits)
    making = run("labeled_pairs", settings)
    out = artifact_dir(settings, making)
    assert making.notes["left_out"] == {"no_recorded_label": 26, "summary_language": 1}
    assert making.metrics["num_removed_keywords"] == 1
    assert making.metrics["num_rejected_lines"] == 1
    assert [row["url"] for row in read_split(out, "train")] == [known.url]
    left_out = [json.loads(line) for line in (out / "left_out.jsonl").read_text().splitlines()]
    assert len(left_out) == 27
    reject = json.loads((out / "label_rejects.jsonl").read_text())
    assert (reject["file"], reject["line"], reject["excerpt"]) == ("labels.jsonl", 3, "{bad")
    outcome = {check["name"]: check["passed"] for check in making.checks}
    assert outcome == {
        "totals_reconcile": True,
        "labels_are_valid": True,
        "train_has_labels": True,
        "every_split_has_labels": False,
        "no_label_crosses_splits": True,
    }


def test_the_same_labels_and_documents_give_the_same_version(
    tmp_path: Path, run: Callable[..., Making], publish_documents: Any, splits: dict[str, list[CrawlRecord]]
) -> None:
    versions = set()
    for name in ("a", "b"):
        settings = load_settings("ci", overrides={"store": {"root": str(tmp_path / name)}})
        publish_documents(settings, splits)
        versions.add(run("labeled_pairs", settings).version)
    assert len(versions) == 1


def test_a_missing_label_file_stops_the_stage(
    tmp_path: Path, publish_documents: Any, run: Callable[..., Making]
) -> None:
    settings = load_settings(
        "ci", overrides={"store": {"root": str(tmp_path / "store")}, "data": {"label_paths": ["data/nowhere.jsonl"]}}
    )
    publish_documents(settings, {})
    with pytest.raises(LabelingError, match=r"nowhere\.jsonl"):
        run("labeled_pairs", settings)


@pytest.fixture
def bought(tmp_path: Path, openai_settings: Callable[..., dict[str, Any]]) -> Callable[..., Settings]:
    """`bought(label_paths, agreement={...}, model=...)`: settings with the openai teacher."""

    def make(label_paths: Sequence[Path] = (), agreement: dict[str, Any] | None = None, **openai: Any) -> Settings:
        return load_settings(
            "ci",
            overrides={
                "store": {"root": str(tmp_path / "store")},
                "data": {"label_paths": list(map(str, label_paths))},
                "labeling": {
                    "teacher": "openai", "openai": openai_settings(**openai), "agreement": agreement or {},
                },
            },
        )  # fmt: skip

    return make


def test_the_openai_teacher_labels_what_has_no_recorded_label_once_and_says_what_it_used(
    tmp_path: Path,
    run: Callable[..., Making],
    publish_documents: Any,
    endpoint: TeacherEndpoint,
    bought: Callable[..., Settings],
    sample_documents: list[CrawlRecord],
    sample_labels: dict[str, Label],
    capfd: pytest.CaptureFixture[str],
) -> None:
    english = [document for document in sample_documents if document.language == "en"]
    file = tmp_path / "labels.jsonl"
    file.write_text(sample_labels[english[1].url].model_dump_json() + "\n", encoding="utf-8")
    publish_documents(bought([file]), {"train": english[:3], "valid": english[3:4], "test": english[4:5]})
    making = run("labeled_pairs", bought([file]))
    assert making.metrics["num_labeled"] == 5
    assert making.metrics["teacher_prompt_tokens"] == 400
    assert len(endpoint.requests) == 4  # one of five documents had a recorded label
    assert "4 will be sent" in capfd.readouterr().err
    again = run("labeled_pairs", bought([file], max_answers=9))  # another making of the same answers
    assert again.fingerprint != making.fingerprint
    assert again.version == making.version
    assert again.metrics["teacher_replies"] == 0
    assert len(endpoint.requests) == 4


def test_how_fast_and_at_what_price_labels_are_bought_makes_nothing_anew(
    bought: Callable[..., Settings], publish_documents: Any, run: Callable[..., Making], splits: Any
) -> None:
    publish_documents(bought(), splits)
    run("labeled_pairs", bought())
    price = {"input_per_million": 1.0, "output_per_million": 1.0}
    changed = bought(requests={"max_in_flight": 2}, price=price, batch={"enabled": True}, api_key_environment="OTHER")
    assert is_fresh("labeled_pairs", changed)
    assert not is_fresh("labeled_pairs", bought(model="another"))


def test_labels_given_twice_are_compared_and_those_far_apart_are_listed(
    bought: Callable[..., Settings],
    publish_documents: Any,
    run: Callable[..., Making],
    endpoint: TeacherEndpoint,
    splits: dict[str, list[CrawlRecord]],
) -> None:
    settings = bought(agreement={"share": 0.5, "temperature": 0.9, "seed": 4})
    publish_documents(settings, splits)
    making = run("labeled_pairs", settings)
    out = artifact_dir(settings, making)
    rows = [json.loads(line) for line in (out / "agreement.jsonl").read_text(encoding="utf-8").splitlines()]
    seconds = [body for body in endpoint.bodies if body["temperature"] == 0.9]
    assert 5 <= len(rows) == len(seconds) < 28 == len(endpoint.bodies) - len(seconds)
    assert all(body["seed"] == 4 for body in seconds)
    assert making.metrics["agreement_documents"] == len(rows)
    assert making.metrics["agreement_kappa_technical_terms"] == 1.0  # this teacher never changes its mind
    assert making.metrics["agreement_documents_to_look_at"] == 0
    assert making.notes["markdown"].startswith("## Agreement of two labels")
    assert "second opinions =" in next(c["message"] for c in making.checks if c["name"] == "totals_reconcile")
    assert {row["first"]["summary"] for row in rows} == {row["second"]["summary"] for row in rows}


def test_a_second_teacher_is_compared_with_recorded_labels_and_its_settings_do_not_tune_m2(
    tmp_path: Path,
    publish_documents: Any,
    run: Callable[..., Making],
    endpoint: TeacherEndpoint,
    openai_settings: Callable[..., dict[str, Any]],
    splits: dict[str, list[CrawlRecord]],
) -> None:
    agreement = {"share": 1.0, "teacher": "openai", "openai": openai_settings(model="second")}
    settings = load_settings(
        "ci",
        overrides={"store": {"root": str(tmp_path / "store")}, "labeling": {"agreement": agreement}},
    )
    publish_documents(settings, splits)
    making = run("labeled_pairs", settings)
    assert making.metrics["num_labeled"] == making.metrics["agreement_documents"] == 28
    assert making.metrics["second_teacher_replies"] == 28
    assert {body["model"] for body in endpoint.bodies} == {"second"}
    assert making.metrics["agreement_kappa_technical_terms"] < 0.5  # it is a hash
    far = [row for row in read_lines(artifact_dir(settings, making) / "agreement.jsonl") if row["to_look_at"]]
    assert len(far) == making.metrics["agreement_documents_to_look_at"] > 0
    assert far[0]["url"] in making.notes["markdown"] or len(far) > 20
    assert not any(name.startswith("price") for name in making.settings["labeling"]["agreement"]["openai"])


def read_lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_a_quote_sends_nothing_and_a_budget_that_is_too_small_refuses_the_run(
    bought: Callable[..., Settings],
    publish_documents: Any,
    run: Callable[..., Making],
    endpoint: TeacherEndpoint,
    splits: dict[str, list[CrawlRecord]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    price = {"input_per_million": 1000.0, "output_per_million": 1000.0}
    limits = {"requests_per_minute": 7, "tokens_per_minute": 1_000_000}
    settings = bought(price=price, requests=limits)
    publish_documents(settings, splits)
    monkeypatch.setenv("SMARTDEVDIGEST_PROFILE", "ci")
    monkeypatch.setenv("SMARTDEVDIGEST_STORE", settings.store.root)
    overrides = settings.model_dump(include={"labeling": True, "data": {"label_paths": True}}, mode="json")
    monkeypatch.setenv("SMARTDEVDIGEST_OVERRIDES", json.dumps(overrides))
    monkeypatch.delenv("TEACHER_KEY")  # a quote needs none
    assert main(["label", "--quote"]) == 0
    counted, quote = capsys.readouterr().out.splitlines()
    assert counted == "28 documents, 0 with a recorded label"
    assert "28 will be sent" in quote
    assert re.search(r"about \d+\.\d\d USD", quote)
    assert "at least 4.0 minutes at the limits" in quote
    assert main(["label", "--quote", "--set", "labeling.openai.price.max_cost=3"]) == 2
    assert "labeling.openai.price.max_cost is 3.00: nothing was sent" in capsys.readouterr().err
    monkeypatch.setenv("TEACHER_KEY", KEY)
    with pytest.raises(LabelingError, match="nothing was sent"):
        run("labeled_pairs", bought(price=price | {"max_cost": 3}))
    assert endpoint.requests == []


COUNTS = LabelCounts(
    num_documents=5,
    num_labeled=3,
    left_out={"no_recorded_label": 2},
    num_lines=6,
    num_rejected_lines=1,
    num_replaced_labels=1,
    num_labels_without_document=1,
    num_joined_labels=3,
)


@pytest.mark.parametrize(
    ("counts", "passed"),
    [
        (COUNTS, True),
        (replace(COUNTS, num_documents=6), False),
        (replace(COUNTS, num_rejected_lines=0), False),
        (replace(COUNTS, num_second_opinions=2, num_compared=1, second_opinions_left_out={"teacher_failed": 1}), True),
        (replace(COUNTS, num_second_opinions=2, num_compared=1), False),
    ],
)
def test_totals_reconcile_only_if_nothing_vanished(counts: LabelCounts, passed: bool) -> None:
    assert check_totals(counts).passed is passed


def row(label: Label, **changes: Any) -> dict[str, Any]:
    return {
        "document_id": "1",
        "url": label.url,
        "language": label.language,
        "label": label.model_dump_json(),
    } | changes


def test_labels_are_valid_only_if_each_is_its_own_documents(sample_labels: dict[str, Label]) -> None:
    label = next(iter(sample_labels.values()))
    assert check_valid({"train": [row(label)]}).passed
    assert not check_valid({"train": [row(label, url="https://example.org/other")]}).passed
    broken = check_valid({"train": [row(label) | {"label": "{}"}]})
    assert not broken.passed
    assert label.url in broken.message


def test_a_train_split_without_labels_fails_its_check_and_an_empty_test_split_warns(
    sample_labels: dict[str, Label],
) -> None:
    pair = row(next(iter(sample_labels.values())))
    full = {"train": [pair], "valid": [pair], "test": [pair]}
    assert check_train(full).passed
    assert check_every_split(full).passed
    assert check_every_split(full).metadata == {f"{split}_{pair['language']}": 1 for split in full}
    assert not check_train(full | {"train": []}).passed
    warned = check_every_split(full | {"test": []})
    assert not warned.passed
    assert "test has none" in warned.message


def test_a_document_labeled_in_two_splits_fails_its_check(sample_labels: dict[str, Label]) -> None:
    first, second = list(sample_labels.values())[:2]
    apart = {"train": [row(first)], "test": [row(second, document_id="2")]}
    assert check_no_crossing(apart).passed
    by_id = {"train": [row(first)], "test": [row(second, document_id="1")]}
    assert not check_no_crossing(by_id).passed
    by_url = {"train": [row(first)], "test": [row(first, document_id="2", url=first.url + "?utm_source=feed")]}
    assert not check_no_crossing(by_url).passed
