"""The stage m1_checkpoint."""

from collections.abc import Callable
from pathlib import Path

import pytest

from smartdevdigest_ops.artifacts import ArtifactStore, Making
from smartdevdigest_ops.settings import Settings
from smartdevdigest_ops.training.m1 import (
    check_held_out,
    check_loss,
    check_vocabulary,
    check_weights,
    texts_by_language,
)
from smartdevdigest_ops.training.trainer import TrainingRun

TRAINING = {
    "training": {
        "m1": {
            "max_steps": 12,
            "warmup_steps": 2,
            "sequence_length": 128,
            "learning_rate": 3e-3,
            "embedding_learning_rate": 5e-3,
            "evaluation_documents": 3,
            "evaluation_characters": 600,
        }
    }
}


def run_of(losses: list[float]) -> TrainingRun:
    curve = [{"step": i + 1, "loss": loss, "learning_rate": 0.1, "tokens": 8 * i + 8} for i, loss in enumerate(losses)]
    return TrainingRun(curve, len(losses), 8 * len(losses), 1.0, None, None)


def test_m1_learns_the_corpus_and_saves_a_model_with_every_token(
    training_settings: Callable[..., Settings], run: Callable[..., Making]
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    settings = training_settings(TRAINING)
    making = run("m1_checkpoint", settings)

    assert all(check["passed"] for check in making.checks), making.checks
    assert making.metrics["num_steps"] == 12
    assert making.metrics["tokens_seen"] == 12 * 2 * 128
    assert making.metrics["bytes_seen"] > making.metrics["tokens_seen"]
    for language in ("ko", "en"):
        assert making.metrics[f"bits_per_byte_{language}_trained"] < making.metrics[f"bits_per_byte_{language}_base"]
    directory = ArtifactStore(settings.store_dir).open("m1_checkpoint", making.version).path
    model, tokenizer = AutoModelForCausalLM.from_pretrained(directory), AutoTokenizer.from_pretrained(directory)
    assert model.get_input_embeddings().weight.shape[0] == len(tokenizer) == 1026
    assert model.config.use_cache
    assert len((directory / "training_curve.jsonl").read_text().splitlines()) == 12


def test_two_runs_give_the_same_bytes_and_none_names_this_machine(
    training_settings: Callable[..., Settings], run: Callable[..., Making], tmp_path: Path
) -> None:
    versions = [run("m1_checkpoint", training_settings(root=root)).version for root in ("first", "second")]

    assert versions[0] == versions[1]
    directory = tmp_path / "first" / "m1_checkpoint" / versions[0]
    names = {path.name for path in directory.iterdir()}
    assert "model.safetensors" in names
    assert not any(name.endswith((".bin", ".pt", ".pth")) for name in names)
    for path in directory.glob("*.json*"):
        assert str(tmp_path.parent) not in path.read_text(encoding="utf-8"), path.name


def test_a_loss_that_does_not_fall_fails_the_check_from_twenty_four_steps_on() -> None:
    falling = [4.0 - step / 10 for step in range(24)]
    assert check_loss(run_of(falling)).passed
    assert not check_loss(run_of(falling[::-1])).passed
    assert check_loss(run_of(falling[::-1][:23])).passed
    assert check_loss(run_of([2.0, 4.0])).passed
    assert not check_loss(run_of([2.0, float("nan")])).passed


def test_a_weight_that_is_not_finite_fails_the_check_by_name(tiny_base_model: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_base_model)
    assert check_weights(model).passed
    with torch.no_grad():
        model.model.norm.weight[3] = float("inf")
    result = check_weights(model)
    assert not result.passed
    assert "model.norm.weight" in result.message


def test_one_language_that_gets_worse_fails_the_held_out_check() -> None:
    assert check_held_out({"en": 1.2, "ko": 2.4}, {"en": 1.1, "ko": 2.0}).passed
    assert not check_held_out({"en": 1.2, "ko": 2.4}, {"en": 1.3, "ko": 2.0}).passed
    assert not check_held_out({}, {}).passed


def test_more_tokens_than_rows_fail_the_vocabulary_check(tiny_base_model: Path, domain_tokenizer_dir: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(tiny_base_model)
    assert check_vocabulary(model, AutoTokenizer.from_pretrained(tiny_base_model)).passed
    assert not check_vocabulary(model, AutoTokenizer.from_pretrained(domain_tokenizer_dir)).passed


def test_held_out_texts_are_the_first_of_each_language_that_occurs_cut_to_length() -> None:
    rows = [
        {"language": "ko", "content": "가나다라"},
        {"language": "ko", "content": "둘째"},
        {"language": "ko", "content": "셋째"},
    ]
    assert texts_by_language(rows, max_documents=2, max_characters=3) == {"ko": ["가나다", "둘째"]}


def test_a_corpus_without_one_language_reports_only_the_other(
    training_settings: Callable[..., Settings], run: Callable[..., Making], monkeypatch: pytest.MonkeyPatch
) -> None:
    from smartdevdigest_ops.training import m1

    read_split = m1.read_split
    monkeypatch.setattr(
        m1,
        "read_split",
        lambda directory, split: [
            row for row in read_split(directory, split) if split == "train" or row["language"] == "en"
        ],
    )
    making = run("m1_checkpoint", training_settings())
    assert "bits_per_byte_en_trained" in making.metrics
    assert "bits_per_byte_ko_trained" not in making.metrics
