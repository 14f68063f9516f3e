"""A store with the inputs of both training stages: the tiny model, two new tokens, a corpus and labelled pairs."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smartdevdigest_ops.artifacts import ArtifactStore, Making, canonical_json, content_hash
from smartdevdigest_ops.contracts import CrawlRecord, Label
from smartdevdigest_ops.settings import Settings, load_settings
from smartdevdigest_ops.stage import StageContext, StageSpec, get_stage, run_stage

NEW_TOKENS = ("쿠버네티스", "컨테이너")


def _publish(store: ArtifactStore, asset: str, write: Callable[[Path], None]) -> None:
    with store.staging(asset) as staged:
        write(staged)
        artifact = store.publish(staged, asset)
    store.record(
        Making(asset, None, artifact.version, f"given-{artifact.version}", {}, {}, "1", {}, {}, {}, [], created="")
    )


def _write_splits(rows: list[dict[str, Any]], directory: Path) -> None:
    """Every fifth document of a language held out for validation, the next one for testing."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    splits: dict[str, list[dict[str, Any]]] = {"train": [], "valid": [], "test": []}
    for index, row in enumerate(rows):
        splits[{0: "valid", 1: "test"}.get(index % 5, "train")].append(row)
    for split, of_split in splits.items():
        pq.write_table(
            pa.Table.from_pylist(of_split, schema=pa.Table.from_pylist(rows).schema), directory / f"{split}.parquet"
        )


@pytest.fixture(scope="session")
def domain_tokenizer_dir(tiny_base_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model's tokenizer with two more tokens."""
    from transformers import AutoTokenizer

    directory = tmp_path_factory.mktemp("domain_tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(tiny_base_model)
    new_tokens = [
        {"id": len(tokenizer) + index, "token": token, "base_ids": tokenizer(token)["input_ids"]}
        for index, token in enumerate(NEW_TOKENS)
    ]
    tokenizer.add_tokens(list(NEW_TOKENS))
    tokenizer.save_pretrained(directory)
    (directory / "new_tokens.json").write_text(json.dumps(new_tokens, ensure_ascii=False), encoding="utf-8")
    return directory


@pytest.fixture
def fill_store(
    tiny_base_model: Path,
    domain_tokenizer_dir: Path,
    sample_documents: list[CrawlRecord],
    sample_labels: dict[str, Label],
) -> Callable[[Path], None]:
    """`fill_store(root)` publishes the inputs of both training stages below `root`."""
    rows = [
        {
            "document_id": f"{index:016x}",
            "url": record.url,
            "language": record.language,
            "source_type": record.source_type,
            "title": record.title,
            "content": record.content,
        }
        for index, record in enumerate(sample_documents[::3])
    ]
    pairs = [row | {"label": sample_labels[row["url"]].model_dump_json()} for row in rows]

    def fill(root: Path) -> None:
        store = ArtifactStore(root)
        _publish(store, "base_model", lambda out: shutil.copytree(tiny_base_model, out, dirs_exist_ok=True))
        _publish(store, "domain_tokenizer", lambda out: shutil.copytree(domain_tokenizer_dir, out, dirs_exist_ok=True))
        _publish(store, "corpus_snapshot", lambda out: _write_splits(rows, out))
        _publish(store, "labeled_pairs", lambda out: _write_splits(pairs, out))

    return fill


@pytest.fixture
def training_settings(tmp_path: Path, fill_store: Callable[[Path], None]) -> Callable[..., Settings]:
    """`training_settings(overrides)`: the ci profile over a filled store, with `overrides` laid over it."""

    def settings(overrides: dict[str, Any] | None = None, root: str = "store") -> Settings:
        if not (tmp_path / root).exists():
            fill_store(tmp_path / root)
        tree = {"store": {"root": str(tmp_path / root)}, "model": {"threads": 1}, **(overrides or {})}
        return load_settings("ci", overrides=tree)

    return settings


@pytest.fixture
def context(tmp_path: Path, training_settings: Callable[..., Settings]) -> StageContext:
    """A context outside any stage, whose log lines are collected in `context.report_line.lines`."""

    class Lines:
        def __init__(self) -> None:
            self.lines: list[str] = []

        def __call__(self, line: str) -> None:
            self.lines.append(line)

    settings = training_settings()
    out, scratch = tmp_path / "out", tmp_path / "scratch"
    out.mkdir()
    scratch.mkdir()
    return StageContext(settings, {}, out, scratch, ArtifactStore(settings.store_dir), None, Lines())


@pytest.fixture
def run() -> Callable[..., Making]:
    """`run(name, settings)` runs one stage on the store's inputs as they are, whatever stage would make those."""

    def run_one(name: str, settings: Settings) -> Making:
        making, _ = run_stage(spec_of(name, settings))
        return making

    return run_one


def spec_of(name: str, settings: Settings) -> StageSpec:
    """A spec on the current versions of the stage's inputs, which needs no other stage's code."""
    store = ArtifactStore(settings.store_dir)
    inputs = {asset: making.version for asset in get_stage(name).inputs if (making := store.current_making(asset))}
    sections = settings.only(get_stage(name).settings)
    return StageSpec(
        name, settings.model_dump(mode="json"), inputs, {}, None, content_hash(canonical_json([inputs, sections]))
    )
