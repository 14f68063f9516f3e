"""Stages `cleaned_corpus` (all drops cleaned, de-duplicated and split) and `corpus_snapshot` (frozen for training)."""

from pathlib import Path

from smartdevdigest_ops.artifacts import ArtifactStore
from smartdevdigest_ops.corpus.clean import (
    check_script,
    check_totals,
    check_urls,
    drop_order,
    reasons_table,
    write_corpus,
)
from smartdevdigest_ops.corpus.prepare import PREPARE_VERSION, PreparedDrops, prepare_drop, prepared_name
from smartdevdigest_ops.corpus.snapshot import check_disjoint, check_filled, write_snapshot
from smartdevdigest_ops.corpus.split import read_pinned
from smartdevdigest_ops.settings import Settings, resolve_path
from smartdevdigest_ops.stage import Check, Stage, StageContext, StageReport


def _clean(context: StageContext) -> StageReport:
    import pyarrow.parquet as pq

    settings = context.settings.corpus
    drops = context.partitions("raw_crawl")
    names = drop_order(drops)
    cache = context.store.root / ".cache" / "prepared"
    cache.mkdir(parents=True, exist_ok=True)
    files = {key: cache / prepared_name(drops[key].version, settings) for key in names}
    new = [key for key in names if not files[key].is_file()]
    context.log(f"{len(names)} drops, {len(new)} of them new to clean")
    for key in new:
        prepare_drop(drops[key].path, files[key], names[key], settings)
    pinned = read_pinned(*_held_out_files(context.settings))
    counts = write_corpus(names, PreparedDrops(files), context.out, settings, pinned)
    _forget_others(cache, set(files.values()))

    tables = {kind: sorted((context.out / kind).glob("*.parquet")) for kind in ("documents", "dropped")}
    num_rows = {kind: sum(pq.read_metadata(file).num_rows for file in tables[kind]) for kind in tables}
    urls = [url for file in tables["documents"] for url in pq.read_table(file)["canonical_url"].to_pylist()]
    num_in = sum(pq.read_metadata(drops[key].path / "records.parquet").num_rows for key in names)
    metrics: dict[str, float] = {
        "num_drops": len(names),
        "num_records": counts.num_records,
        "num_documents": num_rows["documents"],
        "num_dropped": num_rows["dropped"],
        "num_languages_corrected": counts.num_languages_corrected,
    }
    metrics |= {f"num_dropped_{reason}": count for reason, count in sorted(counts.reasons().items())}
    for (language, split), count in sorted(counts.kept.items()):
        for name in (f"num_documents_{language}", f"num_documents_{split}"):
            metrics[name] = metrics.get(name, 0) + count
    if pinned:
        metrics["num_pinned_urls"] = len(pinned)
        metrics["num_pinned_documents"] = len(pinned.keys() & set(urls))
    reasons = ", ".join(f"{number} {reason}" for reason, number in sorted(counts.reasons().items())) or "none"
    context.log(f"{num_rows['documents']} documents kept of {counts.num_records} records; dropped: {reasons}")
    checks = (check_totals(num_in, num_rows["documents"], num_rows["dropped"]), check_urls(urls), check_script(counts))
    return StageReport(metrics, checks, {"markdown": reasons_table(counts, names)})


def _freeze(context: StageContext) -> StageReport:
    splits = write_snapshot(context.input("cleaned_corpus").path, context.out)
    metrics: dict[str, float] = {}
    lines = ["| split | ko | en | characters |", "|---|---:|---:|---:|"]
    for split, table in splits.items():
        frame = table.select(["language", "num_characters"]).to_pandas()
        sizes = {language: int((frame["language"] == language).sum()) for language in ("ko", "en")}
        num_characters = int(frame["num_characters"].sum())
        metrics |= {f"num_documents_{split}_{language}": size for language, size in sizes.items()}
        metrics |= {f"num_documents_{split}": table.num_rows, f"num_characters_{split}": num_characters}
        lines.append(f"| {split} | {sizes['ko']} | {sizes['en']} | {num_characters:,} |")
    metrics["num_documents"] = sum(table.num_rows for table in splits.values())
    return StageReport(metrics, (check_disjoint(splits), check_filled(splits)), {"markdown": "\n".join(lines)})


def _held_out_files(settings: Settings) -> tuple[Path | None, Path | None]:
    valid, test = settings.data.valid_path, settings.data.test_path
    return (resolve_path(valid) if valid else None, resolve_path(test) if test else None)


def _outside_files(settings: Settings, store: ArtifactStore, partition: str | None) -> list[Path]:
    return [path for path in _held_out_files(settings) if path is not None]


def _forget_others(cache: Path, used: set[Path]) -> None:
    """Remove prepared drops of other settings or contents: the cache is never larger than the corpus."""
    for file in cache.iterdir():
        if file not in used:
            file.unlink(missing_ok=True)


STAGES = (
    Stage(
        name="cleaned_corpus",
        make=_clean,
        code_version=f"1.{PREPARE_VERSION}",
        inputs=("raw_crawl",),
        settings=("corpus", "data.valid_path", "data.test_path"),
        outside_files=_outside_files,
        checks=(
            Check("totals_reconcile", "Every record is kept or dropped with a reason."),
            Check("no_duplicate_urls", "No canonical URL has two documents."),
            Check("language_agrees_with_script", "Korean documents are written in Hangul, English ones are not."),
        ),
    ),
    Stage(
        name="corpus_snapshot",
        make=_freeze,
        code_version="1",
        inputs=("cleaned_corpus",),
        checks=(
            Check("splits_are_disjoint", "No URL, text or near-duplicate cluster is in two splits."),
            Check("every_split_has_documents", "Train, valid and test each hold documents."),
        ),
    ),
)
