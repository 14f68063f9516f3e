"""Markdown cut into prose and code, so that cleaning never touches code and counting never counts it.

Code is what CommonMark 0.31 calls fenced code blocks (also inside lists and quotes, at any indentation), indented code
blocks outside lists, and code spans. One pass, linear in the text; joining the segments gives the text back.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_FENCE_OPENS = re.compile(r"[ \t>]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)*(?P<fence>`{3,}(?=[^`\n]*$)|~{3,})")
_FENCE_CLOSES = re.compile(r"[ \t>]*(?P<fence>`{3,}|~{3,})[ \t]*$")
_LIST_ITEM = re.compile(r"[ \t>]*(?:[-*+]|\d{1,9}[.)])[ \t]")
_INDENTED = re.compile(r"(?: {4}|\t)")
_LINES = re.compile(r"[^\n]*\n|[^\n]+")
_BACKTICKS = re.compile(r"`+")
_WORD_CHARACTER = re.compile(r"\w")
_BLANK_LINES = re.compile(r"\n[ \t]*\n")


@dataclass(frozen=True)
class Segment:
    """A stretch of text that is all prose or all code; code keeps its fences and backticks."""

    text: str
    is_code: bool
    is_block: bool = True
    """False for a code span, which is part of a line of prose."""


def segments(text: str) -> Iterator[Segment]:
    """Prose and code of Markdown with line feeds as newlines, in order; nothing is lost or added."""
    for block in _blocks(text):
        if block.is_code:
            yield block
        else:
            yield from _code_spans(block.text)


def prose(text: str) -> str:
    """The text without its code: each piece of code becomes one space."""
    return "".join(" " if segment.is_code else segment.text for segment in segments(text))


def prose_lines(text: str) -> list[str]:
    """Lines outside code blocks that say something, code spans included, without surrounding space."""
    blocks = ("\n" if segment.is_code and segment.is_block else segment.text for segment in segments(text))
    return [line for line in map(str.strip, "".join(blocks).split("\n")) if _WORD_CHARACTER.search(line)]


def _blocks(text: str) -> Iterator[Segment]:
    kept: list[str] = []
    is_code = False
    fence = ""
    after_blank, in_list = True, False
    for line in _LINES.findall(text):
        bare = line.rstrip("\n")
        if fence:
            closes = _FENCE_CLOSES.match(bare)
            kept.append(line)
            if closes and closes["fence"].startswith(fence):
                yield Segment("".join(kept), True)
                kept, is_code, fence, after_blank = [], False, "", True
            continue
        opens = _FENCE_OPENS.match(bare)
        is_blank = not bare.strip()
        is_indented = not in_list and bool(_INDENTED.match(bare)) and not is_blank and (after_blank or is_code)
        if opens or is_indented != is_code:
            if kept:
                yield Segment("".join(kept), is_code)
            kept, is_code = [], is_indented and not opens
        kept.append(line)
        fence = opens["fence"] if opens else ""
        if not is_blank and not is_indented:
            in_list = bool(_LIST_ITEM.match(bare)) or (in_list and bare[:1] in " \t")
        after_blank = is_blank
    if kept:
        yield Segment("".join(kept), is_code or bool(fence))


def _code_spans(text: str) -> Iterator[Segment]:
    """Code spans pair backtick runs of equal length inside one paragraph; an unpaired run is prose."""
    done = 0
    for start, end in _paragraphs(text):
        runs = list(_BACKTICKS.finditer(text, start, end))
        unpaired: set[int] = set()
        index = 0
        while index < len(runs):
            opener = runs[index]
            length = opener.end() - opener.start()
            is_escaped = opener.start() > 0 and text[opener.start() - 1] == "\\"
            closer = None
            if not is_escaped and length not in unpaired:
                closer = next((j for j in range(index + 1, len(runs)) if len(runs[j].group()) == length), None)
                if closer is None:
                    unpaired.add(length)
            if closer is None:
                index += 1
                continue
            if opener.start() > done:
                yield Segment(text[done : opener.start()], False)
            done = runs[closer].end()
            yield Segment(text[opener.start() : done], True, is_block=False)
            index = closer + 1
    if done < len(text):
        yield Segment(text[done:], False)


def _paragraphs(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    for gap in _BLANK_LINES.finditer(text):
        yield start, gap.start()
        start = gap.end()
    yield start, len(text)
