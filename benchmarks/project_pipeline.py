"""Clean crawl records with this project on one core: the other side of `datatrove_pipeline.py`, with the same result.

    python -m benchmarks.project_pipeline --part cleaning --work DIR --out RESULT.json FILES.jsonl

Parts:

    near_duplicates  shingles, MinHash, candidates by bands, verification, decisions, kept documents written; every
                     record counts as a page of its own, so only texts decide
    cleaning         the stages raw_crawl, cleaned_documents (of each file) and cleaned_corpus, as a run makes them

Models and libraries are loaded (by the first 20 records) before the clock starts.
"""

import argparse
import json
import os
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.datatrove_pipeline import Clock
from smartdevdigest_ops.artifacts import Artifact, ArtifactStore, content_hash
from smartdevdigest_ops.contracts import CrawlRecord
from smartdevdigest_ops.corpus.assemble import HeldOut, bring_up_to_date
from smartdevdigest_ops.corpus.contamination import read_gold
from smartdevdigest_ops.corpus.documents import DOCUMENTS_FILE, SIGNATURES_FILE, cleaned_schema
from smartdevdigest_ops.corpus.index import SURVIVOR, CorpusIndex
from smartdevdigest_ops.corpus.normalise import fold
from smartdevdigest_ops.corpus.read import CorpusDrop, DocumentFiles, corpus_drops, decisions_file
from smartdevdigest_ops.corpus.shingles import minhash_signatures, window_hashes
from smartdevdigest_ops.corpus.takedown import read_takedowns
from smartdevdigest_ops.corpus.url import canonical_url
from smartdevdigest_ops.drops.files import read_drop, register_drop
from smartdevdigest_ops.drops.tables import RowWriter
from smartdevdigest_ops.settings import CorpusSettings, Settings, load_settings
from smartdevdigest_ops.stage import plan_stage, run_stage

NEAR_DUPLICATES, CLEANING = "near_duplicates", "cleaning"

_COPIED = ("source_type", "language", "title", "author", "publish_date", "tags")
_BATCH_WINDOWS = 1 << 20


def scratch_settings(work: Path) -> Settings:
    """The default settings, with the store in a scratch directory."""
    return load_settings("ci", overrides={"store": {"root": str(work / "store")}})


def run(name: str, settings: Settings, partitions: Sequence[str | None] = (None,)) -> None:
    """Plan and make one stage in this process, silently: once, or for each partition."""
    for partition in partitions:
        run_stage(plan_stage(name, settings, partition), lambda line: None)


def clean_with_project(files: Sequence[Path], work: Path, clock: Clock) -> dict[str, Any]:
    """Records kept (`file:line`) after every stage of cleaning ran over the files, each a drop."""
    settings = scratch_settings(work)
    store = ArtifactStore(settings.store_dir)
    names = {register_drop(store, path): path.name for path in files}
    keys = list(names)
    clock.time("raw_crawl", lambda: run("raw_crawl", settings, keys))
    clock.time("cleaned_documents", lambda: run("cleaned_documents", settings, keys))
    clock.time("cleaned_corpus", lambda: run("cleaned_corpus", settings))
    corpus = store.current("cleaned_corpus")
    assert corpus is not None
    kept = [f"{names[row['drop']]}:{row['line']}" for row in read_decisions(corpus) if row["kept"]]
    return {"kept": kept, "num_compared": sum(1 for _ in read_decisions(corpus))}


def read_decisions(corpus: Artifact) -> Iterator[dict[str, Any]]:
    """Rows of all decisions of a cleaned_corpus, with their drop."""
    import pyarrow.parquet as pq

    for drop in corpus_drops(corpus.path):
        for row in pq.read_table(corpus.path / decisions_file(drop.key)).to_pylist():
            yield row | {"drop": drop.key}


def remove_near_duplicates(files: Sequence[Path], work: Path, clock: Clock) -> dict[str, Any]:
    """Records kept (`file:line`) and clusters, with the near-duplicate parts of the project alone."""
    settings = CorpusSettings()
    directories = {path.name: work / "documents" / path.name for path in files}

    def sign() -> None:
        for path in files:
            _sign(path, directories[path.name], settings)

    clock.time("signatures", sign)
    index = CorpusIndex(work / "index.sqlite", "benchmark", settings.memory_mib)
    documents = DocumentFiles(directories, settings.duplicates.permutations)
    drops = [CorpusDrop(path.name, path.name, "1") for path in files]
    held_out = HeldOut({}, read_gold([]), read_takedowns(None))
    clock.time("compare", lambda: bring_up_to_date(index, drops, documents, held_out, settings))
    decisions: dict[str, list[dict[str, Any]]] = {}

    def write() -> None:
        for drop in index.drops:
            decisions[drop.key] = list(index.decisions(drop.first_id, drop.last_id))
            _write_kept(documents, drop.key, decisions[drop.key], work / "kept" / f"{drop.key}.parquet")

    clock.time("write", write)
    index.close()
    kept = []
    clusters: dict[str, list[str]] = {}
    for key, rows in decisions.items():
        for row in rows:
            clusters.setdefault(row["first_url"], []).append(f"{key}:{row['line']}")
        kept += [f"{key}:{row['line']}" for row in rows if row["state"] == SURVIVOR]
    found = [members for members in clusters.values() if len(members) > 1]
    return {"kept": kept, "clusters": found, "num_compared": sum(map(len, decisions.values()))}


def _sign(path: Path, out: Path, settings: CorpusSettings) -> None:
    """Write the documents of a file, and their signatures, as cleaning a drop does."""
    waiting: list[Any] = []
    with RowWriter(out / DOCUMENTS_FILE, cleaned_schema()) as documents, (out / SIGNATURES_FILE).open("wb") as stream:

        def flush() -> None:
            stream.write(minhash_signatures(waiting, settings.duplicates.permutations).astype("<u4").tobytes())
            waiting.clear()

        for line, record in read_drop(path):
            if not isinstance(record, CrawlRecord):
                continue
            folded = fold(record.content)
            url = canonical_url(f"https://record.example/{path.name}/{line}")
            documents.write(
                {name: getattr(record, name) for name in _COPIED}
                | {"line": line, "url": url, "canonical_url": url, "content": record.content}
                | {"folded_hash": content_hash(folded), "num_characters": len(record.content), "translation_keys": []}
            )
            waiting.append(window_hashes(folded, settings.duplicates.shingle_characters))
            if sum(map(len, waiting)) >= _BATCH_WINDOWS:
                flush()
        flush()


def _write_kept(documents: DocumentFiles, key: str, decisions: Sequence[dict[str, Any]], out: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    out.parent.mkdir(exist_ok=True)
    done = 0
    with pq.ParquetWriter(out, cleaned_schema(), compression="zstd") as writer:
        for group in documents.row_groups(key, cleaned_schema().names):
            rows = decisions[done : done + group.num_rows]
            writer.write_table(group.filter(pa.array([row["state"] == SURVIVOR for row in rows])))
            done += group.num_rows


PARTS: dict[str, Callable[[Sequence[Path], Path, Clock], dict[str, Any]]] = {
    NEAR_DUPLICATES: remove_near_duplicates,
    CLEANING: clean_with_project,
}


def warm_up(part: str, drop: Path, work: Path) -> None:
    """Run a part over the first records of a drop, so that whatever it loads is loaded."""
    work.mkdir(parents=True)
    records = (record for _, record in read_drop(drop) if isinstance(record, CrawlRecord))
    path = work / "warm-up.jsonl"
    path.write_text("".join(f"{record.model_dump_json()}\n" for record in islice(records, 20)), encoding="utf-8")
    PARTS[part]([path], work, Clock())


def main() -> None:
    """Run one part over the files of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, help="files of crawl records, in order of their names")
    parser.add_argument("--part", choices=tuple(PARTS), required=True)
    parser.add_argument("--work", type=Path, required=True, help="an empty directory")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    files = sorted(options.files, key=lambda path: path.name)
    warm_up(options.part, files[0], options.work / "warm-up")
    clock = Clock()
    result = PARTS[options.part](files, options.work, clock)
    num_documents = 0
    for path in files:
        with path.open("rb") as lines:
            num_documents += sum(1 for _ in lines)
    core = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    result |= {"part": options.part, "seconds": clock.seconds, "num_documents": num_documents, "core": core}
    options.out.write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
