"""The grammar of an answer, and the token budget that makes every answer end.

An answer is one compact JSON object with a fixed key order, so all of it but the strings, list lengths and digits is
known beforehand. The grammar (Lark, as llguidance reads it) bounds every string and list in characters, and holds
prose to the document's language. Tokens are bounded by `AnswerBudget`: from the end backwards, it reserves what the
rest of the skeleton costs with everything left out, and gives each field a deadline by which it is closed, so that a
long summary cannot eat the difficulty.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from smartdevdigest_ops.contracts.label import FACTOR_NAMES
from smartdevdigest_ops.digesting.errors import DigestingError
from smartdevdigest_ops.settings import AnswerSettings

FIELDS = ("summary", "keywords", "difficulty_factors", "prerequisites", "technical_terms")
# Stands in a string that has to be closed before it has a character; what it stands for is left out of the digest.
FILLER = "-"
# The same in Korean prose, and behind what has no Hangul yet: a dot that Unicode counts as Hangul, which nobody writes.
HANGUL_FILLER = "\N{HANGUL LETTER ARAEA}"

# Share of the free tokens per field, measured on the sample labels (44 / 13 / 0 / 10 / 33 % of their characters).
_SHARES = {"summary": 0.44, "keywords": 0.14, "difficulty_factors": 0.0, "prerequisites": 0.10, "technical_terms": 0.32}
_LEAST_FREE_TOKENS = 16
# Steps from a field's deadline to a place where a string can be closed: the rest of a UTF-8 character (3), or of an
# escape (1), then a comma and an opening quote that were under way.
_OVERSHOOT_TOKENS = 6

# The characters of a string: no control, format or unassigned ones, no separators of lines, no escapes but \" and \\;
# the first is not blank.
_FIRST = r'([^"\\\s\p{C}\p{Zl}\p{Zp}]|\\["\\])'
_OTHER = r'([^"\\\p{C}\p{Zl}\p{Zp}]|\\["\\])'
_FIRST_LATIN = r'([^"\\\s\p{C}\p{Zl}\p{Zp}\p{Hangul}]|\\["\\])'
_OTHER_LATIN = r'([^"\\\p{C}\p{Zl}\p{Zp}\p{Hangul}]|\\["\\])'
# Korean prose has Hangul behind so many other characters at the latest, names and code mostly: 35 in 450 summaries, 31
# in 670 explanations. It goes on in Korean then. To bound every such run would multiply the automaton's states, and
# llguidance gives up over a vocabulary of 262,144.
_MOST_BEFORE_HANGUL = 40


@dataclass(frozen=True)
class AnswerForm:
    """What a document asks of its answer."""

    language: Any
    """Language of summary, prerequisites and explanations: ko or en."""
    with_code: bool
    """Whether the document shows code, which is rated then."""


def answer_grammar(settings: AnswerSettings, form: AnswerForm) -> str:
    """Lark grammar of an answer: within the caps of `settings`, without white space between tokens of the JSON.

    `code_complexity` is a digit exactly if the document shows code. English prose is written without Hangul; a Korean
    summary or explanation with some within `_MOST_BEFORE_HANGUL` characters. Keywords and terms are the text's.
    """
    is_korean = form.language == "ko"

    def string(max_characters: int, first: str = _FIRST, other: str = _OTHER) -> str:
        return f'/"{first}{other}{{0,{max_characters - 1}}}"/'

    def note(max_characters: int) -> str:
        return string(max_characters) if is_korean else string(max_characters, _FIRST_LATIN, _OTHER_LATIN)

    def prose(max_characters: int) -> str:
        begins_korean = f'/"{_OTHER_LATIN}{{0,{_MOST_BEFORE_HANGUL}}}\\p{{Hangul}}{_OTHER}*"/'
        return f"{note(max_characters)} & {begins_korean}" if is_korean else note(max_characters)

    def items(rule: str, most: int) -> str:
        return f'{rule} ("," {rule}){{0,{most - 1}}}' if most > 1 else rule

    factors = ' "," '.join(
        f'"\\"{name}\\":" {"DIGIT" if form.with_code or name != "code_complexity" else "NULL"}' for name in FACTOR_NAMES
    )
    prerequisites = f"({items('PREREQUISITE', settings.max_prerequisites)})?" if settings.max_prerequisites else ""
    return f"""
start: "{{\\"summary\\":" SUMMARY ",\\"keywords\\":[" {items("KEYWORD", settings.max_keywords)} "]," rest
rest: "\\"difficulty_factors\\":{{" {factors} "}},\\"prerequisites\\":[" {prerequisites} "]," terms "}}"
terms: "\\"technical_terms\\":[" {items("term", settings.max_terms)} "]"
term: "{{\\"term\\":" KEYWORD ",\\"explanation\\":" EXPLANATION "}}"
SUMMARY: {prose(settings.max_summary_characters)}
KEYWORD: {string(settings.max_keyword_characters)}
PREREQUISITE: {note(settings.max_prerequisite_characters)}
EXPLANATION: {prose(settings.max_explanation_characters)}
DIGIT: /[1-5]/
NULL: "null"
"""


@dataclass(frozen=True)
class AnswerBudget:
    """When each field is closed, in tokens of the answer."""

    max_new_tokens: int
    deadlines: Mapping[str, int]
    """Field -> tokens generated from which on it is closed at the next possible place."""


def plan_budget(max_new_tokens: int, count_tokens: Callable[[str], int]) -> AnswerBudget:
    """Deadlines by which any answer is complete within `max_new_tokens` tokens.

    Args:
        max_new_tokens: The whole answer's budget.
        count_tokens: Tokens that a piece of the skeleton takes when it is forced.

    Raises:
        DigestingError: the budget does not hold the empty answer and a few words.
    """

    def cost(skeleton: str) -> int:
        # A token of the model's own choice may have begun the piece: whatever is left of it must fit.
        return max(count_tokens(skeleton[start:]) for start in range(len(skeleton)))

    factors = ":1,".join(f'"{name}"' for name in FACTOR_NAMES)
    digits = len(FACTOR_NAMES)
    # Per field: the piece that leads into it, and the one that closes it from its costliest place.
    costs = {
        "summary": cost('{"summary":"') + cost(f'{HANGUL_FILLER}"'),
        "keywords": cost(',"keywords":["') + cost(f'{FILLER}"]'),
        "difficulty_factors": cost(f',"difficulty_factors":{{{factors}:null}}') + 2 * digits,
        "prerequisites": cost(',"prerequisites":["') + cost(f'{FILLER}"]'),
        "technical_terms": cost(',"technical_terms":[{"term":"')
        + cost(',{"term":"')
        + cost(f'{FILLER}","explanation":"{HANGUL_FILLER}"}}]}}'),
    }
    reserve = {
        field: sum(costs[later] + _OVERSHOOT_TOKENS for later in FIELDS[index:]) for index, field in enumerate(FIELDS)
    }
    free = max_new_tokens - reserve[FIELDS[0]]
    if free < _LEAST_FREE_TOKENS:
        raise DigestingError(
            f"digesting.max_new_tokens={max_new_tokens} is too small: with this tokenizer an answer without a word in "
            f"it can take {reserve[FIELDS[0]]} tokens. Set it to {reserve[FIELDS[0]] + _LEAST_FREE_TOKENS} or more."
        )
    deadlines = {
        field: max_new_tokens - reserve[field] - int(free * sum(_SHARES[later] for later in FIELDS[index + 1 :]))
        for index, field in enumerate(FIELDS)
    }
    return AnswerBudget(max_new_tokens, deadlines)
