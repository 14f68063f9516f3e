"""`corpus_snapshot`: the cleaned corpus frozen by split, which everything expensive is made from."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from smartdevdigest_ops.corpus.clean import document_schema
from smartdevdigest_ops.corpus.split import SPLITS
from smartdevdigest_ops.stage import CheckResult

if TYPE_CHECKING:
    import pyarrow as pa

_IDENTITIES = ("canonical_url", "content_sha256", "cluster")


def write_snapshot(corpus: Path, out: Path) -> dict[str, "pa.Table"]:
    """Write `<split>.parquet` of all drops of a cleaned corpus, sorted by document_id; returns them without content.

    One split is in memory at a time.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = sorted((corpus / "documents").glob("*.parquet"))
    written: dict[str, pa.Table] = {}
    for split in SPLITS:
        parts = [pq.read_table(file, schema=document_schema(), filters=[("split", "=", split)]) for file in files]
        table = pa.concat_tables(parts) if parts else document_schema().empty_table()
        table = table.sort_by("document_id").combine_chunks()
        pq.write_table(table, out / f"{split}.parquet", compression="zstd", row_group_size=1024)
        written[split] = table.select(["language", "num_characters", *_IDENTITIES])
    return written


def check_disjoint(splits: Mapping[str, "pa.Table"]) -> CheckResult:
    """Whether no URL, no text and no near-duplicate cluster is in two splits."""
    seen: dict[tuple[str, str], str] = {}
    shared = []
    for split, table in splits.items():
        for identity in _IDENTITIES:
            for value in set(table[identity].to_pylist()):
                other = seen.setdefault((identity, value), split)
                if other != split:
                    shared.append(f"{identity} {value} in {other} and {split}")
    message = f"{len(shared)} URLs, texts or clusters are in two splits" + (f": {min(shared)}" if shared else "")
    return CheckResult("splits_are_disjoint", not shared, message, {"shared": sorted(shared)[:20]})


def check_filled(splits: Mapping[str, "pa.Table"]) -> CheckResult:
    """Whether there is something to train on, to select on and to test on."""
    sizes = {split: table.num_rows for split, table in splits.items()}
    empty = [split for split, size in sizes.items() if not size]
    message = ", ".join(f"{split}: {size} documents" for split, size in sizes.items())
    if empty:
        message += (
            f". {' and '.join(empty)} would be measured on nothing: take in more documents, raise the split's share in "
            "the section corpus of the settings, change corpus.split_salt, or name a file in data.valid_path or "
            "data.test_path whose documents are in the drops."
        )
    return CheckResult("every_split_has_documents", not empty, message, sizes)
