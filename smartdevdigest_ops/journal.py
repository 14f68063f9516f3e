"""Journals: JSON Lines files that a stage appends to, and goes on from when it was killed."""

from pathlib import Path


def read_journal(journal: Path) -> list[str]:
    """The whole lines of a journal; none where there is no file.

    A line without its end was being written when the process was killed: it is cut off the file, so that what is
    appended next begins on a line of its own, and what it held is made again.
    """
    if not journal.is_file():
        return []
    text = journal.read_text(encoding="utf-8", errors="replace")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        journal.write_text(whole, encoding="utf-8")
    return [line for line in whole.split("\n") if line]
