"""What a label must agree with: the text it is about.

Teachers name things that the document does not, answer in the wrong language, or copy; a student learns all of it.
Keywords and terms are promised "as written in the document", so one that does not occur there is removed; a summary in
the other language, or one whose sentences all stand in the document, makes the label useless.
"""

import unicodedata
from dataclasses import dataclass
from itertools import pairwise

from smartdevdigest_ops.contracts import Label
from smartdevdigest_ops.digesting.sections import SENTENCE_END

# Korean technical prose is full of Latin words (names, commands); English prose has no Hangul but in quotation.
_MIN_HANGUL_SHARE_KO = 0.3
_MAX_HANGUL_SHARE_EN = 0.1


@dataclass(frozen=True)
class SoundLabel:
    """A label without what its document does not say."""

    label: Label
    num_removed_keywords: int
    num_removed_terms: int


def hold_against_document(label: Label, *, title: str | None, content: str, language: str) -> SoundLabel | str:
    """The label, cleaned, or the reason why it cannot be used: label_language, summary_language or summary_copied."""
    if label.language != language:
        return "label_language"
    if not is_written_in(label.summary, language):
        return "summary_language"
    text = _folded(f"{title or ''}\n{content}")
    if is_copied(label.summary, text):
        return "summary_copied"
    keywords = [keyword for keyword in label.keywords if keyword.strip() and _folded(keyword) in text]
    terms = [term for term in label.technical_terms if term.term.strip() and _folded(term.term) in text]
    return SoundLabel(
        label.model_copy(update={"keywords": keywords, "technical_terms": terms}),
        num_removed_keywords=len(label.keywords) - len(keywords),
        num_removed_terms=len(label.technical_terms) - len(terms),
    )


def is_written_in(text: str, language: str) -> bool:
    """Whether the script of the text is that of the language (ko or en). Text without a letter is neither."""
    letters = [character for character in text if character.isalpha()]
    if not letters:
        return False
    hangul_share = sum(map(_is_hangul, letters)) / len(letters)
    return hangul_share >= _MIN_HANGUL_SHARE_KO if language == "ko" else hangul_share <= _MAX_HANGUL_SHARE_EN


def is_copied(summary: str, folded_text: str) -> bool:
    """Whether every sentence of the summary stands in the text (white space and case apart)."""
    ends = [0, *(match.end() for match in SENTENCE_END.finditer(summary)), len(summary)]
    sentences = [_folded(summary[start:end]) for start, end in pairwise(ends)]
    return all(sentence in folded_text for sentence in sentences)


def _is_hangul(character: str) -> bool:
    return "\uac00" <= character <= "\ud7a3" or "\u1100" <= character <= "\u11ff" or "\u3130" <= character <= "\u318f"


def _folded(text: str) -> str:
    """Without case and white space: Korean spells compounds with and without a space."""
    return "".join(unicodedata.normalize("NFC", text).casefold().split())
