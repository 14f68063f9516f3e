"""The prompt: a short instruction, then the document as data, in the tokenizer's own chat template.

The document is the last thing in the user's turn and is tokenized with every special token switched off: text such as
`<|im_end|>` inside a document becomes ordinary characters, so that no document can close its turn and speak for
the assistant. A document that is too long is cut where a reader would stop (`digesting.sections`).
"""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smartdevdigest_ops.contracts.label import Label
from smartdevdigest_ops.digesting.sections import cut_at_block, cut_inside_block
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
# Whole blocks are worth this much of the room: one long paragraph behind a short one is cut rather than left out.
_MIN_BLOCK_SHARE = 0.5


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

    @property
    def covered_share(self) -> float:
        """Share of the content that is in the prompt, 0-1."""
        return self.covered_characters / self.total_characters if self.total_characters else 1.0


def build_prompt(
    tokenizer: "PreTrainedTokenizerBase", *, title: str | None, content: str, language: str, max_tokens: int
) -> Prompt:
    """Prompt of one document, at most `max_tokens` long; the answer follows directly behind it.

    Raises:
        PromptError: `max_tokens` leaves no room for the document, or the chat template drops the user's message.
    """
    before, after = _frame(tokenizer, language)
    heading = f"# {' '.join(title.split())[:_MAX_TITLE_CHARACTERS]}\n\n" if title and title.strip() else ""
    budget = max_tokens - len(before) - len(after)
    if budget - len(_encode_data(tokenizer, heading)) < 1:
        raise PromptError(
            f"The prompt may have {max_tokens} tokens, of which the instruction, the chat template and the title take "
            f"{max_tokens - budget + len(_encode_data(tokenizer, heading))}: nothing is left for the document. "
            "Raise model.max_length or lower digesting.max_new_tokens."
        )
    data_ids, covered = _fit_document(tokenizer, heading, content, budget)
    return Prompt([*before, *data_ids, *after], covered, len(content), len(before))


def answer_text(label: Label) -> str:
    """The answer that the model is taught to write for a label: compact JSON in the grammar's key order."""
    return json.dumps(label.answer(), ensure_ascii=False, separators=(",", ":"))


def _fit_document(
    tokenizer: "PreTrainedTokenizerBase", heading: str, content: str, budget: int
) -> tuple[list[int], int]:
    """Token ids of heading and content, cut to `budget` tokens, and the characters of content that are in them."""
    window = content[: budget * _MAX_CHARACTERS_PER_TOKEN]
    encoded = tokenizer(
        heading + window, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
    )
    if len(encoded["input_ids"]) <= budget and len(window) == len(content):
        return encoded["input_ids"], len(content)
    offsets: list[tuple[int, int]] = encoded["offset_mapping"]
    reachable = content[: len(window) + 1]
    # A cut ends a token early and may close a fence, which can cost tokens: try again a little shorter.
    for allowed in range(min(budget, len(offsets)), 0, -1):
        limit = max(0, offsets[allowed - 1][1] - len(heading))
        covered = cut_at_block(reachable, limit)
        text = content[:covered]
        if covered < limit * _MIN_BLOCK_SHARE:
            text, covered = cut_inside_block(reachable, limit)
        ids = _encode_data(tokenizer, heading + text.rstrip())
        if len(ids) <= budget:
            return ids, covered
    return _encode_data(tokenizer, heading.rstrip()), 0


def _encode_data(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """Token ids of text that must not contain special tokens, whatever it says."""
    ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return ids


def _frame(tokenizer: "PreTrainedTokenizerBase", language: str) -> tuple[list[int], list[int]]:
    """Token ids before and after the document."""
    instruction = _INSTRUCTION.format(language=_LANGUAGE_NAMES.get(language, "the document's language"))
    rendered = _render(tokenizer, instruction)
    before, found, after = rendered.partition(_DOCUMENT)
    if not found:
        raise PromptError(
            f"The chat template of {tokenizer.name_or_path or 'the tokenizer'} renders a user's message without its "
            "content, so the model would never see the document. Put a template that renders it into the base model."
        )
    before_ids: list[int] = tokenizer(before, add_special_tokens=False)["input_ids"]
    after_ids: list[int] = tokenizer(after, add_special_tokens=False)["input_ids"]
    return before_ids, after_ids


def _render(tokenizer: "PreTrainedTokenizerBase", instruction: str) -> str:
    if tokenizer.chat_template is None:
        return f"{tokenizer.bos_token or ''}{instruction}\n\n### Document\n{_DOCUMENT}\n\n### Digest\n"
    from jinja2 import TemplateError  # noqa: PLC0415 - comes with transformers' chat templates

    turns = [{"role": "system", "content": instruction}, {"role": "user", "content": _DOCUMENT}]
    try:
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
    except TemplateError:  # templates without a system role (Gemma's) say so by raising
        turns = [{"role": "user", "content": f"{instruction}\n\n{_DOCUMENT}"}]
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
