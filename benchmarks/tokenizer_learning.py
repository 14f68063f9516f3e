"""Learn merges from a large corpus: seconds and processor seconds of each step, and the peak memory of all of them.

    python -m benchmarks.tokenizer_learning --tokenizer DIR --work WORK DROPS...

The corpus is synthetic (`synthetic_corpus.py`: paragraphs of the drops, every sixth word replaced), `--megabytes` of
UTF-8 in WORK, used again by the next run. The process that measures has not made it, and uses one core: start it with
`taskset -c 0` where others may run. What is learned is what the stage domain_tokenizer would learn with these settings,
but for tokenizer.min_gain, which is 0 here so that nothing stops before `--merges`.
"""

import argparse
import json
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.environment import ONE_CORE, environment_lines

_ROWS_PER_GROUP = 1024


def write_corpus(drops: list[Path], megabytes: float, path: Path) -> None:
    """Synthetic documents as `train.parquet`, at least so many megabytes of text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from benchmarks.paragraphs import read_paragraphs
    from benchmarks.synthetic_corpus import CorpusPlan, SyntheticCorpus

    corpus = SyntheticCorpus(read_paragraphs(drops), CorpusPlan())
    schema = pa.schema([(name, pa.string()) for name in ("title", "content", "language")])
    unfinished = path.with_suffix(".part")
    num_bytes, number = 0, 0
    with pq.ParquetWriter(unfinished, schema, compression="zstd") as writer:
        while num_bytes < megabytes * 1e6:
            rows = [corpus.document(number + i).record for i in range(_ROWS_PER_GROUP)]
            number += len(rows)
            num_bytes += sum(len(row["content"].encode()) for row in rows)
            writer.write_table(pa.Table.from_pylist([{name: row[name] for name in schema.names} for row in rows]))
    unfinished.replace(path)


class Clock:
    """Seconds and processor seconds by step."""

    def __init__(self) -> None:
        self.steps: dict[str, dict[str, float]] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure what is done inside."""
        wall, processor = time.perf_counter(), time.process_time()
        yield
        self.steps[name] = {
            "seconds": time.perf_counter() - wall,
            "processor_seconds": time.process_time() - processor,
        }


def measure(tokenizer: Path, corpus: Path, num_merges: int) -> dict[str, Any]:
    """Count, segment and weigh, learn, write; what each took, and the process's peak memory in MiB."""
    from smartdevdigest_ops.settings import TokenizerSettings
    from smartdevdigest_ops.tokenizer.base import open_base
    from smartdevdigest_ops.tokenizer.learn import learn_merges
    from smartdevdigest_ops.tokenizer.pre_tokens import count_pre_tokens, stream_split
    from smartdevdigest_ops.tokenizer.votes import collect_votes
    from smartdevdigest_ops.tokenizer.write import write_extended_tokenizer

    settings = TokenizerSettings(num_new_tokens=num_merges)
    clock = Clock()
    with clock.step("open the base"):
        base = open_base(tokenizer)
    with clock.step("count pre-tokens"):
        counts = count_pre_tokens(base, stream_split(corpus.parent, corpus.stem))
    with clock.step("segment and weigh"):
        votes = collect_votes(base, counts, min_documents=settings.min_documents, balance=settings.balance)
    with clock.step("learn merges"):
        table = learn_merges(
            base,
            votes.segments,
            num_new_tokens=num_merges,
            min_votes=settings.min_frequency,
            max_token_characters=settings.max_token_characters,
        )
    with clock.step("write"), tempfile.TemporaryDirectory() as scratch:
        write_extended_tokenizer(tokenizer, table, Path(scratch))
    return {
        "steps": clock.steps,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "num_merges": len(table.symbols),
        "num_pre_tokens": len(counts.num_documents),
        "num_voting": len(votes.segments),
        "num_bytes": sum(
            len(base.data(word)) * count for counted in counts.by_kind.values() for word, count in counted.items()
        ),
    }


def main() -> None:
    """Measure and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("drops", nargs="+", type=Path)
    parser.add_argument("--tokenizer", type=Path, required=True, help="directory with tokenizer.json")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--megabytes", type=float, default=100)
    parser.add_argument("--merges", type=int, default=32_000)
    parser.add_argument("--out", type=Path, help="file for the readings (JSON)")
    options = parser.parse_args()
    os.environ.update(ONE_CORE)
    options.work.mkdir(parents=True, exist_ok=True)
    corpus = options.work / f"train-{options.megabytes:g}.parquet"
    if not corpus.is_file():
        maker = multiprocessing.get_context("spawn").Process(
            target=write_corpus, args=(options.drops, options.megabytes, corpus)
        )
        maker.start()
        maker.join()
        if maker.exitcode:
            raise SystemExit("making the corpus failed: see above")
    print("\n".join(environment_lines(("tokenizers", "pyarrow"))))
    found = measure(options.tokenizer, corpus, options.merges)
    print(
        f"- {found['num_bytes'] / 1e6:.1f} MB, {found['num_pre_tokens']:,} different pre-tokens, "
        f"{found['num_voting']:,} vote; {found['num_merges']:,} merges; peak memory {found['peak_mib']:,.0f} MiB\n"
    )
    print("| step | seconds | processor seconds |\n|---|---:|---:|")
    total = {name: sum(step[name] for step in found["steps"].values()) for name in ("seconds", "processor_seconds")}
    for name, step in {**found["steps"], "all": total}.items():
        print(f"| {name} | {step['seconds']:.1f} | {step['processor_seconds']:.1f} |")
    if options.out:
        options.out.write_text(json.dumps(found, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
