"""Labels that were recorded in files: JSON Lines of `contracts.Label`, one document each.

A bad line is rejected alone. Labels are looked up by canonical URL, so that a tracking parameter in one file does not
cost the label.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from smartdevdigest_ops.contracts import Label
from smartdevdigest_ops.corpus.url import UrlError, canonical_url
from smartdevdigest_ops.labeling.errors import LabelingError
from smartdevdigest_ops.settings import resolve_path

_EXCERPT_CHARACTERS = 160


@dataclass(frozen=True)
class RejectedLabel:
    """A line that is no label."""

    file: str
    """Name of the file, without its directory."""
    line: int
    """Counted from 1."""
    reason: str
    excerpt: str


@dataclass
class RecordedLabels:
    """Labels by canonical URL, and what became of every line."""

    labels: dict[str, Label] = field(default_factory=dict)
    rejects: list[RejectedLabel] = field(default_factory=list)
    num_lines: int = 0
    """Lines that are not blank: labels, replaced labels and rejects."""
    num_replaced: int = 0
    """Labels that a later line for the same URL took the place of."""


def find_label_files(paths: Sequence[str]) -> list[Path]:
    """The files that `data.label_paths` names, in its order.

    Raises:
        LabelingError: one does not exist.
    """
    files = [resolve_path(path) for path in paths]
    missing = [str(file) for file in files if not file.is_file()]
    if missing:
        raise LabelingError(
            f"data.label_paths names {', '.join(missing)}, which does not exist: its documents would have no label. "
            "Put the file there or take it off data.label_paths."
        )
    return files


def read_labels(files: Sequence[Path]) -> RecordedLabels:
    """All labels of the files; the later line (and file) wins where a URL repeats."""
    recorded = RecordedLabels()
    for file in files:
        with file.open("rb") as stream:
            for number, raw in enumerate(stream, start=1):
                if raw.strip():
                    recorded.num_lines += 1
                    _take(recorded, file, number, raw)
    return recorded


def _take(recorded: RecordedLabels, file: Path, number: int, raw: bytes) -> None:
    # Byte lines: one that is not UTF-8 is one bad line, not the end of the file.
    text = raw.decode("utf-8", errors="replace")
    try:
        label = Label.model_validate(json.loads(raw.decode("utf-8")))
        key = canonical_url(label.url)
    except (ValidationError, UrlError, ValueError) as error:
        excerpt = text.strip()[:_EXCERPT_CHARACTERS]
        recorded.rejects.append(RejectedLabel(file.name, number, explain_invalid(error), excerpt))
        return
    recorded.num_replaced += key in recorded.labels
    recorded.labels[key] = label


def explain_invalid(error: Exception) -> str:
    """One line: the path and message of the first problem, and how many more there are."""
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: {error}"
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 at byte {error.start}"
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    path = ".".join(str(part) for part in first["loc"]) or "(record)"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{path}: {first['msg']}{more}"
