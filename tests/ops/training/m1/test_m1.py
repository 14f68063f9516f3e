"""The stage m1_checkpoint."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smartdevdigest_ops.artifacts import ArtifactStore, Making
from smartdevdigest_ops.settings import Settings, load_settings
from smartdevdigest_ops.stage import plan_stage, run_stage
from smartdevdigest_ops.training.m1.adaptation import Compared, settings_for_tokens
from smartdevdigest_ops.training.m1.checks import (
    check_general,
    check_held_out,
    check_loss,
    check_tokenizer,
    check_vocabulary,
    check_weights,
)
from smartdevdigest_ops.training.m1.held_out import of_corpus, of_general, scores_table, texts_by_language
from smartdevdigest_ops.training.trainer.run import TrainingRun, count_steps

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
            "replay_share": 0.125,
            "max_general_increase": 1.0,
            "new_rows": {"method": "mean"},
        }
    }
}
MEANS = {"training": {"m1": {"new_rows": {"method": "mean"}}}}


def run_of(losses: list[float]) -> TrainingRun:
    curve = [{"step": i + 1, "loss": loss, "learning_rate": 0.1, "tokens": 8 * i + 8} for i, loss in enumerate(losses)]
    return TrainingRun(curve, len(losses), 8 * len(losses), 1.0, None, None)


class Stopped(Exception):
    """Raised by a log line, in the place of a kill."""


def test_m1_learns_the_corpus_keeps_general_text_and_compares_the_tokenizers(
    training_settings: Callable[..., Settings], run: Callable[..., Making]
) -> None:
    """The twin is interrupted, and neither run is trained again."""
    from conftest import spec_of  # the area's own
    from transformers import AutoModelForCausalLM, AutoTokenizer

    m1 = TRAINING["training"]["m1"] | {"compare_unextended": True}
    settings = training_settings({"training": {"m1": m1}})

    def stop(line: str) -> None:
        if line.startswith("m1_checkpoint, unextended: step 10/12"):
            raise Stopped(line)

    with pytest.raises(Stopped):
        run_stage(spec_of("m1_checkpoint", settings), stop)
    lines: list[str] = []
    making, _ = run_stage(spec_of("m1_checkpoint", settings), lines.append)

    assert not any(line.startswith("m1_checkpoint: step") for line in lines)
    said = [re.search(r"replay reads the (\d+) sequences .* (\d+\.\d) times", line) for line in lines]
    num_general, passes = next((int(found[1]), float(found[2])) for found in said if found)
    assert passes == round(3 / num_general, 1)
    checks = {check["name"]: check for check in making.checks}
    assert all(check["passed"] for name, check in checks.items() if name != "tokenizer_earns_its_keep"), making.checks
    metrics = making.metrics
    assert metrics["num_steps"] == 12
    assert metrics["tokens_seen"] == 12 * 2 * 128
    assert metrics["num_replayed_sequences"] == 3
    assert metrics["replay_passes"] * num_general == 3
    assert metrics["bytes_seen"] > 21 * 128
    for group in ("ko", "en", "general_ko", "general_en"):
        assert metrics[f"bits_per_byte_{group}_trained"] < metrics[f"bits_per_byte_{group}_base"]
    differences = [
        metrics[f"bits_per_byte_{name}_trained"] - metrics[f"bits_per_byte_{name}_unextended"] for name in ("en", "ko")
    ]
    assert checks["tokenizer_earns_its_keep"]["passed"] == (sum(differences) <= 0)
    assert "after 3072 and 3072 tokens" in checks["tokenizer_earns_its_keep"]["message"]
    # The unextended tokenizer has more tokens in the same text, so that as many stand for less of it.
    assert metrics["text_bytes_unextended"] < metrics["bytes_seen"]
    directory = ArtifactStore(settings.store_dir).open("m1_checkpoint", making.version).path
    model, tokenizer = AutoModelForCausalLM.from_pretrained(directory), AutoTokenizer.from_pretrained(directory)
    assert len(tokenizer) == 1026
    assert model.get_input_embeddings().weight.shape[0] == 1088  # to a multiple of 64
    assert model.config.use_cache
    curve = [json.loads(line) for line in (directory / "training_curve.jsonl").read_text().splitlines()]
    assert [row["step"] for row in curve] == list(range(1, 13))
    assert curve[-1]["text_bytes"] == metrics["bytes_seen"]


@pytest.mark.parametrize("num_sequences", [1, 6, 16, 500])
def test_as_many_tokens_are_trained_on_however_little_text_there_is(num_sequences: int) -> None:
    given = {"batch_size": 4, "gradient_accumulation": 4, "warmup_steps": 2, "early_stopping_evaluations": 1}
    m1 = load_settings("ci").training.m1.model_copy(update=given)
    settings = settings_for_tokens(m1, 30 * 16 * 128 - 1, sequence_length=128)

    assert count_steps(num_sequences, settings, "m1_checkpoint") == 30
    assert settings.early_stopping_evaluations is None


@pytest.mark.parametrize("changes", [{"trainable": "lora"}, {"objective": "mixed", "mask_token": "<|im_start|>"}])
def test_every_recipe_saves_a_plain_model_that_learned(
    changes: dict[str, Any], training_settings: Callable[..., Settings], run: Callable[..., Making]
) -> None:
    from transformers import AutoModelForCausalLM

    m1 = TRAINING["training"]["m1"] | {"learning_rate": 1e-2} | changes
    settings = training_settings({"training": {"m1": m1}})
    making = run("m1_checkpoint", settings)

    failed = [check["name"] for check in making.checks if not check["passed"]]
    assert failed == ["tokenizer_earns_its_keep"]  # which was not compared
    directory = ArtifactStore(settings.store_dir).open("m1_checkpoint", making.version).path
    assert not (directory / "adapter_config.json").exists()
    AutoModelForCausalLM.from_pretrained(directory)
    assert making.metrics["num_trainable_parameters"] <= making.metrics["num_parameters"]


def test_another_file_of_general_text_makes_the_checkpoint_stale(
    training_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    own = tmp_path / "own.jsonl"
    fingerprints = []
    for text in ("Soup needs salt.", "Bread needs time."):
        own.write_text(
            "".join(
                json.dumps({"id": split, "language": "en", "split": split, "text": f"{text} {split}"}) + "\n"
                for split in ("replay", "held_out")
            )
        )
        settings = training_settings({"data": {"general_paths": [str(own)]}})
        fingerprints.append(plan_stage("m1_checkpoint", settings).fingerprint)
    assert fingerprints[0] != fingerprints[1]


def test_two_runs_give_the_same_bytes_and_none_names_this_machine(
    training_settings: Callable[..., Settings], run: Callable[..., Making], tmp_path: Path
) -> None:
    versions = [run("m1_checkpoint", training_settings(MEANS, root=root)).version for root in ("first", "second")]

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


def test_general_text_may_rise_by_the_part_that_was_set_in_no_language_more() -> None:
    base = {"en": 1.0, "ko": 2.0}
    assert check_general(base, {"en": 1.09, "ko": 1.9}, 0.1).passed
    refused = check_general(base, {"en": 0.9, "ko": 2.3}, 0.1)
    assert not refused.passed
    assert "ko 2.000 -> 2.300 (+15.0%); at most +10% may be" in refused.message
    assert check_general(base, {"en": 9.0, "ko": 9.0}, None).passed
    assert not check_general({}, {}, 0.1).passed


def test_the_tokenizer_earns_its_keep_by_the_mean_over_languages_after_as_many_tokens() -> None:
    extended = Compared({"en": 1.10, "ko": 1.50}, 4096, 9_000_000)
    better = check_tokenizer(300, extended, Compared({"en": 1.08, "ko": 1.60}, 4096, 5_000_000))
    assert better.passed
    assert "en 1.100 against 1.080 (unextended better), ko 1.500 against 1.600 (extended better)" in better.message
    assert "(9.00 and 5.00 MB of text)" in better.message
    assert not check_tokenizer(300, extended, Compared({"en": 1.08, "ko": 1.50}, 4096, 5_000_000)).passed
    not_compared = check_tokenizer(300)
    assert not not_compared.passed
    assert "compare_unextended=true" in not_compared.message
    assert check_tokenizer(0).passed
    assert not check_tokenizer(300, Compared({}, 1, 1), Compared({}, 1, 1)).passed


def test_what_was_compared_is_read_as_it_was_written(tmp_path: Path) -> None:
    compared = Compared({"en": 1.1}, 4096, 9)
    assert Compared.read(tmp_path / "compared.json") is None
    compared.write(tmp_path / "compared.json")
    assert Compared.read(tmp_path / "compared.json") == compared


def test_scores_are_told_apart_into_the_corpus_and_general_text() -> None:
    scores = {"en": 1.0, "general_en": 0.9, "ko": 2.0}
    assert of_corpus(scores) == {"en": 1.0, "ko": 2.0}
    assert of_general(scores) == {"en": 0.9}
    assert scores_table({"base": scores, "trained": scores}).splitlines() == [
        "| bits per byte | base | trained |",
        "|---|---|---|",
        "| en | 1.000 | 1.000 |",
        "| ko | 2.000 | 2.000 |",
        "| general en | 0.900 | 0.900 |",
    ]


def test_held_out_texts_are_the_first_of_each_language_that_occurs_cut_to_length() -> None:
    documents = [("ko", "가나다라"), ("ko", "둘째"), ("ko", "셋째")]
    assert texts_by_language(documents, max_documents=2, max_characters=3) == {"ko": ["가나다", "둘째"]}


def test_a_corpus_without_one_language_reports_only_the_other(
    training_settings: Callable[..., Settings], run: Callable[..., Making], monkeypatch: pytest.MonkeyPatch
) -> None:
    from smartdevdigest_ops.training.m1 import stage as m1

    whole = m1.held_out_documents
    monkeypatch.setattr(
        m1, "held_out_documents", lambda directory: [each for each in whole(directory) if each[0] == "en"]
    )
    making = run("m1_checkpoint", training_settings(MEANS))
    assert "bits_per_byte_en_trained" in making.metrics
    assert "bits_per_byte_ko_trained" not in making.metrics
