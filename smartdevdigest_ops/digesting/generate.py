"""Grammar-guided generation of many answers at once, greedy or drawn.

Every step is one forward pass that feeds each row what it has to be fed (`digesting.packed`): a new document its
prompt, a row that is writing the token it chose last and all tokens that the grammar forces behind it, so that the
skeleton of the JSON costs no steps of its own. A row that is finished makes room for the next document at once. What
all prompts begin with (the instruction in its chat template) is computed once and copied. The difficulty digits are
read as probabilities at their place, not only as the token chosen.

Shapes: R rows being written, V vocabulary.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from smartdevdigest_ops.digesting.errors import GenerationError
from smartdevdigest_ops.digesting.grammar import AnswerForm
from smartdevdigest_ops.digesting.packed import forward_packed, make_packable
from smartdevdigest_ops.digesting.row_cache import RowCache
from smartdevdigest_ops.digesting.sampling import Sampler
from smartdevdigest_ops.digesting.writer import Answer, AnswerGuide, AnswerWriter

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from smartdevdigest_ops.digesting.row_cache import RowContent

# Prompts join a step until it has so many tokens: matrix products are at their best with fewer already, and the step's
# activations stay small.
_PROMPT_TOKENS_PER_STEP = 2048


@dataclass(frozen=True)
class Question:
    """What is answered: a prompt, the answer follows directly behind it."""

    token_ids: Sequence[int]
    form: AnswerForm
    """What the answer is held to."""
    num_shared: int = 0
    """Tokens at the beginning that other prompts begin with too."""
    factors_only: bool = False
    """The answer ends behind the difficulty factors."""
    sampler: Sampler | None = None
    """Draws every choice; None: the likeliest is taken."""


@dataclass
class _Row:
    """An answer being written, in the row of the cache that its place in the list says."""

    number: int
    """Of the question."""
    writer: AnswerWriter
    sampler: Sampler | None = None
    num_cached: int = 0
    pending: list[int] = field(default_factory=list)
    """Tokens that the next step feeds."""


class AnswerGenerator:
    """Answers questions with one model."""

    def __init__(self, model: "PreTrainedModel", guide: AnswerGuide) -> None:
        make_packable(model)
        self.model = model
        self._guide = guide
        self._shared: dict[tuple[int, ...], RowContent] = {}

    @property
    def num_positions(self) -> int | None:
        """Tokens of prompt and answer that the model was made for; None where its configuration does not say."""
        return getattr(self.model.config, "max_position_embeddings", None)

    def generate(
        self, questions: Sequence[Question], *, batch_size: int, on_step: Callable[[int], None] | None = None
    ) -> list[Answer | GenerationError]:
        """The answer to each question, in order, or why there is none: an error is one document's alone.

        `batch_size` answers are written at a time; `on_step` gets the number of tokens written in each step.
        """
        import torch

        if not questions:
            return []
        results: dict[int, Answer | GenerationError] = {}
        waiting = deque(enumerate(questions))
        num_tokens = max(len(question.token_ids) for question in questions) + self._guide.settings.max_new_tokens
        num_rows = min(batch_size, len(questions))
        cache = RowCache(num_rows, num_tokens)
        rows: list[_Row] = []
        with torch.inference_mode():
            while waiting or rows:
                num_written = self._admit(waiting, rows, cache, num_rows)
                logits_RV = forward_packed(
                    self.model, cache, [row.pending for row in rows], [row.num_cached for row in rows]
                ).float()
                for row in rows:
                    row.num_cached += len(row.pending)
                    row.pending = []
                is_number = torch.isfinite(logits_RV).all(-1).tolist()
                sound = [index for index, finite in enumerate(is_number) if finite]
                failures = {index: _not_finite() for index in range(len(rows)) if not is_number[index]}
                chosen = choose_tokens(
                    logits_RV[sound],
                    [rows[index].writer for index in sound],
                    self._guide,
                    [rows[index].sampler for index in sound],
                )
                for index, token in zip(sound, chosen, strict=True):
                    try:
                        rows[index].pending = _write(rows[index].writer, token)
                    except GenerationError as error:
                        failures[index] = error
                    num_written += len(rows[index].pending)
                results |= {row.number: row.writer.answer() for row in rows if row.writer.complete}
                results |= {rows[index].number: error for index, error in failures.items()}
                _drop_finished(rows, cache, failures)
                if on_step is not None:
                    on_step(num_written)
        return [results[number] for number in range(len(questions))]

    def _admit(self, waiting: "deque[tuple[int, Question]]", rows: list[_Row], cache: RowCache, num_rows: int) -> int:
        """Fill free rows with the next questions; returns the tokens of their answers that the grammar forces."""
        num_prompt_tokens = num_forced = 0
        while waiting and len(rows) < num_rows and num_prompt_tokens < _PROMPT_TOKENS_PER_STEP:
            number, question = waiting.popleft()
            writer = AnswerWriter(self._guide, question.form, factors_only=question.factors_only)
            row = _Row(number, writer, question.sampler)
            shared = tuple(question.token_ids[: question.num_shared])
            if shared:
                if shared not in self._shared:
                    self._shared[shared] = self._read(shared)
                cache.write(len(rows), self._shared[shared])
                row.num_cached = len(shared)
            forced = _write(row.writer)
            row.pending = [*question.token_ids[len(shared) :], *forced]
            num_prompt_tokens += len(row.pending)
            num_forced += len(forced)
            rows.append(row)
        return num_forced

    def _read(self, tokens: tuple[int, ...]) -> "RowContent":
        cache = RowCache(1, len(tokens))
        forward_packed(self.model, cache, [tokens], [0])
        return cache.read(0, len(tokens))


def choose_tokens(
    logits_RV: "torch.Tensor",
    writers: Sequence[AnswerWriter],
    guide: AnswerGuide,
    samplers: Sequence[Sampler | None] | None = None,
) -> list[int]:
    """A token for each writer, of those that the grammar allows: the likeliest, or what its sampler draws.

    None of the writers may have a forced one.
    """
    import numpy as np
    import torch

    drawing = samplers or [None] * len(writers)
    tokens = [0] * len(writers)
    num_words = (guide.vocab_size + 31) // 32
    mask_words = np.zeros((len(writers), num_words), dtype=np.int32)
    choosing: list[int] = []
    digit_ids = torch.tensor(guide.digit_ids, device=logits_RV.device)
    for row, writer in enumerate(writers):
        if writer.at_digit:
            probabilities = logits_RV[row, digit_ids].softmax(-1)
            writer.note_digit([round(p, 6) for p in probabilities.tolist()])
            tokens[row] = guide.digit_ids[_choose(probabilities.log(), drawing[row])]
        else:
            writer.fill_mask(mask_words, row)
            choosing.append(row)
    if choosing:
        bits = np.unpackbits(mask_words[choosing].view(np.uint8), axis=-1, bitorder="little")
        allowed_RV = torch.from_numpy(bits[:, : logits_RV.shape[-1]]).to(logits_RV.device).bool()
        held_RV = logits_RV[choosing].masked_fill_(~allowed_RV, float("-inf"))
        likeliest = held_RV.argmax(-1).tolist()
        for place, row in enumerate(choosing):
            tokens[row] = likeliest[place] if drawing[row] is None else _choose(held_RV[place], drawing[row])
    return tokens


def _choose(logits_V: "torch.Tensor", sampler: Sampler | None) -> int:
    return int(logits_V.argmax()) if sampler is None else sampler.draw(logits_V)


def _write(writer: AnswerWriter, token: int | None = None) -> list[int]:
    """Let the writer accept a token, if one is given, and all that are forced behind it; returns them."""
    written: list[int] = []
    token = writer.forced_token() if token is None else token
    while token is not None:
        writer.accept(token)
        written.append(token)
        token = None if writer.complete else writer.forced_token()
    return written


def _drop_finished(rows: list[_Row], cache: RowCache, failures: Iterable[int]) -> None:
    # The last row moves to a free place, so that those in use lie together and the cache is read without a copy.
    failed = set(failures)
    for index in reversed(range(len(rows))):
        if index in failed:
            cache.clear(index)
        if index in failed or rows[index].writer.complete:
            last = rows.pop()
            if index < len(rows):
                cache.move(len(rows), index, last.num_cached)
                rows[index] = last


def _not_finite() -> GenerationError:
    return GenerationError(
        "The model computed logits that are not finite numbers, so nothing can be read from it. "
        "If it was quantized, quantize it again with more damping (quantization.damping) or float32."
    )
