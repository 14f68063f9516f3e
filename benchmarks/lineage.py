"""Seconds of `smartdevdigest lineage` over a synthetic store: a page's artifacts, and an artifact's ancestry.

    python -m benchmarks.lineage [--documents 1000000] [--drops 100] [--work DIR]

The store has what a corpus that grew drop by drop has: every drop's records, cleaned documents and decisions, a
cleaned_corpus per drop (each holds the decisions of all drops before it), ten snapshots, labels and models. Each
question is asked by a process of its own, as a user asks it, start of Python included.
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.environment import environment_lines
from smartdevdigest_ops.artifacts import Artifact, ArtifactStore, Making, content_hash
from smartdevdigest_ops.lineage.document_index import DocumentIndex

_SNAPSHOTS = 10
_LABELED = 10_000
_REPEATS = 5


class SyntheticStore:
    """Artifacts with the columns that lineage reads, and records of a realistic size."""

    def __init__(self, root: Path) -> None:
        self.store = ArtifactStore(root)
        self._count = 0

    def publish(
        self, asset: str, tables: dict[str, dict[str, list]], partition: str | None = None, **inputs
    ) -> Artifact:
        """Publish Parquet files (name -> columns) with a record that names `inputs`."""
        self._count += 1
        with self.store.staging(asset) as out:
            for name, columns in tables.items():
                _write(out / name, columns)
            if not tables:
                (out / "model.txt").write_text(str(self._count), encoding="utf-8")
            return self.record(self.store.publish(out, asset, partition), inputs)

    def record(self, artifact: Artifact, inputs: dict) -> Artifact:
        """Write down what an artifact was made from, with 20 kB of notes, as the card of a corpus has."""
        self._count += 1
        made = f"2026-11-30T00:00:00.{self._count:06}+00:00"
        key = content_hash(f"{artifact.asset} {artifact.partition} {artifact.version} {self._count}")
        notes = {"markdown": "a line of the corpus card\n" * 800}
        self.store.record(
            Making(
                artifact.asset,
                artifact.partition,
                artifact.version,
                key,
                inputs,
                {"seed": 17},
                "1",
                {},
                {},
                {},
                [],
                notes,
                made,
            )
        )
        return artifact


def url_of(number: int) -> str:
    """Address of a document."""
    return f"https://site-{number % 997}.example/2026/post-{number}"


def build(root: Path, num_documents: int, num_drops: int) -> SyntheticStore:
    """A store of so many documents, without an index."""
    made = SyntheticStore(root)
    per_drop = num_documents // num_drops
    cleaned: dict[str, str] = {}
    decisions: dict[str, dict] = {}
    corpus: Artifact | None = None
    for drop in range(num_drops):
        urls = [url_of(number) for number in range(drop * per_drop, (drop + 1) * per_drop)]
        key = f"{drop:016x}"
        raw = made.publish("raw_crawl", {"records.parquet": {"url": urls}}, key)
        document = {"url": urls, "canonical_url": urls}
        made_of = {"raw_crawl": {key: raw.version}}
        cleaned[key] = made.publish("cleaned_documents", {"documents.parquet": document}, key, **made_of).version
        with made.store.staging("cleaned_corpus") as out:
            if corpus is not None:
                shutil.copytree(corpus.path / "decisions", out / "decisions", copy_function=os.link)
            _write(out / "decisions" / f"{key}.parquet", {"url": urls, "kept": [True] * len(urls)})
            corpus = made.store.publish(out, "cleaned_corpus", known=decisions)
            decisions = dict(corpus.files)
        made.record(corpus, {"cleaned_documents": dict(cleaned)})
        if (drop + 1) % (num_drops // _SNAPSHOTS) == 0:
            _train(made, corpus, (drop + 1) * per_drop)
    return made


def _train(made: SyntheticStore, corpus: Artifact, num_documents: int) -> None:
    ids = [content_hash(url_of(number)) for number in range(num_documents)]
    tables = {f"{split}.parquet": {"document_id": chosen} for split, chosen in _split(ids).items()}
    snapshot = made.publish("corpus_snapshot", tables, cleaned_corpus=corpus.version).version
    few = {f"{split}.parquet": {"document_id": chosen} for split, chosen in _split(ids[:_LABELED]).items()}
    labels = made.publish("labeled_pairs", few, cleaned_corpus=corpus.version).version
    tokenizer = made.publish("domain_tokenizer", {}, corpus_snapshot=snapshot).version
    m1 = made.publish("m1_checkpoint", {}, corpus_snapshot=snapshot, domain_tokenizer=tokenizer).version
    m2 = made.publish("m2_adapter", {}, labeled_pairs=labels, m1_checkpoint=m1).version
    inputs = {"m1_checkpoint": m1, "m2_adapter": m2, "labeled_pairs": labels, "corpus_snapshot": snapshot}
    made.publish("quantized_model", {}, **inputs)


def _split(ids: list[str]) -> dict[str, list[str]]:
    return {
        "train": ids[: len(ids) * 8 // 10],
        "valid": ids[len(ids) * 8 // 10 : len(ids) * 9 // 10],
        "test": ids[len(ids) * 9 // 10 :],
    }


def _write(path: Path, columns: dict[str, list]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, compression="zstd")


def ask(root: Path, *arguments: str) -> tuple[float, float, int]:
    """(seconds, processor seconds, lines) of one `smartdevdigest lineage` in a process of its own."""
    command = [sys.executable, "-m", "smartdevdigest_ops.cli", "lineage", *arguments]
    start, used = time.perf_counter(), _processor_seconds()
    ended = subprocess.run(
        command, env=os.environ | {"SMARTDEVDIGEST_STORE": str(root)}, check=True, capture_output=True, text=True
    )
    return time.perf_counter() - start, _processor_seconds() - used, ended.stdout.count("\n")


def _processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def index_of(made: SyntheticStore) -> tuple[float, int]:
    """(seconds, bytes) of making the whole index from the files."""
    index = DocumentIndex(made.store)
    start = time.perf_counter()
    for asset in ("raw_crawl", "cleaned_documents", "cleaned_corpus", "corpus_snapshot", "labeled_pairs"):
        for making in made.store.makings(asset):
            index.add(made.store.open(asset, making.version, making.partition))
    return time.perf_counter() - start, sum(file.stat().st_size for file in index.directory.iterdir())


def main() -> None:
    """Build, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--drops", type=int, default=100)
    parser.add_argument("--work", type=Path, help="directory to build the store in; default: a scratch one")
    options = parser.parse_args()
    lines = environment_lines(("numpy", "pyarrow"))
    with tempfile.TemporaryDirectory(dir=options.work) as work:
        root = Path(work) / "store"
        made = build(root, options.documents, options.drops)
        num_records = sum(len(made.store.records(asset.name)) for asset in root.iterdir() if asset.name[0] != ".")
        build_seconds, num_bytes = index_of(made)
        print(*lines, "", sep="\n")
        print(
            f"{options.documents:,} documents, {options.drops} drops, {num_records} records of makings. The whole "
            f"index: {build_seconds:.1f} s to make, {num_bytes / 1e6:.0f} MB.\n"
        )
        print("| question | lines | median s | range s | median processor s |\n|---|---:|---:|---|---:|")
        questions = {
            "`lineage URL`, in the first drop": [url_of(7)],
            "`lineage URL`, in the last drop": [url_of(options.documents - 7)],
            "`lineage URL`, of no document": ["https://nowhere.example/"],
            "`lineage quantized_model`": ["quantized_model"],
        }
        for question, arguments in questions.items():
            asked = [ask(root, *arguments) for _ in range(_REPEATS)]
            seconds = [each for each, _, _ in asked]
            processor = statistics.median(each for _, each, _ in asked)
            print(
                f"| {question} | {asked[0][2]} | {statistics.median(seconds):.2f} "
                f"| {min(seconds):.2f}-{max(seconds):.2f} | {processor:.2f} |"
            )
        shutil.rmtree(root / ".cache")
        seconds_without, processor, _ = ask(root, url_of(7))
        print(f"| the first again, the index deleted before | | {seconds_without:.2f} | once | {processor:.2f} |")


if __name__ == "__main__":
    main()
