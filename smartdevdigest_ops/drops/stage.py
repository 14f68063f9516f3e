"""Stage `raw_crawl`: one drop's records, each checked against the contract, and the rejects with their reasons."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from smartdevdigest_ops.artifacts import ArtifactStore, canonical_json, file_sha256
from smartdevdigest_ops.contracts import CrawlRecord
from smartdevdigest_ops.drops.files import BlankLine, CrawlError, drop_format, drop_path, read_entries
from smartdevdigest_ops.drops.records import Reject
from smartdevdigest_ops.drops.tables import RowWriter, num_rows, read_rows
from smartdevdigest_ops.settings import Settings
from smartdevdigest_ops.stage import Check, CheckResult, Stage, StageContext, StageReport

if TYPE_CHECKING:
    import pyarrow as pa

MAX_REJECT_SHARE = 0.2
"""From here on it is more likely that the crawler changed its format than that single pages are broken."""


@dataclass
class DropCounts:
    """What was found in a drop, line by line."""

    num_lines: int = 0
    """Lines, array elements or rows, blank lines among them."""
    num_blank_lines: int = 0
    records: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By declared language and source type."""
    rejects: Counter[str] = field(default_factory=Counter)
    """By reason."""

    @property
    def num_records(self) -> int:
        """Records that hold the contract."""
        return self.records.total()

    @property
    def num_rejects(self) -> int:
        """Records that do not."""
        return self.rejects.total()


def take_in_drop(path: Path, out: Path, name: str) -> DropCounts:
    """Write `records.parquet` and `rejects.parquet` of the drop at `path`; `name` is what rejects call it.

    Raises:
        CrawlError: the file cannot be read to its end, or holds no usable record.
    """
    counts = DropCounts()
    with (
        RowWriter(out / "records.parquet", record_schema()) as records,
        RowWriter(out / "rejects.parquet", reject_schema()) as rejects,
    ):
        for line, entry in tqdm(read_entries(path), desc=f"drop {name}", unit=" records", mininterval=1):
            counts.num_lines += 1
            if isinstance(entry, BlankLine):
                counts.num_blank_lines += 1
            elif isinstance(entry, Reject):
                counts.rejects[entry.reason] += 1
                rejects.write({"file": name, "line": line, "reason": entry.reason, "excerpt": entry.excerpt})
            else:
                counts.records[entry.language, entry.source_type] += 1
                records.write(_record_row(line, entry))
    if not counts.num_records:
        raise CrawlError(_no_record(path, counts))
    return counts


def read_records(directory: Path) -> Iterator[dict[str, Any]]:
    """Rows of a raw_crawl artifact's `records.parquet`, one row group in memory at a time."""
    yield from read_rows(directory / "records.parquet")


def drop_name(directory: Path) -> str:
    """Name of the file that a raw_crawl artifact was made from; names begin with the drop's date."""
    return str(json.loads((directory / "drop.json").read_text(encoding="utf-8"))["name"])


def record_schema() -> "pa.Schema":
    """Columns of `records.parquet`."""
    import pyarrow as pa

    text = ("source_type", "url", "language", "title", "content", "author", "publish_date")
    return pa.schema(
        [
            ("line", pa.int64()),
            *((name, pa.string()) for name in text),
            ("tags", pa.list_(pa.string())),
            ("views", pa.int64()),
            ("extra", pa.string()),
        ]
    )


def reject_schema() -> "pa.Schema":
    """Columns of `rejects.parquet`."""
    import pyarrow as pa

    return pa.schema([("file", pa.string()), ("line", pa.int64()), ("reason", pa.string()), ("excerpt", pa.string())])


def check_totals(counts: DropCounts, num_records: int, num_rejects: int) -> CheckResult:
    """Whether every line became a row of one of the two tables (their row counts), or is blank."""
    found = num_records + num_rejects + counts.num_blank_lines
    message = (
        f"{counts.num_lines} lines = {num_records} records + {num_rejects} rejects + {counts.num_blank_lines} blank"
    )
    return CheckResult("totals_reconcile", found == counts.num_lines, message)


def check_reject_rate(counts: DropCounts) -> CheckResult:
    """Whether so few records were rejected that the crawler's format is still the contract's."""
    share = counts.num_rejects / max(1, counts.num_records + counts.num_rejects)
    message = f"{share:.1%} of the records were rejected, at most {MAX_REJECT_SHARE:.0%} is usual"
    return CheckResult("reject_rate", share <= MAX_REJECT_SHARE, message, {"reject_share": share})


def _record_row(line: int, record: CrawlRecord) -> dict[str, Any]:
    # ASCII, because `extra` may hold what is no Unicode text (half a surrogate pair) and Parquet would refuse.
    extra = json.dumps(record.extra, sort_keys=True, default=str)
    return {"line": line, **record.model_dump(exclude={"extra"}), "extra": extra}


def _no_record(path: Path, counts: DropCounts) -> str:
    if not counts.num_rejects:
        return f"{path} holds no record ({counts.num_lines} lines, all blank). Nothing was taken in; check the crawler."
    reasons = "; ".join(f"{count} x {reason}" for reason, count in counts.rejects.most_common(3))
    return (
        f"{path}: all {counts.num_rejects} records were rejected, so the drop was not taken in. Most frequent reasons: "
        f"{reasons}. The contract of a record is smartdevdigest_ops/contracts/schemas/crawl_record.schema.json; mend "
        "the crawler's output and take in the new file."
    )


def _reasons_table(rejects: Mapping[str, int]) -> str:
    rows = sorted(rejects.items(), key=lambda item: (-item[1], item[0]))[:20]
    cells = ((reason.replace("|", "\\|"), count) for reason, count in rows)
    return "\n".join(["| rejected because | records |", "|---|---:|", *(f"| {r} | {count} |" for r, count in cells)])


def _make(context: StageContext) -> StageReport:
    key = str(context.partition)
    path = drop_path(context.store, key)
    if not file_sha256(path).startswith(key):
        raise CrawlError(
            f"{path} is no longer what was registered as drop {key}: a drop never changes. Put the new content into a "
            "file of its own and take that in as a new drop."
        )
    counts = take_in_drop(path, context.out, path.name)
    fields = {"name": path.name, "format": drop_format(path), "bytes": path.stat().st_size}
    (context.out / "drop.json").write_text(canonical_json(fields) + "\n", encoding="utf-8")
    context.log(f"drop {key} ({path.name}): {counts.num_records} records, {counts.num_rejects} rejected")
    metrics = {
        "num_lines": counts.num_lines,
        "num_blank_lines": counts.num_blank_lines,
        "num_records": counts.num_records,
        "num_rejects": counts.num_rejects,
        "bytes": path.stat().st_size,
    }
    for (language, source_type), count in sorted(counts.records.items()):
        for name in (f"num_records_{language}", f"num_records_{source_type}"):
            metrics[name] = metrics.get(name, 0) + count
    tables = (num_rows(context.out / "records.parquet"), num_rows(context.out / "rejects.parquet"))
    notes: dict[str, Any] = {"drop": path.name}
    if counts.rejects:
        notes["markdown"] = _reasons_table(counts.rejects)
    return StageReport(metrics, (check_totals(counts, *tables), check_reject_rate(counts)), notes)


def _drop_file(settings: Settings, store: ArtifactStore, partition: str | None) -> list[Path]:
    return [drop_path(store, str(partition))]


STAGE = Stage(
    name="raw_crawl",
    make=_make,
    code_version="2",
    partitioned=True,
    outside_files=_drop_file,
    checks=(
        Check("totals_reconcile", "Every line of the drop is a record, a reject or blank."),
        Check("reject_rate", f"At most {MAX_REJECT_SHARE:.0%} of the records are rejected.", blocking=False),
    ),
)
