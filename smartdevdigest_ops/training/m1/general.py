"""General text: replayed in M1 against forgetting, and held out to measure how much was forgotten.

JSON Lines, one document each: {"id", "language", "split": "replay" | "held_out", "text"}. data/general is the
project's own; the user's files come beside it or in its place (`data.general_paths`).

Source: Ibrahim et al. 2024, "Simple and Scalable Strategies to Continually Pre-train Large Language Models"
(arXiv 2403.08763), section 4: 5 % of replay takes back most of the forgetting of a weak shift, more is needed for a
strong one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from smartdevdigest_ops.settings import resolve_path
from smartdevdigest_ops.training.errors import TrainingError


class GeneralDocument(BaseModel):
    """One line of a file of general text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(min_length=1)
    language: str = Field(min_length=2)
    split: Literal["replay", "held_out"]
    text: str = Field(min_length=1)


@dataclass(frozen=True)
class GeneralText:
    """All documents of all files, in their order."""

    documents: tuple[GeneralDocument, ...] = ()

    @property
    def replay(self) -> list[GeneralDocument]:
        """Documents that M1 trains on."""
        return [document for document in self.documents if document.split == "replay"]

    @property
    def held_out(self) -> list[GeneralDocument]:
        """Documents that only measure."""
        return [document for document in self.documents if document.split == "held_out"]


def find_general_files(paths: Sequence[str]) -> list[Path]:
    """The files that `data.general_paths` names, patterns filled in, in its order.

    Raises:
        TrainingError: an entry finds no file.
    """
    files: list[Path] = []
    for path in paths:
        pattern = resolve_path(path)
        found = (
            [pattern]
            if pattern.is_file()
            else sorted(pattern.parents[-1].glob(str(pattern.relative_to(pattern.anchor))))
        )
        if not found:
            raise TrainingError(
                f"data.general_paths names {path}, and {pattern} finds no file: M1 could neither replay "
                "general text nor measure whether it forgets. Correct the path or take it off data.general_paths."
            )
        files += [file for file in found if file not in files]
    return files


def read_general(files: Sequence[Path]) -> GeneralText:
    """The documents of all files.

    Raises:
        TrainingError: a line is no document, or an id or a text repeats.
    """
    documents: list[GeneralDocument] = []
    seen: dict[str, str] = {}
    for file in files:
        with file.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                if not line.strip():
                    continue
                place = f"{file}, line {number}"
                document = _read_line(line, place)
                for key in (f"id {document.id!r}", f"the text of {document.id!r}"):
                    value = document.id if key.startswith("id") else document.text
                    if value in seen:
                        raise TrainingError(
                            f"{place}: {key} stands in {seen[value]} already. A document that is replayed and held "
                            "out at once would hide what is forgotten; remove one of the two."
                        )
                    seen[value] = place
                documents.append(document)
    return GeneralText(tuple(documents))


def refuse_missing_text(general: GeneralText, *, replay_share: float, max_increase: float | None) -> None:
    """Stop where the settings ask for more than the files hold.

    Raises:
        TrainingError: replay without replayed documents, or a gate without held-out ones.
    """
    if replay_share and not general.replay:
        raise TrainingError(
            f"training.m1.replay_share={replay_share:g}, but data.general_paths holds no document with split=replay. "
            "Add some, or set replay_share to 0."
        )
    if max_increase is not None and not general.held_out:
        raise TrainingError(
            f"training.m1.max_general_increase={max_increase:g}, but data.general_paths holds no document with "
            "split=held_out to measure on. Add some, or set max_general_increase to null."
        )


def _read_line(line: bytes, place: str) -> GeneralDocument:
    try:
        return GeneralDocument.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "line"
        raise TrainingError(
            f"{place}: {field}: {first['msg']}. Needed is one JSON object with id, language, split (replay or "
            "held_out) and text; nothing was trained."
        ) from None
