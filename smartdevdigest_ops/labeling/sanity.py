"""What a label must agree with: the text it is about.

Teachers name things that the document does not, and answer in the wrong language; a student learns both. Keywords and
terms are promised "as written in the document", so one that does not occur there is removed; a summary in the other
language makes the label useless.
"""

import unicodedata
from dataclasses import dataclass

from smartdevdigest_ops.contracts import Label

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
    """The label, cleaned, or the reason why it cannot be used: `label_language` or `summary_language`."""
    if label.language != language:
        return "label_language"
    if not is_written_in(label.summary, language):
        return "summary_language"
    text = _folded(f"{title or ''}\n{content}")
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


def _is_hangul(character: str) -> bool:
    return "\uac00" <= character <= "\ud7a3" or "\u1100" <= character <= "\u11ff" or "\u3130" <= character <= "\u318f"


def _folded(text: str) -> str:
    """Without case and white space: Korean spells compounds with and without a space."""
    return "".join(unicodedata.normalize("NFC", text).casefold().split())
