"""One answer being written: what must come next, what may come next, and what has been written."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, get_args

from smartdevdigest_ops.contracts import Language
from smartdevdigest_ops.contracts.label import FACTOR_NAMES
from smartdevdigest_ops.digesting.errors import DigestingError, GenerationError
from smartdevdigest_ops.digesting.grammar import FIELDS, AnswerBudget, AnswerForm, answer_grammar, plan_budget
from smartdevdigest_ops.digesting.tracker import AnswerTracker
from smartdevdigest_ops.settings import AnswerSettings

if TYPE_CHECKING:
    import numpy as np
    from llguidance import LLMatcher, LLTokenizer
    from transformers import PreTrainedTokenizerBase

# A string that says again what its last characters said is closed: greedy decoding of a small model never leaves a
# loop. Only prose is long enough to loop; a label's summary never repeated 24 characters (80 sample labels).
LOOP_CHARACTERS = 24
BEHIND_FACTORS = FIELDS[FIELDS.index("difficulty_factors") + 1]
"""The field that follows the difficulty factors in an answer."""


class AnswerGuide:
    """What all answers of one model have in common: token bytes, grammars, digit tokens, budget.

    `vocab_size` is the width of the model's logits: it may exceed the tokenizer's, the padding is never allowed.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", vocab_size: int, settings: AnswerSettings) -> None:
        from llguidance import LLMatcher
        from llguidance.hf import from_tokenizer

        if len(tokenizer) > vocab_size:
            raise DigestingError(
                f"The tokenizer has {len(tokenizer)} tokens but the model's vocabulary {vocab_size}: "
                "they do not belong together, and tokens the model cannot write would be asked of it. "
                "Re-make the model from its tokenizer."
            )
        self.settings = settings
        self.vocab_size = vocab_size
        self.tokens: LLTokenizer = from_tokenizer(tokenizer, n_vocab=vocab_size)
        forms = [AnswerForm(language, with_code) for language in get_args(Language) for with_code in (False, True)]
        self._first_matchers = {form: LLMatcher(self.tokens, answer_grammar(settings, form)) for form in forms}
        for matcher in self._first_matchers.values():
            if matcher.is_error():
                raise DigestingError(f"The answer's grammar is refused: {matcher.get_error()}")

    def matcher(self, form: AnswerForm) -> "LLMatcher":
        """A matcher at the start of an answer; copies share the compiled grammar."""
        return self._first_matchers[form].deep_copy()

    def encode(self, text: str) -> list[int]:
        """Tokens of a piece of an answer, whatever it is."""
        ids: list[int] = self.tokens.tokenize_str(text)
        return ids

    @cached_property
    def budget(self) -> AnswerBudget:
        """When each field is closed."""
        return plan_budget(self.settings.max_new_tokens, lambda text: len(self.encode(text)))

    @cached_property
    def digit_ids(self) -> list[int]:
        """Token ids of 1, 2, 3, 4, 5."""
        ids = [self.encode(digit) for digit in "12345"]
        if any(len(digit) != 1 for digit in ids):
            raise DigestingError(
                "The tokenizer has no single tokens for the digits 1-5, from which the difficulty is read."
            )
        return [digit[0] for digit in ids]


@dataclass(frozen=True)
class Answer:
    """A finished answer."""

    text: str
    """Compact JSON of the grammar; up to the difficulty factors if no more was asked for."""
    factor_digits: dict[str, list[float]]
    """Factor -> probabilities of the digits 1-5 at its place; a factor that is null is absent."""
    cut_fields: tuple[str, ...]
    """Fields that were closed inside a string: their last item is not whole."""
    num_new_tokens: int


class AnswerWriter:
    """The state of one answer of a batch. Ask `forced_token` first, then choose among `fill_mask`, then `accept`."""

    def __init__(self, guide: AnswerGuide, form: AnswerForm, *, factors_only: bool = False) -> None:
        self._guide = guide
        self._form = form
        self._factors_only = factors_only
        self._matcher = guide.matcher(form)
        self._tracker = AnswerTracker(is_korean=form.language == "ko")
        self._queue: deque[int] = deque()
        self._factor_digits: dict[str, list[float]] = {}
        self._cut_fields: list[str] = []
        self.num_new_tokens = 0

    @property
    def complete(self) -> bool:
        """Whether the object is closed, or with `factors_only` its difficulty factors are written."""
        return self._tracker.complete or (self._factors_only and self._tracker.field == BEHIND_FACTORS)

    @property
    def at_digit(self) -> bool:
        """Whether the next token is a difficulty digit of the model's choice."""
        null = self._tracker.factor == "code_complexity" and not self._form.with_code
        return not self._queue and self._tracker.at_digit and not null

    def forced_token(self) -> int | None:
        """The one token that comes next, or None where the model has a choice."""
        if not self._queue:
            self._queue.extend(self._forced_tokens())
        return self._queue.popleft() if self._queue else None

    def _forced_tokens(self) -> Sequence[int]:
        tracker = self._tracker
        late = self.num_new_tokens >= self._guide.budget.deadlines[tracker.field]
        if (late or tracker.repeats_an_item) and (closing := tracker.closing()) is not None:
            if tracker.open_string is not None:
                self._cut_fields.append(tracker.field)
            return self._guide.encode(closing)
        if loops(tracker.open_string or "") and (end := tracker.string_end()) is not None:
            return self._guide.encode(end)
        if late:
            # Nothing is left to the model's choice of tokens, so that the count reserved for the skeleton holds.
            forced: bytes = self._matcher.compute_ff_bytes()
            # They may begin inside a character of which only one continuation is allowed.
            return self._guide.tokens.tokenize_bytes(forced) if forced else ()
        # Stops short of where a token could reach into the next string: the model picks that one itself.
        ids: list[int] = self._matcher.compute_ff_tokens()
        return ids

    def fill_mask(self, mask: "np.ndarray", row: int) -> None:
        """Write the allowed tokens into row `row` of `mask` ((B, ceil(V / 32)) int32, one bit per token)."""
        from llguidance.numpy import fill_next_token_bitmask

        fill_next_token_bitmask(self._matcher, mask, row)

    def note_digit(self, probabilities: list[float]) -> None:
        """Keep the probabilities of the digits 1-5 for the factor whose value comes next."""
        self._factor_digits[self._tracker.factor] = probabilities

    def accept(self, token: int) -> None:
        """Append a token.

        Raises:
            GenerationError: the grammar does not allow it.
        """
        if not self._matcher.consume_token(token):
            raise GenerationError(
                f"Token {token} cannot follow {self._tracker.text.decode(errors='replace')[-60:]!r} in an answer "
                f"({self._matcher.get_error()}). The model's logits do not fit its tokenizer; re-make the model."
            )
        self._tracker.feed(self._guide.tokens.decode_bytes([token]))
        self.num_new_tokens += 1

    def answer(self) -> Answer:
        """The finished answer."""
        ordered = {name: self._factor_digits[name] for name in FACTOR_NAMES if name in self._factor_digits}
        return Answer(self._tracker.text.decode(), ordered, tuple(self._cut_fields), self.num_new_tokens)


def loops(string: str) -> bool:
    """Whether a string ends with characters that it has said before."""
    return len(string) > LOOP_CHARACTERS and string.find(string[-LOOP_CHARACTERS:], 0, -1) >= 0
