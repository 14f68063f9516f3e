"""Where in the answer the generation stands, byte by byte: which field, inside a string or not, and how to close it."""

import unicodedata

from smartdevdigest_ops.digesting.grammar import FILLER, HANGUL_FILLER

_QUOTE, _BACKSLASH = ord('"'), ord("\\")


class AnswerTracker:
    """Follows the bytes of one answer (compact JSON that the grammar already vouches for)."""

    def __init__(self, *, is_korean: bool = False) -> None:
        """`is_korean`: its prose needs Hangul."""
        self._prose_filler = HANGUL_FILLER if is_korean else FILLER
        self.text = bytearray()
        self.field = "summary"
        """Top-level key of the value being written, from the moment its key is complete."""
        self.complete = False
        self._open: list[int] = []
        self._string_start = -1
        self._is_key = False
        self._escaped = False
        self._missing_utf8_bytes = 0
        self._key = ""
        self._items: list[str] = []
        self._repeats_an_item = False

    def feed(self, data: bytes) -> None:
        """Take the bytes of the next token."""
        for byte in data:
            if self._string_start >= 0:
                self._feed_string(byte)
            else:
                self._feed_structure(byte)
            self.text.append(byte)

    def _feed_string(self, byte: int) -> None:
        if self._escaped:
            self._escaped = False
        elif byte == _BACKSLASH:
            self._escaped = True
        elif byte == _QUOTE:
            self._end_string()
        elif self._missing_utf8_bytes:
            self._missing_utf8_bytes -= 1
        else:
            self._missing_utf8_bytes = (byte >= 0xC0) + (byte >= 0xE0) + (byte >= 0xF0)

    def _end_string(self) -> None:
        string = self.text[self._string_start :].decode()
        self._string_start = -1
        if self._is_key:
            self._key = string
            if len(self._open) == 1:
                self.field = string
                self._items = []
                self._repeats_an_item = False
        elif self._key != "explanation" and len(self._open) > 1:
            self._repeats_an_item = string in self._items
            self._items.append(string)

    def _feed_structure(self, byte: int) -> None:
        if byte == _QUOTE:
            self._string_start = len(self.text) + 1
            self._is_key = self._open[-1] == ord("{") and self.text[-1] in b"{,"
        elif byte in b"{[":
            self._open.append(byte)
        elif byte in b"}]":
            self._open.pop()
            self.complete = not self._open

    @property
    def at_digit(self) -> bool:
        """Whether a difficulty digit (or null) comes next."""
        return self.field == "difficulty_factors" and len(self._open) == 2 and self.text.endswith(b":")

    @property
    def factor(self) -> str:
        """Name of the difficulty factor whose value comes next."""
        return self._key

    @property
    def open_string(self) -> str | None:
        """What the string being written says so far; None outside a value and inside a character or escape."""
        if self._string_start < 0 or self._is_key or self._escaped or self._missing_utf8_bytes:
            return None
        return self.text[self._string_start :].decode()

    @property
    def repeats_an_item(self) -> bool:
        """Whether the last whole item of the list says what an earlier one said."""
        return self._repeats_an_item

    def string_end(self) -> str | None:
        """What ends the string being written, with a filler where it may not end yet; None where nothing can."""
        string = self.open_string
        if string is None:
            return None
        filler = self._prose_filler if self._key in ("summary", "explanation") else FILLER
        may_end = _has_hangul(string) if filler == HANGUL_FILLER else bool(string)
        return f'{"" if may_end else filler}"'

    def closing(self) -> str | None:
        """Shortest text that ends the field's value (in the summary: its string) from here; None where none can."""
        end = self.string_end()
        if end is not None:
            if self.field == "technical_terms" and self._key == "term":
                return f'{end},"explanation":"{self._prose_filler}"}}]}}'
            return end + {"summary": "", "technical_terms": "}]}"}.get(self.field, "]")
        if self._string_start >= 0 or not self._open or self._open[-1] != ord("["):
            return None
        if self.text[-1] in b'"}':
            return "]}" if self.field == "technical_terms" else "]"
        return "]" if self.field == "prerequisites" and self.text.endswith(b"[") else None


def _has_hangul(string: str) -> bool:
    return any("HANGUL" in unicodedata.name(character, "") for character in string)
