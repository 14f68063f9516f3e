"""How cleaning scales: time and memory against the size of the corpus, and the cost of one drop onto a large corpus.

    python -m benchmarks.corpus_scale --from DROPS... --work DIR --minutes 20 --plot docs/corpus_scale.png
    python -m benchmarks.corpus_scale --from DROPS... --work DIR --increment

Corpora are synthetic (`synthetic_corpus.py`: ko and en, 2,100 characters, one document in ten derived from another),
in drops of 1,000. The first command takes in n of them from nothing, for growing n, each in a process of its own: once
as drops of 1,000, once (`--one-drop`) as a single drop, which shows that memory does not follow the drop's size. The
second one grows one store to 10,000, 100,000 and 500,000 documents, and measures at each size what the next three
drops cost.

Readings are kept in DIR with the stages' code versions and used again, so both go on where they were stopped.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.corpus_store import STAGES
from benchmarks.environment import ONE_CORE, environment_lines
from benchmarks.planted_duplicates import count_found
from benchmarks.project_pipeline import scratch_settings
from benchmarks.synthetic_corpus import CorpusPlan, read_truth, write_synthetic_corpus
from smartdevdigest_ops.artifacts import ArtifactStore, content_hash
from smartdevdigest_ops.stage import code_version

PER_DROP = 1000
SIZES = (1000, 3000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
CORPORA = (10_000, 100_000, 500_000)
_DROPS_PER_BATCH = 25  # of a store that is grown without being measured
_COLORS = {"raw_crawl": "#4477aa", "cleaned_documents": "#ee6677", "cleaned_corpus": "#228833"}

Readings = dict[str, dict[str, float]]


class KeptReadings:
    """Readings by name in a file; those of other code are forgotten."""

    def __init__(self, work: Path) -> None:
        settings = scratch_settings(work)
        self.code = content_hash(" ".join(code_version(stage, settings) for stage in STAGES))
        self._path = work / f"readings-{self.code}.json"
        self._readings: dict[str, Readings] = json.loads(self._path.read_text()) if self._path.is_file() else {}

    def __getitem__(self, name: str) -> Readings:
        return self._readings[name]

    def __contains__(self, name: str) -> bool:
        return name in self._readings

    def keep(self, name: str, readings: Readings) -> None:
        """Add one and save all."""
        self._readings[name] = readings
        unfinished = self._path.with_suffix(".part")
        unfinished.write_text(json.dumps(self._readings, indent=1))
        unfinished.replace(self._path)


def take_in(drops: Sequence[Path], store: Path) -> Readings:
    """Readings of `corpus_store` for these drops, in a process of its own."""
    out = store.with_suffix(".json")
    store.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "benchmarks.corpus_store", "--store", str(store), "--out", str(out)]
    done = subprocess.run(
        [*command, *map(str, drops)],
        env=os.environ | ONE_CORE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"taking in {len(drops)} drops failed:\n{done.stderr[-3000:]}")
    readings: Readings = json.loads(out.read_text())
    out.unlink()
    return readings


def total(readings: Readings) -> float:
    """Seconds of all stages."""
    return sum(readings[stage]["seconds"] for stage in STAGES)


def measure_sizes(options: argparse.Namespace, kept: KeptReadings) -> dict[str, dict[int, Readings]]:
    """Readings by layout (drops of 1,000, one drop) and size, as far as the minutes allow."""
    layouts = ("drops of 1,000", "one drop") if options.one_drop else ("drops of 1,000",)
    found: dict[str, dict[int, Readings]] = {layout: {} for layout in layouts}
    left = options.minutes * 60
    pace = 0.01  # seconds per document, until one is measured
    for size in options.sizes:
        for layout in layouts:
            name = f"{layout}: {size}"
            if name not in kept:
                if pace * size > left:
                    say(f"{size:,} documents would take {pace * size / 60:.0f} minutes; {left / 60:.0f} are left: stop")
                    return found
                drops = synthetic_drops(options, size)
                if layout == "one drop":
                    drops = [joined(drops, options.work / "one-drop.jsonl.gz")]
                start = time.monotonic()
                shutil.rmtree(options.work / "scale", ignore_errors=True)
                readings = take_in(drops, options.work / "scale")
                left -= time.monotonic() - start
                store = ArtifactStore(scratch_settings(options.work / "scale").store_dir)
                readings["duplicates"] = count_found(store, read_truth(options.work / "synthetic"))
                kept.keep(name, readings)
                shutil.rmtree(options.work / "scale")
            found[layout][size] = kept[name]
            pace = total(kept[name]) / size
            say(f"{name}: {total(kept[name]):.1f} s")
    return found


def measure_increments(options: argparse.Namespace, kept: KeptReadings) -> dict[int, list[Readings]]:
    """Readings of the drops that were taken in after each size was reached."""
    store = options.work / f"growing-{kept.code}"
    found: dict[int, list[Readings]] = {}
    done = 0
    for size in options.corpora:
        first = size // PER_DROP
        names = [f"onto {size}: {n}" for n in range(options.repeats)]
        if all(name in kept for name in names):
            found[size] = [kept[name] for name in names]
            done = first + options.repeats
            continue
        drops = synthetic_drops(options, size + options.repeats * PER_DROP)
        for start in range(done, first, _DROPS_PER_BATCH):
            take_in(drops[start : min(first, start + _DROPS_PER_BATCH)], store)
            say(f"store of {min(first, start + _DROPS_PER_BATCH) * PER_DROP:,} documents")
        for n, name in enumerate(names):
            if name not in kept:
                kept.keep(name, take_in([drops[first + n]], store))
            say(f"{name}: {total(kept[name]):.2f} s")
        found[size] = [kept[name] for name in names]
        done = first + options.repeats
    return found


def synthetic_drops(options: argparse.Namespace, num_documents: int) -> list[Path]:
    """Drops of the synthetic corpus, written now where they are missing."""
    plan = CorpusPlan(seed=options.seed, documents_per_drop=PER_DROP)
    return write_synthetic_corpus(options.sources, num_documents, plan, options.work / "synthetic")


def joined(drops: Sequence[Path], path: Path) -> Path:
    """All drops as one file (gzip members one after the other are a gzip file)."""
    with path.open("wb") as whole:
        for drop in drops:
            with drop.open("rb") as part:
                shutil.copyfileobj(part, whole)
    return path


def size_table(found: Mapping[str, Mapping[int, Readings]]) -> Iterator[str]:
    """Markdown: seconds, peak memory and planted duplicates by size ("false": similar ones that were dropped)."""
    columns = (*(f"{stage} s" for stage in STAGES), "total s", "documents/s", "peak MiB", "planted found", "false")
    yield f"| documents | as | {' | '.join(columns)} |"
    yield "|---:|---|" + "---:|" * len(columns)
    for layout, by_size in found.items():
        for size, readings in by_size.items():
            seconds = " | ".join(f"{readings[stage]['seconds']:.1f}" for stage in STAGES)
            peak = max(readings[stage]["peak_mib"] for stage in STAGES)
            whole = total(readings)
            counts = readings["duplicates"]
            found_of = f"{counts['found']:,.0f} of {counts['planted']:,.0f}"
            false_of = f"{counts['dropped']:,.0f} of {counts['similar']:,.0f}"
            yield (
                f"| {size:,} | {layout} | {seconds} | {whole:.1f} | {size / whole:,.0f} | {peak:,.0f} | "
                f"{found_of} | {false_of} |"
            )


def increment_table(found: Mapping[int, Sequence[Readings]]) -> Iterator[str]:
    """Markdown: what a drop of 1,000 costs onto each size, medians, and how that compares to the first size."""
    columns = (*(f"{stage} s" for stage in STAGES), "total s", "range", "to the first", "processor s", "to the first")
    yield f"| onto | {' | '.join(columns)} | peak MiB |"
    yield "|---:|" + "---:|" * (len(columns) + 1)
    first: tuple[float, float] | None = None
    for size, several in found.items():
        totals = [total(readings) for readings in several]
        wall = statistics.median(totals)
        cpu = statistics.median(sum(readings[stage]["cpu_seconds"] for stage in STAGES) for readings in several)
        first = first or (wall, cpu)
        stages = []
        for stage in STAGES:
            seconds = statistics.median(readings[stage]["seconds"] for readings in several)
            stages.append(f"{seconds:.2f} ({seconds / wall:.0%})")
        peak = max(readings[stage]["peak_mib"] for readings in several for stage in STAGES)
        yield (
            f"| {size:,} | {' | '.join(stages)} | {wall:.2f} | {min(totals):.2f}-{max(totals):.2f} | "
            f"{wall / first[0]:.2f}x | {cpu:.2f} | {cpu / first[1]:.2f}x | {peak:,.0f} |"
        )


def plot_sizes(found: Mapping[str, Mapping[int, Readings]], memory_mib: int, path: Path) -> None:
    """Write the picture: seconds on the left, peak memory on the right, both axes logarithmic."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (time_axis, memory_axis) = plt.subplots(1, 2, figsize=(10, 4.2), constrained_layout=True)
    for (layout, by_size), style in zip(found.items(), ("-", "--"), strict=False):
        sizes = list(by_size)
        for stage in STAGES:
            label = f"{stage}, {layout}"
            seconds = [by_size[size][stage]["seconds"] for size in sizes]
            peaks = [by_size[size][stage]["peak_mib"] for size in sizes]
            time_axis.plot(sizes, seconds, style, marker="o", markersize=3, color=_COLORS[stage], label=label)
            memory_axis.plot(sizes, peaks, style, marker="o", markersize=3, color=_COLORS[stage], label=label)
    first = next(iter(found.values()))
    sizes = list(first)
    guide = [0.5 * first[sizes[0]]["raw_crawl"]["seconds"] * size / sizes[0] for size in sizes]
    time_axis.plot(sizes, guide, ":", color="grey", label="proportional to n")
    memory_axis.axhline(memory_mib, linestyle=":", color="grey", label="corpus.memory_mib")
    for axis, title, unit in ((time_axis, "Time", "seconds"), (memory_axis, "Peak memory of the process", "MiB")):
        axis.set(xscale="log", yscale="log", title=title, xlabel="documents", ylabel=unit)
        axis.grid(alpha=0.3)
    figure.legend(*time_axis.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=7)
    memory_axis.set_ylim(50, 2 * memory_mib)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def say(line: str) -> None:
    """Progress, apart from the tables."""
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="sources", nargs="+", type=Path, required=True, help="drops of real records")
    parser.add_argument("--work", type=Path, required=True, help="directory that is used again by the next run")
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--minutes", type=float, default=20, help="measuring stops before it would exceed them")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--one-drop", action="store_true", help="measure each size as a single drop too")
    parser.add_argument("--plot", type=Path, help="PNG file to write")
    parser.add_argument("--increment", action="store_true", help="measure drops onto corpora instead of sizes")
    parser.add_argument("--corpora", type=int, nargs="+", default=CORPORA, help="sizes to measure drops onto")
    parser.add_argument("--repeats", type=int, default=3, help="drops measured at each size")
    options: Any = parser.parse_args()
    lines = environment_lines()
    options.work.mkdir(parents=True, exist_ok=True)
    kept = KeptReadings(options.work)
    memory_mib = scratch_settings(options.work).corpus.memory_mib
    lines += [f"- one process, one thread; corpus.memory_mib {memory_mib}; the store on a local disk", ""]
    if options.increment:
        lines += increment_table(measure_increments(options, kept))
    else:
        found = measure_sizes(options, kept)
        lines += size_table(found)
        if options.plot:
            plot_sizes(found, memory_mib, options.plot)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
