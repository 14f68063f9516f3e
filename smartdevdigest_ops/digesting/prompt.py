"""The prompt: a short instruction, then the document as data, in the tokenizer's own chat template.

The document is the last thing in the user's turn and is tokenized with every special token switched off: text such as
`<|im_end|>` inside a document becomes ordinary characters, so that no document can close its turn and speak for
the assistant. A document that is too long is cut where a reader would stop (`digesting.sections`).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smartdevdigest_ops.contracts.label import Label
from smartdevdigest_ops.digesting.grammar import AnswerForm
from smartdevdigest_ops.digesting.sections import (
    MIN_BLOCK_SHARE,
    Part,
    cut_at_block,
    cut_inside_block,
    has_code,
    next_part,
)
from smartdevdigest_ops.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Raise it when a model tuned on the prompt before would read another one now.
PROMPT_VERSION = "1"

# One English instruction with a language line: in Korean it would cost five times the tokens before the tokenizer
# has learned any, and the keys of the answer are English anyway.
_INSTRUCTION = (
    "Digest this technical document as JSON: summary, keywords, difficulty factors 1-5, prerequisites, "
    "technical terms explained. Answer in {language}."
)
_LANGUAGE_NAMES = {"ko": "Korean", "en": "English"}
_DOCUMENT = "\ue000document\ue000"  # private-use characters: stands for the document while the template renders
_MAX_TITLE_CHARACTERS = 200
# No tokenizer in use packs more characters into a token; bounds the work on a document of many megabytes.
_MAX_CHARACTERS_PER_TOKEN = 32


class PromptError(UserError):
    """No prompt can be built with this tokenizer or length."""


@dataclass(frozen=True)
class Prompt:
    """A prompt, and how much of the document it holds."""

    token_ids: list[int]
    covered_characters: int
    """Characters of the content that are in the prompt."""
    total_characters: int
    num_shared: int
    """Tokens before the document: the same in every prompt of a language."""
    form: AnswerForm
    """What the document (of parts: the part) asks of its answer."""

    @property
    def covered_share(self) -> float:
        """Share of the content that is in the prompt, 0-1."""
        return self.covered_characters / self.total_characters if self.total_characters else 1.0


def build_prompt(
    tokenizer: "PreTrainedTokenizerBase", *, title: str | None, content: str, language: str, max_tokens: int
) -> Prompt:
    """Prompt of one document, cut to `max_tokens` tokens; the answer follows directly behind it.

    Raises:
        PromptError: `max_tokens` leaves no room for the document, or the chat template drops the user's message.
    """
    frame = _Frame.of(tokenizer, title, language, max_tokens)
    data_ids, part = _fit(tokenizer, frame, content, _head)
    return frame.prompt(data_ids, part.covered, len(content), has_code(content))


def build_part_prompts(
    tokenizer: "PreTrainedTokenizerBase",
    *,
    title: str | None,
    content: str,
    language: str,
    max_tokens: int,
    max_parts: int,
) -> list[Prompt]:
    """Prompts of at most `max_parts` parts, in order, that together hold the document or its beginning.

    Each is at most `max_tokens` long and says the title; `sections.next_part` says where parts end. A document that
    fits is one part.

    Raises:
        PromptError: as `build_prompt`.
    """
    frame = _Frame.of(tokenizer, title, language, max_tokens)
    prompts: list[Prompt] = []
    rest = content
    while len(prompts) < max_parts and (rest.strip() or not prompts):
        data_ids, part = _fit(tokenizer, frame, rest, next_part)
        if part.text.strip():
            prompts.append(frame.prompt(data_ids, part.covered, len(content), has_code(part.text)))
        elif part.resume == 0:  # not one word of it fits
            break
        rest = rest[part.resume :]
    if prompts:
        return prompts
    return [frame.prompt(encode_data(tokenizer, frame.heading.rstrip()), 0, len(content), False)]


def answer_text(label: Label) -> str:
    """The answer that the model is taught to write for a label: compact JSON in the grammar's key order."""
    return json.dumps(label.answer(), ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True)
class _Frame:
    """What stands around a document in its prompt."""

    before: list[int]
    after: list[int]
    heading: str
    language: str
    budget: int
    """Tokens that are left for heading and content."""

    @classmethod
    def of(cls, tokenizer: "PreTrainedTokenizerBase", title: str | None, language: str, max_tokens: int) -> "_Frame":
        before, after = _around_document(tokenizer, language)
        heading = f"# {' '.join(title.split())[:_MAX_TITLE_CHARACTERS]}\n\n" if title and title.strip() else ""
        budget = max_tokens - len(before) - len(after)
        num_heading_tokens = len(encode_data(tokenizer, heading))
        if budget - num_heading_tokens < 1:
            raise PromptError(
                f"The prompt may have {max_tokens} tokens, of which the instruction, the chat template and the title "
                f"take {max_tokens - budget + num_heading_tokens}: nothing is left for the document. "
                "Raise model.max_length or lower digesting.max_new_tokens."
            )
        return cls(before, after, heading, language, budget)

    def prompt(self, data_ids: list[int], covered: int, total: int, with_code: bool) -> Prompt:
        form = AnswerForm(self.language, with_code)
        return Prompt([*self.before, *data_ids, *self.after], covered, total, len(self.before), form)


def _fit(
    tokenizer: "PreTrainedTokenizerBase", frame: _Frame, content: str, cut: Callable[[str, int], Part]
) -> tuple[list[int], Part]:
    """Token ids of heading and as much of the content as `cut` makes fit, and what that is."""
    heading, budget = frame.heading, frame.budget
    window = content[: budget * _MAX_CHARACTERS_PER_TOKEN]
    encoded = tokenizer(
        heading + window, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
    )
    if len(encoded["input_ids"]) <= budget and len(window) == len(content):
        return encoded["input_ids"], Part(content, len(content), len(content))
    offsets: list[tuple[int, int]] = encoded["offset_mapping"]
    # A cut ends a token early and may close a fence, which can cost tokens: try again a little shorter.
    for allowed in range(min(budget, len(offsets)), 0, -1):
        part = cut(content, max(0, offsets[allowed - 1][1] - len(heading)))
        ids = encode_data(tokenizer, heading + part.text.rstrip())
        if len(ids) <= budget:
            return ids, part
    return encode_data(tokenizer, heading.rstrip()), Part("", 0, 0)


def _head(content: str, limit: int) -> Part:
    """The beginning of a document, up to the last whole block if that is half of `limit`."""
    # All that a cut at `limit` depends on; a document of many megabytes is not read to its end.
    reachable = content[: limit + 1]
    covered = cut_at_block(reachable, limit)
    text = content[:covered]
    if covered < limit * MIN_BLOCK_SHARE:
        text, covered = cut_inside_block(reachable, limit)
    return Part(text, covered, covered)


def encode_data(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """Token ids of text that must not contain special tokens, whatever it says."""
    ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return ids


def _around_document(tokenizer: "PreTrainedTokenizerBase", language: str) -> tuple[list[int], list[int]]:
    """Token ids before and after the document."""
    instruction = _INSTRUCTION.format(language=_LANGUAGE_NAMES.get(language, "the document's language"))
    return frame_data(tokenizer, instruction)


def frame_data(
    tokenizer: "PreTrainedTokenizerBase", instruction: str, later_turns: Sequence[Mapping[str, str]] = ()
) -> tuple[list[int], list[int]]:
    """Token ids before and after what the user's turn holds, in the tokenizer's chat template.

    `later_turns` ({"role", "content"}) stand behind that turn.

    Raises:
        PromptError: the template drops the user's message.
    """
    rendered = _render(tokenizer, instruction, later_turns)
    before, found, after = rendered.partition(_DOCUMENT)
    if not found:
        raise PromptError(
            f"The chat template of {tokenizer.name_or_path or 'the tokenizer'} renders a user's message without its "
            "content, so the model would never see the document. Put a template that renders it into the base model."
        )
    before_ids: list[int] = tokenizer(before, add_special_tokens=False)["input_ids"]
    after_ids: list[int] = tokenizer(after, add_special_tokens=False)["input_ids"]
    return before_ids, after_ids


def _render(tokenizer: "PreTrainedTokenizerBase", instruction: str, later_turns: Sequence[Mapping[str, str]]) -> str:
    if tokenizer.chat_template is None:
        later = "".join(f"\n\n### {turn['role'].capitalize()}\n{turn['content']}" for turn in later_turns)
        return f"{tokenizer.bos_token or ''}{instruction}\n\n### Document\n{_DOCUMENT}{later}\n\n### Digest\n"
    from jinja2 import TemplateError  # noqa: PLC0415 - comes with transformers' chat templates

    turns = [{"role": "system", "content": instruction}, {"role": "user", "content": _DOCUMENT}, *later_turns]
    try:
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
    except TemplateError:  # templates without a system role (Gemma's) say so by raising
        turns = [{"role": "user", "content": f"{instruction}\n\n{_DOCUMENT}"}, *later_turns]
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
