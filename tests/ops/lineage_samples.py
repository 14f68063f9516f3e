"""Stores whose artifacts are published by hand, so that a test decides what was made from what."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from smartdevdigest_ops.artifacts import Artifact, ArtifactStore, Making, content_hash


class Chain:
    """A store in which artifacts are published by hand, each with a record of what it was made from."""

    def __init__(self, root: Path) -> None:
        self.store = ArtifactStore(root)
        self._count = 0

    def publish(
        self, asset: str, write: Callable[[Path], object], partition: str | None = None, **fields: Any
    ) -> Artifact:
        self._count += 1
        with self.store.staging(asset) as out:
            write(out)
            artifact = self.store.publish(out, asset, partition)
        values: dict[str, Any] = {
            "inputs": {},
            "settings": {},
            "checks": [],
            "created": f"2026-11-30T00:00:{self._count:02}+00:00",
        }
        self.store.record(
            Making(
                asset,
                partition,
                artifact.version,
                f"{self._count:016x}",
                code_version="1",
                environment={},
                resources={},
                metrics={},
                **values | fields,
            )
        )
        return artifact

    def snapshot(self, asset: str = "corpus_snapshot", **splits: list[str]) -> Artifact:
        return self.publish(asset, lambda out: write_splits(out, splits))

    def model(self, asset: str, inputs: Mapping[str, str], **fields: Any) -> Artifact:
        text = f"{asset} {self._count}"
        return self.publish(asset, lambda out: (out / "model.txt").write_text(text), inputs=dict(inputs), **fields)


def page(name: str) -> str:
    return f"https://a.example/{name}"


def page_id(name: str) -> str:
    return content_hash(page(name))


def write_splits(out: Path, splits: Mapping[str, list[str]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for split in ("train", "valid", "test"):
        names = splits.get(split, [])
        columns = {"document_id": [page_id(name) for name in names], "url": [page(name) for name in names]}
        schema = pa.schema([("document_id", pa.string()), ("url", pa.string())])
        pq.write_table(pa.table(columns, schema=schema), out / f"{split}.parquet")


def publish_graph(chain: Chain) -> dict[str, Artifact]:
    """From a snapshot and labels to a digest of a drop; `m2_adapter` learned other pages than `m1_checkpoint`."""
    made = {
        "corpus_snapshot": chain.snapshot(train=["a", "b", "c"], valid=["v"], test=["t"]),
        "labeled_pairs": chain.snapshot("labeled_pairs", train=["a", "b"], valid=["v"], test=["t"]),
    }

    def make(asset: str, *inputs: str, **fields: Any) -> None:
        made[asset] = chain.model(asset, {name: made[name].version for name in inputs}, **fields)

    make("domain_tokenizer", "corpus_snapshot")
    make("m1_checkpoint", "corpus_snapshot", "domain_tokenizer", settings={"training.m1": {"max_steps": 4}})
    make("m2_adapter", "labeled_pairs", "m1_checkpoint")
    calibrated = {"calibrated": [page_id("b"), page_id("v")]}
    make("quantized_model", "m1_checkpoint", "m2_adapter", "labeled_pairs", "corpus_snapshot", documents=calibrated)
    make("evaluation_report", "quantized_model", "labeled_pairs", "corpus_snapshot")
    return made
