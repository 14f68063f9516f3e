"""Reading the splits of `corpus_snapshot` and `labeled_pairs`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from smartdevdigest_ops.errors import UserError

if TYPE_CHECKING:
    import datasets


class CorpusError(UserError):
    """A corpus file is missing or cannot be read."""


def read_split(directory: Path, split: str) -> list[dict[str, Any]]:
    """Rows of `<split>.parquet`, in the file's order.

    Raises:
        CorpusError: there is no such split, or the file is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = _split_file(directory, split)
    try:
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    except pa.ArrowInvalid as error:
        raise CorpusError(f"{path} is no readable Parquet file ({error}). Run `smartdevdigest verify`.") from None
    return rows


def map_split(directory: Path, split: str, *, cache_dir: Path) -> "datasets.Dataset":
    """Rows of `<split>.parquet` as a dataset that is mapped from disk: the corpus need not fit in memory.

    Raises:
        CorpusError: there is no such split, or the file is damaged.
    """
    import datasets
    import pyarrow as pa

    path = _split_file(directory, split)
    try:
        return datasets.Dataset.from_parquet(str(path), cache_dir=str(cache_dir))
    except (pa.ArrowInvalid, datasets.exceptions.DatasetGenerationError) as error:
        raise CorpusError(f"{path} is no readable Parquet file ({error}). Run `smartdevdigest verify`.") from None


def _split_file(directory: Path, split: str) -> Path:
    path = directory / f"{split}.parquet"
    if not path.is_file():
        found = ", ".join(sorted(file.stem for file in directory.glob("*.parquet"))) or "none"
        raise CorpusError(
            f"{path} does not exist; splits found in {directory}: {found}. Without it the {split} documents cannot be "
            "read: materialize corpus_snapshot (or labeled_pairs) again."
        )
    return path
