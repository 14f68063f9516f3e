"""Lines that belong to a site and not to a page: menus, cookie banners, share buttons, footers.

Two passes over a drop. The first counts, per site, on how many pages a line stands (`SiteLines`); the second takes the
lines that stand on at least half of them out of each page (`strip_boilerplate`), and those that are navigation by what
they say (`navigation`). Repetition alone is no proof: on 15 real drops, already free of menus, the lines that most
pages of a site share are headings ("What's next"), labels ("**Note:**", "파일명: src/main.rs") and sentences that lead
into a list. So of the repeated lines only those go that

- are no table, link definition, label or lead-in, and do not go on with a sentence of the page;
- stand at the page's edge, at most five lines of its own away, or in a run of three and more;
- stand on a page once or twice (a caption or label comes more often).

A repeated heading goes only where all below it went. Code is never touched.
"""

import re
from array import array
from collections import Counter
from hashlib import blake2b
from io import StringIO

from smartdevdigest_ops.corpus.markdown import blocks
from smartdevdigest_ops.corpus.navigation import is_navigation
from smartdevdigest_ops.settings.corpus import BoilerplateSettings

_HEADING = re.compile(r"\s{0,3}#{1,6}\s")
_WORD_CHARACTER = re.compile(r"\w")
# Tables, alerts and link definitions; then what names or introduces the lines after it.
_STRUCTURE = re.compile(r"\s*(?:\||> ?\[!|\[[^\]\n]{1,200}\]:\s|:::)")
_LABEL = re.compile(r"[\s>*+-]*(?:\*\*|__)[^*_]{1,100}(?:\*\*|__)\W*\Z|.*[:：]\W*\Z")
_LIST_ITEM = re.compile(r"\s*(?:[-*+]|\d{1,9}[.)])\s")
_ENDS_A_SENTENCE = re.compile(r"[.?!:;。！？…\"'”’)\]*|]\W*\Z")
# A plain line at least this long without an end goes on in the next one: text with hard line breaks.
_LEAST_WRAPPED_CHARACTERS = 40
_OWN_LINES_AT_AN_EDGE = 5
_LEAST_RUN = 3
_MOST_PER_PAGE = 2
# Pages of a site whose lines wait before they are counted; a line on one of them only is forgotten.
_PAGES_PER_MERGE = 8
_BYTES_PER_SITE = 600
_BYTES_PER_WAITING_LINE = 8
_BYTES_PER_COUNTED_LINE = 120


class SiteLines:
    """On how many pages of its site each line stands, in bounded memory.

    The lines of a site's pages wait as hashes, and are counted eight pages at a time; a line that falls behind one in
    eight pages is forgotten (lossy counting). Counts are never too high, and too low by an eighth of the pages at most.

    Source: Manku and Motwani 2002, Approximate Frequency Counts over Data Streams, section 4.2 (error 1/8).
    """

    def __init__(self, settings: BoilerplateSettings, max_memory_bytes: int) -> None:
        """`max_memory_bytes`: beyond it new sites are not counted, but reported as unchecked."""
        self._settings = settings
        self._max_memory_bytes = max_memory_bytes
        self._sites: dict[str, _Site] = {}
        self._num_bytes = 0
        self.num_unchecked_pages = 0
        """Pages of sites for which no memory was left."""

    @property
    def num_bytes(self) -> int:
        """Memory in use, estimated."""
        return self._num_bytes

    def add(self, site: str, text: str) -> None:
        """Count a page. `text` must be in the state in which `strip_boilerplate` will see it: normalised."""
        counted = self._sites.get(site)
        if counted is None:
            if self._num_bytes >= self._max_memory_bytes:
                self.num_unchecked_pages += 1
                return
            counted = self._sites[site] = _Site()
            self._num_bytes += _BYTES_PER_SITE + len(site)
        before = counted.num_bytes()
        counted.add(_hashes(text, self._settings.max_characters))
        self._num_bytes += counted.num_bytes() - before

    def boilerplate(self, site: str) -> frozenset[int]:
        """Hashes of the lines that stand on enough of the site's pages; none for an unchecked or small site."""
        counted = self._sites.get(site)
        if counted is None or counted.num_pages < self._settings.min_pages:
            return frozenset()
        least = max(2.0, self._settings.min_page_share * counted.num_pages)
        return frozenset(line for line, count in counted.counts().items() if count >= least)


def strip_boilerplate(text: str, hashes: frozenset[int], settings: BoilerplateSettings) -> tuple[str, int]:
    """The text without navigation and its site's lines (`SiteLines.boilerplate`), and how many lines went."""
    page = _Page(text, hashes, settings.max_characters)
    if not any(page.is_repeated) and not any(page.is_removed):
        return text, 0
    page.remove_edge(range(len(page.lines)))
    page.remove_edge(range(len(page.lines) - 1, -1, -1))
    page.remove_runs()
    page.remove_empty_sections()
    return page.remaining()


class _Page:
    """The lines of a page, blank ones and code included, and which of them go."""

    def __init__(self, text: str, hashes: frozenset[int], max_characters: int) -> None:
        self.lines: list[str] = []
        # One byte per line: a hostile page of 8 MiB has four million.
        self.is_code, self.is_repeated, self.is_removed = bytearray(), bytearray(), bytearray()
        for block in blocks(text):
            for line in StringIO(block.text, newline="\n"):
                is_repeated = is_removed = False
                if not block.is_code and len(line) <= max_characters and _WORD_CHARACTER.search(line):
                    is_removed = is_navigation(line)
                    is_repeated = bool(hashes) and line_hash(line) in hashes and not _names_what_follows(line)
                    if (is_repeated or is_removed) and self._goes_on(line):
                        is_repeated = is_removed = False
                self.lines.append(line)
                self.is_code.append(block.is_code)
                self.is_repeated.append(is_repeated)
                self.is_removed.append(is_removed)

    def remove_edge(self, order: range) -> None:
        """Repeated lines from one end of the page on, until too many of its own lines have passed."""
        num_own = 0
        for index in order:
            if not self._says_something(index) or self.is_removed[index]:
                continue
            if self.is_repeated[index] and not _HEADING.match(self.lines[index]):
                self.is_removed[index] = True
            elif not self.is_repeated[index]:
                num_own += 1
                if num_own > _OWN_LINES_AT_AN_EDGE:
                    return

    def remove_runs(self) -> None:
        """Repeated lines with nothing of the page's own between them, three and more."""
        run: list[int] = []
        for index in range(len(self.lines) + 1):
            if index < len(self.lines) and not self._says_something(index):
                continue
            if index < len(self.lines) and (self.is_repeated[index] or self.is_removed[index]):
                if not _HEADING.match(self.lines[index]):
                    run.append(index)
                continue
            if len(run) >= _LEAST_RUN:
                for one in run:
                    self.is_removed[one] = True
            run = []

    def remove_empty_sections(self) -> None:
        """Repeated headings below which all lines went, or that end the page."""
        is_empty, has_removed = True, True
        for index in range(len(self.lines) - 1, -1, -1):
            if not self._says_something(index):
                continue
            if _HEADING.match(self.lines[index]) and not self.is_code[index]:
                if not self.is_removed[index]:
                    self.is_removed[index] = bool(self.is_repeated[index] and is_empty and has_removed)
                # Above a heading that stays, a section without lines was empty from the start.
                is_empty, has_removed = True, bool(self.is_removed[index])
            elif self.is_removed[index]:
                has_removed = True
            else:
                is_empty = False

    def remaining(self) -> tuple[str, int]:
        """The text that is left. Where a line went, one blank line around it is enough."""
        kept: list[str] = []
        after_removed = False
        for index, line in enumerate(self.lines):
            if self.is_removed[index]:
                after_removed = True
                continue
            is_blank = not line.strip() and not self.is_code[index]
            if is_blank and after_removed and (not kept or not kept[-1].strip()):
                continue
            after_removed = after_removed and is_blank
            kept.append(line)
        return "".join(kept).lstrip("\n").rstrip(), sum(self.is_removed)

    def _says_something(self, index: int) -> bool:
        return bool(self.is_code[index] or _WORD_CHARACTER.search(self.lines[index]))

    def _goes_on(self, line: str) -> bool:
        """Whether the line before stays open, so that this one is the rest of its sentence."""
        if not self.lines or self.is_code[-1] or self.is_removed[-1] or _LIST_ITEM.match(line):
            return False
        before = self.lines[-1].rstrip()
        return len(before) >= _LEAST_WRAPPED_CHARACTERS and not _ENDS_A_SENTENCE.search(before[-20:])


class _Site:
    __slots__ = ("_counts", "_num_merges", "_waiting", "num_pages")

    def __init__(self) -> None:
        self.num_pages = 0
        self._num_merges = 0
        self._waiting = array("Q")
        self._counts: dict[int, tuple[int, int]] = {}
        """Line -> pages counted, and pages that may have been missed before."""

    def add(self, page: list[int]) -> None:
        self._waiting.extend(page)
        self.num_pages += 1
        if self.num_pages % _PAGES_PER_MERGE == 0:
            self._num_merges += 1
            self._merge()

    def counts(self) -> dict[int, int]:
        merged = Counter({line: count for line, (count, _) in self._counts.items()})
        merged.update(self._waiting)
        return merged

    def num_bytes(self) -> int:
        return _BYTES_PER_WAITING_LINE * len(self._waiting) + _BYTES_PER_COUNTED_LINE * len(self._counts)

    def _merge(self) -> None:
        counts = self._counts
        for line, count in Counter(self._waiting).items():
            counted, missed = counts.get(line, (0, self._num_merges - 1))
            counts[line] = (counted + count, missed)
        self._counts = {
            line: (count, missed) for line, (count, missed) in counts.items() if count + missed > self._num_merges
        }
        self._waiting = array("Q")


def _names_what_follows(line: str) -> bool:
    return bool(_STRUCTURE.match(line) or _LABEL.match(line.rstrip()))


def line_hash(line: str) -> int:
    """64 bits of a line, its white space folded: the same in every process."""
    return int.from_bytes(blake2b(" ".join(line.split()).encode(), digest_size=8).digest(), "little")


def _hashes(text: str, max_characters: int) -> list[int]:
    """Lines outside code that could be a site's; those that come more often than twice are the page's own."""
    lines = Counter(
        line_hash(line)
        for block in blocks(text)
        if not block.is_code
        for line in StringIO(block.text, newline="\n")
        if len(line) <= max_characters and _WORD_CHARACTER.search(line)
    )
    return [line for line, count in lines.items() if count <= _MOST_PER_PAGE]
