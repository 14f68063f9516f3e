"""The stage base_model on the tiny model, and each of its checks failing."""

import json

import pytest
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from smartdevdigest_ops.artifacts import ArtifactStore
from smartdevdigest_ops.models.stage import check_embedding, check_tokenizer, check_weights
from smartdevdigest_ops.stage import plan_stage


@pytest.fixture
def snapshot(tmp_path, tiny_base_model):
    directory = tmp_path / "snapshot"
    directory.mkdir()
    for file in tiny_base_model.iterdir():
        (directory / file.name).write_bytes(file.read_bytes())
    return directory


def test_the_stage_publishes_a_snapshot_that_passes_its_checks(run, ci_settings):
    making = run("base_model", ci_settings)
    assert [check["passed"] for check in making.checks] == [True, True, True]
    path = ArtifactStore(ci_settings.store_dir).open("base_model", making.version).path
    assert json.loads((path / "source.json").read_text()) == {
        "base_model": "tiny-random-llama",
        "revision": f"seed-{ci_settings.seed}",
        "license": None,
    }
    assert making.metrics["vocabulary_size"] == len(AutoTokenizer.from_pretrained(path)) == 1024
    # Embedding (tied) + 2 layers (q, o: 64x64; k, v: 32x64; 3 MLP matrices of 128x64; 2 norms) + final norm.
    layer = 2 * 64 * 64 + 2 * 32 * 64 + 3 * 128 * 64 + 2 * 64
    assert making.metrics["num_parameters"] == 1024 * 64 + 2 * layer + 64
    assert making.metrics["bytes"] == sum(f.stat().st_size for f in path.iterdir() if f.name != "manifest.json")


def test_a_changed_model_directory_plans_another_making(ci_settings, snapshot):
    model = ci_settings.model.model_copy(update={"base_model": str(snapshot)})
    settings = ci_settings.model_copy(update={"model": model})
    before = plan_stage("base_model", settings).fingerprint
    assert plan_stage("base_model", settings).fingerprint == before
    (snapshot / "generation_config.json").write_text("{}")
    assert plan_stage("base_model", settings).fingerprint != before


def test_an_infinite_weight_fails_its_check(snapshot):
    assert check_weights(snapshot).passed
    weights = load_file(snapshot / "model.safetensors")
    weights["model.norm.weight"][3] = float("inf")
    save_file(weights, snapshot / "model.safetensors", metadata={"format": "pt"})
    result = check_weights(snapshot)
    assert not result.passed
    assert "model.norm.weight" in result.message


def test_a_tokenizer_with_more_tokens_than_rows_fails_its_check(snapshot):
    assert check_embedding(snapshot).passed
    tokenizer = AutoTokenizer.from_pretrained(snapshot)
    tokenizer.add_tokens(["one-too-many"])
    tokenizer.save_pretrained(snapshot)
    result = check_embedding(snapshot)
    assert not result.passed
    assert "1024 rows for 1025 tokens" in result.message


def test_a_tokenizer_that_lost_a_byte_fails_its_check(snapshot):
    assert check_tokenizer(snapshot).passed
    tree = json.loads((snapshot / "tokenizer.json").read_text())
    del tree["model"]["vocab"]["Ć"]  # byte 0x06
    (snapshot / "tokenizer.json").write_text(json.dumps(tree))
    result = check_tokenizer(snapshot)
    assert not result.passed
    assert "became" in result.message
