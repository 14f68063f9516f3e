"""Where a Markdown document may be cut: behind a paragraph, a section or a fenced code block, never inside one.

Fences follow CommonMark 0.31 (section 4.5): three or more backticks or tildes, up to three spaces of indentation,
closed by at least as many of the same character; an unclosed fence runs to the end of the document.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

BlockKind = Literal["heading", "paragraph", "code"]

_FENCE = re.compile(r" {0,3}(?P<mark>`{3,}|~{3,})(?P<info>[^\n]*)")
_HEADING = re.compile(r" {0,3}#{1,6}(\s|$)")
# Whole blocks are worth this much of the room: one long paragraph behind a short one is cut rather than left out.
MIN_BLOCK_SHARE = 0.5
# A sentence ends at . ! ? or their full-width forms, with closing quotes or brackets, before white space.
SENTENCE_END = re.compile(r"[.!?。！？][\"'”’)\]]*(?=\s|$)")


@dataclass(frozen=True)
class Block:
    """A piece of a document that is kept or left out as a whole; `end` lies behind its last line."""

    kind: BlockKind
    start: int
    end: int


def split_blocks(content: str) -> list[Block]:
    """Blocks of `content` in order; together with the blank lines between them they cover all of it."""
    return list(_walk_blocks(content))


def _walk_blocks(content: str) -> Iterator[Block]:
    position, paragraph_start, code_start = 0, -1, -1
    fence = ""
    for line in content.splitlines(keepends=True):
        start, position = position, position + len(line)
        opening = _FENCE.match(line)
        if fence:
            if opening and _closes(opening, fence):
                yield Block("code", code_start, position)
                fence = ""
            continue
        is_fence = opening is not None and not (opening["mark"][0] == "`" and "`" in opening["info"])
        is_heading = _HEADING.match(line) is not None
        if paragraph_start >= 0 and (is_fence or is_heading or not line.strip()):
            yield Block("paragraph", paragraph_start, start)
            paragraph_start = -1
        if opening is not None and is_fence:
            fence, code_start = opening["mark"], start
        elif is_heading:
            yield Block("heading", start, position)
        elif line.strip() and paragraph_start < 0:
            paragraph_start = start
    if fence:
        yield Block("code", code_start, position)
    elif paragraph_start >= 0:
        yield Block("paragraph", paragraph_start, position)


def _closes(candidate: re.Match[str], fence: str) -> bool:
    mark = candidate["mark"]
    return mark[0] == fence[0] and len(mark) >= len(fence) and not candidate["info"].strip()


def has_code(content: str) -> bool:
    """Whether the document shows code: a fenced block. The teachers' labels count a code span as prose."""
    return any(block.kind == "code" for block in split_blocks(content))


def cut_at_block(content: str, limit: int) -> int:
    """Last end of a whole block at or before character `limit`, not directly behind a heading; 0 if there is none.

    A section is kept from its heading as far as its paragraphs fit; a heading whose text no longer fits goes too.
    """
    kept = 0
    for block in split_blocks(content):
        if block.end > limit:
            break
        if block.kind != "heading":
            kept = block.end
    return kept


def cut_inside_block(content: str, limit: int) -> tuple[str, int]:
    """Head of a document, cut inside the block at character `limit`: the text, and the characters it covers.

    Cut behind the last line in code (the fence is closed again), behind the last sentence in prose, else behind the
    last word, else at `limit`.
    """
    head = content[:limit]
    block = next((block for block in split_blocks(content) if block.start < limit < block.end), None)
    if block is None:
        return head, len(head)
    floor = block.start
    if block.kind == "code":
        fence = _FENCE.match(content, block.start)
        end = head.rfind("\n", floor) + 1
        first_line_end = content.find("\n", floor) + 1
        if fence is None or end <= first_line_end:  # not even one line of code fits
            return head[:floor], floor
        return head[:end] + fence["mark"], end
    ends = [match.end() for match in SENTENCE_END.finditer(content, floor, limit + 1) if match.end() <= limit]
    end = max([*ends, head.rfind("\n", floor)], default=-1)
    if end <= floor:
        end = head.rfind(" ", floor)
    end = end if end > floor else limit
    return head[:end], end


@dataclass(frozen=True)
class Part:
    """The next part of a document: its text, and where it and the part after it begin."""

    text: str
    covered: int
    """Characters of the document that the text stands for."""
    resume: int
    """Where the next part begins; beyond `covered` where the rest of a code block is left out."""


def next_part(content: str, limit: int) -> Part:
    """The longest part of at most `limit` characters from the beginning that ends well.

    Before the last heading, else behind the last whole block, if half of `limit` is reached by then. A code block that
    would fit into a part is not begun in this one. One that fits into none is cut behind a line, the fence is closed,
    and the rest of it is left out: no part begins inside a fence.
    """
    if len(content) <= limit:
        return Part(content, len(content), len(content))
    heading, crossing = 0, None
    for block in _walk_blocks(content):
        if block.kind == "heading" and block.start <= limit:
            heading = block.start
        if block.end > limit:
            crossing = block
            break
    for end in (heading, cut_at_block(content[: limit + 1], limit)):
        if end >= limit * MIN_BLOCK_SHARE and end > 0:
            return Part(content[:end], end, end)
    if crossing is not None and crossing.kind == "code" and crossing.start < limit:
        before = content[: crossing.start]
        if before.strip() and crossing.end - crossing.start <= limit:
            return Part(before, crossing.start, crossing.start)
        return Part(*cut_inside_block(content[: limit + 1], limit), crossing.end)
    text, covered = cut_inside_block(content[: limit + 1], limit)
    return Part(text, covered, covered)
