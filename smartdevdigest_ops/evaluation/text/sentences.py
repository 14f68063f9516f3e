"""The prose of a document, and its sentences."""

import re

from smartdevdigest_ops.korean import load_kiwi

# Enough to hold three sentences and to rank terms; papers run to 100,000 characters.
MOST_CHARACTERS = 20_000

_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
_NOT_PROSE = re.compile(r"^\s*(#{1,6}\s|[-*+]\s|\d+[.)]\s|\||>|<|!\[|[-=*_]{3,}\s*$)")
_ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|cf|vs|etc|approx|resp|al|fig|eq|sec|no|dr|mr|mrs|ms|prof|st|inc|ltd|co|jr|sr|dept|est|vol)"
    r"|\b[A-Z]|\b(?:[A-Za-z]\.)+[A-Za-z])\.$",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?]+[\"'”’)\]]*(?=\s+[\"'“‘(\[`]*[A-Z0-9])")


def prose(content: str) -> str:
    """Paragraphs of `content` outside code fences, headings, lists, tables and quotes, blank lines between."""
    kept: list[str] = []
    fence: str | None = None
    for line in content[:MOST_CHARACTERS].splitlines():
        mark = _FENCE.match(line)
        if mark and (fence is None or (mark[1][0] == fence[0] and len(mark[1]) >= len(fence))):
            fence = mark[1] if fence is None else None
            kept.append("")
        elif fence is None:
            is_code = line.startswith(("    ", "\t")) and not (kept and kept[-1])
            kept.append("" if is_code or _NOT_PROSE.match(line) else line.strip())
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip()


def split_sentences(text: str, language: str) -> list[str]:
    """Sentences of prose: Kiwi's for Korean; for English at . ! ? before a capital or digit, abbreviations aside.

    A blank line always ends a sentence.
    """
    sentences: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text):
        line = " ".join(paragraph.split())
        if language == "ko":
            sentences += [sentence.text for sentence in load_kiwi().split_into_sents(line)]
        else:
            sentences += _split_english(line)
    return [sentence for sentence in sentences if sentence]


def _split_english(line: str) -> list[str]:
    sentences, start = [], 0
    for end in _SENTENCE_END.finditer(line):
        if not _ABBREVIATION.search(line[start : end.end()]):
            sentences.append(line[start : end.end()].strip())
            start = end.end()
    return [*sentences, line[start:].strip()]
