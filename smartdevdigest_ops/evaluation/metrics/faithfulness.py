"""What a summary takes from its document, and what it says that is not there. Gold is not needed.

A fact is something in the summary that can be looked up: a number, a code identifier (`snake_case`, `camelCase`,
`pkg.module`, `--flag`, `f()`), or a name (a Latin word in Korean text, Kiwi's proper nouns; in English a capitalised
word inside a sentence). One that the document does not hold was made up, or mistaken: a proxy, since a false sentence
can be written with true names. Translated names count as unsupported.

Source: entity-based faithfulness as in Nan et al. 2021 (arXiv 2102.09130); copy rate: 1 - novel trigrams of See et al.
2017 (arXiv 1704.04368); compression: Grusky et al. 2018 (arXiv 1804.11283), as summary over document.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from smartdevdigest_ops.digesting.answer import folded
from smartdevdigest_ops.evaluation.text.morphemes import candidate_terms, word_tokenizer
from smartdevdigest_ops.evaluation.text.sentences import MOST_CHARACTERS, prose, split_sentences
from smartdevdigest_ops.korean import load_kiwi

FACT_KINDS = ("numbers", "names", "code")
_NUM_SOURCE_TERMS = 10
_COPIED_WORDS = 3

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_LATIN = re.compile(r"-{0,2}[A-Za-z_][A-Za-z0-9_.+#/-]*(?:\(\))?")
_IDENTIFIER = re.compile(r"_|^--|\(\)$|[a-z0-9][A-Z]|[A-Za-z]\.[A-Za-z]")
_NOT_IDENTIFIER = re.compile(r"^(?:[A-Za-z]\.)+[A-Za-z]?$")  # e.g, U.S


@dataclass(frozen=True)
class Facts:
    """Facts of a text by kind, folded."""

    numbers: frozenset[str]
    names: frozenset[str]
    code: frozenset[str]


def find_facts(text: str, language: str) -> Facts:
    """Numbers, names and code identifiers of a summary."""
    text = unicodedata.normalize("NFKC", text)
    code: set[str] = set()
    names: set[str] = set()
    for sentence in split_sentences(text, language):
        for match in _LATIN.finditer(sentence):
            word = match[0].rstrip(".-/")
            if _IDENTIFIER.search(word) and not _NOT_IDENTIFIER.match(word):
                code.add(folded(word))
            elif language == "ko" or (word[:1].isupper() and (match.start() > 0 or word[1:2].isupper())):
                names.add(folded(word))
    if language == "ko":
        names |= {folded(token.form) for token in load_kiwi().tokenize(text) if token.tag == "NNP"}
    return Facts(_numbers(text), frozenset(names - code), frozenset(code))


def _numbers(text: str) -> frozenset[str]:
    # 1,000 is 1000; 3.10 is not 3.1.
    return frozenset(re.sub(r",(?=\d{3}\b)", "", number) for number in _NUMBER.findall(text))


@dataclass(frozen=True)
class Source:
    """What is looked up in a document, found once for all systems that answer."""

    text: str
    """Title and content, folded."""
    numbers: frozenset[str]
    latin_words: frozenset[str]
    terms: tuple[str, ...]
    """What the prose says most often; the earlier first among equals."""
    runs: frozenset[tuple[str, ...]]
    """Runs of three words of its first `MOST_CHARACTERS`."""


@lru_cache(maxsize=1024)
def read_source(title: str | None, content: str, language: str) -> Source:
    """What can be looked up in a document."""
    whole = unicodedata.normalize("NFKC", f"{title or ''}\n\n{content}")
    words = [word.rstrip(".-/") for word in _LATIN.findall(whole)]
    return Source(
        folded(whole),
        _numbers(whole),
        frozenset(folded(part) for word in words for part in (word, *re.split(r"[./-]", word))),
        tuple(_frequent_terms(f"{title or ''}\n\n{prose(content) or content[:MOST_CHARACTERS]}", language)),
        frozenset(_runs(whole[:MOST_CHARACTERS], language)),
    )


def _frequent_terms(text: str, language: str) -> list[str]:
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    terms = [term.casefold() for term in candidate_terms(text, language)]
    counts = Counter(term for term in terms if language == "ko" or term not in ENGLISH_STOP_WORDS)
    return [term for term, _ in counts.most_common(_NUM_SOURCE_TERMS)]


def _runs(text: str, language: str) -> list[tuple[str, ...]]:
    words = word_tokenizer(language).tokenize(text)
    return [tuple(words[start : start + _COPIED_WORDS]) for start in range(len(words) - _COPIED_WORDS + 1)]


def unsupported_facts(summary: str, source: Source, language: str) -> dict[str, tuple[int, int]]:
    """Kind -> (facts of the summary that the document does not hold, facts of the summary)."""
    found = find_facts(summary, language)
    missing = {
        "numbers": found.numbers - source.numbers,
        # Hangul has no word borders to go by: particles follow without a space.
        "names": {name for name in found.names if name not in (source.latin_words if name.isascii() else source.text)},
        "code": {name for name in found.code if name not in source.text},
    }
    return {kind: (len(missing[kind]), len(getattr(found, kind))) for kind in FACT_KINDS}


def covered_terms(summary: str, source: Source) -> tuple[int, int]:
    """(of the document's most frequent terms, those that the summary says; all of them)."""
    text = folded(summary)
    return sum(term in text for term in source.terms), len(source.terms)


def copied_runs(summary: str, source: Source, language: str) -> tuple[int, int]:
    """(runs of three words of the summary that stand in the document, runs of three words of the summary)."""
    runs = _runs(summary, language)
    return sum(run in source.runs for run in runs), len(runs)


def absent_items(items: Sequence[str], source: Source) -> tuple[int, int]:
    """(keywords or terms that the document does not hold, all of them)."""
    return sum(folded(item) not in source.text for item in items), len(items)
