"""Tokenize a corpus: the project's cached encoding beside plain `encode_batch` of the tokenizers library, in one run.

    python -m benchmarks.tokenization --tokenizer DIR DROPS...

Ways take turns, each of the whole text once, in a process of its own that has encoded a few texts before, with the same
threads. A stage encodes once; in a process that did so before, what the last way left in the allocator costs the next
one up to a third.

- `encode_batch`: the library's own call on all texts at once; what comes out is dropped. The yardstick.
- `encode_batch_fast`: the same without offsets, which is what the project calls.
- `datasets.map`: the usual way, batches of 1,000 through the transformers tokenizer into an Arrow file.
- `encode_corpus`: the project's, with an empty cache: hashing, arrays, and the files on disk with their sums included.
- `encode_corpus, cached`: the same again with what one before left.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.environment import environment_lines
from smartdevdigest_ops.contracts import CrawlRecord
from smartdevdigest_ops.drops.files import read_drop
from smartdevdigest_ops.training.encoding import encode_corpus

YARDSTICK = "encode_batch"
CACHED = "encode_corpus, cached"
WAYS = (YARDSTICK, "encode_batch_fast", "datasets.map", "encode_corpus", CACHED)
_WARM_UP = 20  # texts


def read_texts(drops: Sequence[Path], repeat: int) -> list[str]:
    """Contents of all records; each repetition is marked, so that none is found in the cache."""
    contents = [record.content for drop in drops for _, record in read_drop(drop) if isinstance(record, CrawlRecord)]
    return [content if not number else f"{number}\n{content}" for number in range(repeat) for content in contents]


def ways(tokenizer: Any, texts: list[str], scratch: Path) -> dict[str, Callable[[], Any]]:
    """Name -> what encodes all texts."""
    import datasets
    from tokenizers import Tokenizer

    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.encode_special_tokens = True
    datasets.disable_progress_bars()
    scratch.mkdir(exist_ok=True)
    cache = scratch / "cache"

    def map_dataset() -> Any:
        return datasets.Dataset.from_dict({"text": texts}).map(
            lambda rows: tokenizer(rows["text"], add_special_tokens=False, split_special_tokens=True, verbose=False),
            batched=True,
            remove_columns="text",
            cache_file_name=str(scratch / "map.arrow"),
            load_from_cache_file=False,
        )

    return {
        YARDSTICK: lambda: backend.encode_batch(texts, add_special_tokens=False),
        "encode_batch_fast": lambda: backend.encode_batch_fast(texts, add_special_tokens=False),
        "datasets.map": map_dataset,
        **dict.fromkeys(("encode_corpus", CACHED), lambda: encode_corpus(tokenizer, texts, cache_dir=cache)),
    }


def measure(way: str, tokenizer: Any, texts: list[str]) -> float:
    """Seconds of one way; to be called in a process of its own."""
    scratch = Path(tempfile.mkdtemp())
    try:
        ways(tokenizer, texts[:_WARM_UP], scratch / "warm-up")[way]()  # threads and imports
        encode = ways(tokenizer, texts, scratch)[way]
        if way == CACHED:
            encode()
        start = time.perf_counter()
        found = encode()
        seconds = time.perf_counter() - start
        del found
        return seconds
    finally:
        shutil.rmtree(scratch)


def main() -> None:
    """Measure and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("drops", nargs="+", type=Path)
    parser.add_argument("--tokenizer", type=Path, required=True, help="directory with tokenizer.json")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeat", type=int, default=1, help="times that the texts are taken")
    parser.add_argument("--out", type=Path, help="file for the readings (JSON)")
    parser.add_argument("--child", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    import os

    from transformers import AutoTokenizer

    os.environ["TOKENIZERS_PARALLELISM"] = "true"  # for every way alike
    texts = read_texts(options.drops, options.repeat)
    if options.child:
        print(measure(options.child, AutoTokenizer.from_pretrained(options.tokenizer), texts))
        return
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(options.rounds):
        for way, of_way in seconds.items():
            command = [sys.executable, "-m", "benchmarks.tokenization", *sys.argv[1:], "--child", way]
            child = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            of_way.append(float(child.stdout))
    threads = os.environ.get("RAYON_NUM_THREADS") or len(os.sched_getaffinity(0))
    print("\n".join(environment_lines(("tokenizers", "transformers", "datasets", "numpy"))))
    print(
        f"- {len(texts)} documents, {megabytes:.1f} MB, {threads} threads, median of {options.rounds} rounds (range)\n"
    )
    print("| way | MB/s | of encode_batch |\n|---|---|---|")
    for name, of_way in seconds.items():
        speeds = [megabytes / value for value in of_way]
        share = statistics.median(yard / value for yard, value in zip(seconds[YARDSTICK], of_way, strict=True))
        print(f"| {name} | {statistics.median(speeds):.2f} ({min(speeds):.2f}-{max(speeds):.2f}) | {share:.0%} |")
    if options.out:
        options.out.write_text(json.dumps({"megabytes": megabytes, "seconds": seconds}, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
