"""What quantizing cost: the same held-out texts and prompts read by the unquantized and the quantized model.

A loss hides where averages do not look: users report models whose perplexity is fine and whose first generated token is
"!" for ever. So both models also write, greedily, and are compared on what they write.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from smartdevdigest_ops.quantization.calibration import LANGUAGES
from smartdevdigest_ops.training.bits_per_byte import bits_per_byte

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

NUM_NEW_TOKENS = 48
# Documents whose beginnings are continued by generation, per language: each costs seconds on a CPU.
_NUM_PROMPTS = 2
# A window of Korean at two tokens per character; more of one document says less than another document.
_MAX_TEXT_CHARACTERS = 600
_MAX_PROMPT_CHARACTERS = 300
_MIN_JUDGED_TOKENS = 8
# Share of the most frequent token. Prose and JSON of 48 tokens stay below 0.25 (quotes, commas); one token repeated is
# 1. Between the two bounds a text is neither held against the quantized model nor for it.
_SOUND_SHARE = 0.3
_GARBAGE_SHARE = 0.5


@dataclass(frozen=True)
class ComparisonTexts:
    """What both models read: texts by language, and prompts (token ids) to answer."""

    texts: Mapping[str, list[str]]
    prompts: Sequence[list[int]]


@dataclass(frozen=True)
class ModelReading:
    """What one model made of the comparison texts."""

    bits_per_byte: Mapping[str, float]
    """By language; a language without a held-out document is absent."""
    answers: Sequence[list[int]]
    """New token ids per prompt, greedily chosen."""
    num_nonfinite_logits: int
    """NaN or infinite logits on the prompts and answers."""


def choose_texts(
    tokenizer: "PreTrainedTokenizerBase",
    rows: Iterable[Mapping[str, Any]],
    *,
    num_documents: int,
    prompt_tokens: int,
) -> ComparisonTexts:
    """Beginnings of the first `num_documents` documents per language, in order of their ids."""
    from smartdevdigest_ops.digesting.prompt import build_prompt  # noqa: PLC0415 - loads with the tokenizer

    ordered = sorted(rows, key=lambda row: str(row["document_id"]))
    texts, prompts = {}, []
    for language in LANGUAGES:
        chosen = [row for row in ordered if row["language"] == language][:num_documents]
        if chosen:
            texts[language] = [str(row["content"])[:_MAX_TEXT_CHARACTERS] for row in chosen]
        for row in chosen[:_NUM_PROMPTS]:
            content = str(row["content"])[:_MAX_PROMPT_CHARACTERS]
            prompt = build_prompt(
                tokenizer, title=row["title"], content=content, language=language, max_tokens=prompt_tokens
            )
            prompts.append(prompt.token_ids)
    return ComparisonTexts(texts, prompts)


def read_with(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    texts: ComparisonTexts,
    *,
    sequence_length: int,
) -> ModelReading:
    """Score the texts and answer the prompts with one model."""
    import torch

    answers = []
    num_nonfinite = 0
    for prompt in texts.prompts:
        prompt_1T = torch.tensor([prompt], device=model.device)
        with torch.inference_mode():
            written_1T = model.generate(
                input_ids=prompt_1T,
                attention_mask=torch.ones_like(prompt_1T),
                max_new_tokens=NUM_NEW_TOKENS,
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
            )
            num_nonfinite += int((~torch.isfinite(model(input_ids=written_1T).logits)).sum())
        answers.append(written_1T[0, len(prompt) :].tolist())
    scores = {
        language: bits_per_byte(model, tokenizer, documents, sequence_length=sequence_length)
        for language, documents in texts.texts.items()
    }
    return ModelReading(scores, answers, num_nonfinite)


def most_frequent_share(token_ids: Sequence[int]) -> float:
    """Share of the most frequent token, 0-1; 0 for an answer too short to be judged (the model ended its turn)."""
    if len(token_ids) < _MIN_JUDGED_TOKENS:
        return 0.0
    return Counter(token_ids).most_common(1)[0][1] / len(token_ids)


def turned_to_garbage(before: Sequence[Sequence[int]], after: Sequence[Sequence[int]]) -> tuple[int, int]:
    """(answers that were sound and are garbage now, answers that were sound).

    Garbage is one token repeated, or next to nothing where there was an answer before. An answer that repeated itself
    before (an untrained model's does) says nothing about quantizing.
    """
    sound = [
        changed
        for original, changed in zip(before, after, strict=True)
        if len(original) >= _MIN_JUDGED_TOKENS and most_frequent_share(original) <= _SOUND_SHARE
    ]
    garbage = [
        changed
        for changed in sound
        if len(changed) < _MIN_JUDGED_TOKENS or most_frequent_share(changed) > _GARBAGE_SHARE
    ]
    return len(garbage), len(sound)
