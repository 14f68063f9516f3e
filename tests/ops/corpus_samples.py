"""Corpora for tests: drops through the real stages, and cleaned documents written down as the stage would."""

import hashlib
import json
import random
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from smartdevdigest_ops.artifacts import Artifact, ArtifactStore, Making, content_hash
from smartdevdigest_ops.contracts import CrawlRecord
from smartdevdigest_ops.corpus.assemble import decision_schema
from smartdevdigest_ops.corpus.documents import (
    COUNTS_FILE,
    DOCUMENTS_FILE,
    DROPPED_FILE,
    SIGNATURES_FILE,
    cleaned_schema,
    dropped_schema,
)
from smartdevdigest_ops.corpus.normalise import fold
from smartdevdigest_ops.corpus.read import DROPS_FILE, decisions_file
from smartdevdigest_ops.corpus.shingles import minhash_signatures, window_hashes
from smartdevdigest_ops.corpus.url import canonical_url
from smartdevdigest_ops.drops.files import register_drop
from smartdevdigest_ops.drops.tables import RowWriter
from smartdevdigest_ops.settings import PROJECT_DIR, Settings, load_settings

SAMPLE_DROPS = sorted((PROJECT_DIR / "data" / "sample" / "drops").glob("*.jsonl"))


@cache
def sentences() -> list[str]:
    """Sentences of the sample's English documents."""
    found: dict[str, None] = {}
    for path in SAMPLE_DROPS:
        for line in path.open(encoding="utf-8"):
            record = json.loads(line)
            if record["language"] == "en":
                found |= dict.fromkeys(re.findall(r"(?<=[.] )[A-Z][\w ,'-]{40,160}[.](?= )", record["content"]))
    return list(found)


def text(seed: int, num_sentences: int = 14) -> str:
    """English prose that differs from that of any other seed."""
    return " ".join(random.Random(seed).sample(sentences(), num_sentences))


def record(url: str, content: str, **changes: Any) -> dict[str, Any]:
    """A crawl record; `url` is a path below https://a.example."""
    fields = {"source_type": "blog", "url": f"https://a.example/{url}", "language": "en", "title": "T"}
    return fields | {"content": content} | changes


def damage(file: Path, first: int = 60, last: int = 61) -> None:
    """Turn all bits of the file's bytes `first` to `last` (excluded) around."""
    content = bytearray(file.read_bytes())
    content[first:last] = bytes(byte ^ 0xFF for byte in content[first:last])
    file.write_bytes(bytes(content))


class Corpus:
    """Drops in a scratch store, taken through the real stages."""

    def __init__(self, tmp_path: Path, run: Any, **overrides: Any) -> None:
        self.tmp_path, self.run = tmp_path, run
        store = {"store": {"root": str(tmp_path / "store")}}
        self.settings: Settings = load_settings("ci", overrides=store | overrides)
        self.store = ArtifactStore(self.settings.store_dir)

    def drop(self, name: str, *records: dict[str, Any]) -> str:
        """Write a drop, take it in and clean it; returns its key."""
        path = self.tmp_path / name
        path.write_text("".join(json.dumps(each) + "\n" for each in records), encoding="utf-8")
        return self.take_in(path)

    def take_in(self, path: Path) -> str:
        """Take in a drop file and clean it."""
        key = register_drop(self.store, path)
        self.run("raw_crawl", self.settings, key)
        self.run("cleaned_documents", self.settings, key)
        return key

    def make(self, name: str) -> tuple[Making, Artifact]:
        """Make an unpartitioned asset."""
        making = self.run(name, self.settings)
        return making, self.store.open(name, making.version)

    def decisions(self, key: str | None = None) -> list[dict[str, Any]]:
        """Decisions of the current corpus, of one drop or of all, in the order of the keys."""
        import pyarrow.parquet as pq

        artifact = self.store.current("cleaned_corpus")
        assert artifact is not None
        files = (
            [artifact.path / decisions_file(key)] if key else sorted((artifact.path / "decisions").glob("*.parquet"))
        )
        return [row for file in files for row in pq.read_table(file).to_pylist()]

    def kept(self) -> dict[str, str]:
        """URL -> split of the documents that the current corpus keeps."""
        return {row["url"]: row["split"] for row in self.decisions() if row["kept"]}


def write_cleaned(
    out: Path, documents: Sequence[Mapping[str, Any]], *, name: str = "drop.jsonl", permutations: int = 126
) -> None:
    """Write cleaned_documents as they are: `url`, `content`, and whatever else of the columns is given."""
    with (
        RowWriter(out / DOCUMENTS_FILE, cleaned_schema()) as rows,
        RowWriter(out / DROPPED_FILE, dropped_schema()),
    ):
        for line, document in enumerate(documents, 1):
            content = document["content"]
            derived = {
                "line": line,
                "canonical_url": canonical_url(document["url"]),
                "content_sha256": hashlib.sha256(content.encode()).hexdigest(),
                "folded_hash": content_hash(fold(content)),
                "num_characters": len(content),
                "language": "en",
                "translation_keys": [],
            }
            rows.write(derived | dict(document))
    windows = [window_hashes(fold(document["content"]), 13) for document in documents]
    (out / SIGNATURES_FILE).write_bytes(minhash_signatures(windows, permutations).astype("<u4").tobytes())
    counts: dict[str, Any] = {"name": name, "signatures": {"permutations": permutations, "shingle_characters": 13}}
    counts |= {"num_records": len(documents), "kept": {}, "dropped": {}, "source": {}, "masked": {}}
    counts |= {"num_masked_documents": 0, "num_boilerplate_lines": 0, "num_characters": 0}
    (out / COUNTS_FILE).write_text(json.dumps(counts), encoding="utf-8")


def publish(store: ArtifactStore, asset: str, write: Any, partition: str | None = None) -> str:
    """Publish what `write(directory)` writes as the current version of `asset`; returns the version."""
    with store.staging(asset) as out:
        write(out)
        version = store.publish(out, asset, partition).version
    store.record(Making(asset, partition, version, version, {}, {}, "1", {}, {}, {}, []))
    return version


def publish_corpus(store: ArtifactStore, splits: Mapping[str, Sequence[CrawlRecord]], drop: str = "0" * 16) -> None:
    """Make these documents the current cleaned_corpus, each in the split that it is given in."""
    documents = [(split, document) for split, given in splits.items() for document in given]

    def cleaned(out: Path) -> None:
        write_cleaned(out, [document.model_dump(exclude={"extra", "views"}) for _, document in documents])

    version = publish(store, "cleaned_documents", cleaned, drop)

    def corpus(out: Path) -> None:
        import pyarrow.parquet as pq

        entries = [{"key": drop, "name": "drop.jsonl", "version": version}]
        (out / DROPS_FILE).write_text(json.dumps(entries), encoding="utf-8")
        source = store.open("cleaned_documents", version, drop).path / DOCUMENTS_FILE
        metadata = pq.read_metadata(source)
        ends = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        (out / "decisions").mkdir()
        with pq.ParquetWriter(out / decisions_file(drop), decision_schema()) as writer:
            waiting = iter(documents)
            for num_rows in ends:
                rows = [next(waiting) for _ in range(num_rows)]
                writer.write_table(_decisions(rows))

    publish(store, "cleaned_corpus", corpus)


def _decisions(rows: Sequence[tuple[str, CrawlRecord]]) -> Any:
    import pyarrow as pa

    kept = [
        {"url": document.url, "language": document.language, "kept": True, "split": split}
        | {"cluster": content_hash(document.url)}
        for split, document in rows
    ]
    return pa.Table.from_pylist(kept, decision_schema())
