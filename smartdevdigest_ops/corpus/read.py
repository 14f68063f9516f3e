"""Reading the splits of `corpus_snapshot` and `labeled_pairs`."""

from pathlib import Path
from typing import Any

from smartdevdigest_ops.errors import UserError


class CorpusError(UserError):
    """A corpus file is missing or cannot be read."""


def read_split(directory: Path, split: str) -> list[dict[str, Any]]:
    """Rows of `<split>.parquet`, in the file's order.

    Raises:
        CorpusError: there is no such split, or the file is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = directory / f"{split}.parquet"
    if not path.is_file():
        found = ", ".join(sorted(file.stem for file in directory.glob("*.parquet"))) or "none"
        raise CorpusError(
            f"{path} does not exist; splits found in {directory}: {found}. Without it the {split} documents cannot be "
            "read: materialize corpus_snapshot (or labeled_pairs) again."
        )
    try:
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    except pa.ArrowInvalid as error:
        raise CorpusError(f"{path} is no readable Parquet file ({error}). Run `smartdevdigest verify`.") from None
    return rows
