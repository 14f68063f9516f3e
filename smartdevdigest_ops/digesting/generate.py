"""Grammar-guided generation of a batch of answers, greedy or drawn.

One forward pass per token for all rows still writing; the prompts are padded on the left, and rows that have finished
leave the batch together with their part of the key-value cache. The difficulty digits are read as probabilities
at their place, not only as the token chosen.

Shapes: B rows, T prompt tokens of the longest row, V vocabulary.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from smartdevdigest_ops.digesting.errors import GenerationError
from smartdevdigest_ops.digesting.sampling import Sampler
from smartdevdigest_ops.digesting.writer import Answer, AnswerGuide, AnswerWriter

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

# Finished rows idle until this share of the batch is gone: shrinking copies the cache.
_IDLE_SHARE = 0.25


def generate_answers(
    model: "PreTrainedModel",
    guide: AnswerGuide,
    prompts: Sequence[Sequence[int]],
    with_code: Sequence[bool],
    *,
    on_step: Callable[[int], None] | None = None,
    samplers: Sequence[Sampler] | None = None,
) -> list[Answer]:
    """The answer to each prompt, in order; `on_step` gets the number of tokens written in each step.

    Greedy, unless `samplers` has a sampler for each prompt: then every choice is drawn.

    Raises:
        GenerationError: the model's logits are not numbers.
    """
    import torch
    from transformers import DynamicCache

    writers = [AnswerWriter(guide, with_code=code) for code in with_code]
    input_ids_BT, attention_BT = _pad_left(prompts, model.device)
    positions_BT = (attention_BT.cumsum(-1) - 1).clamp(min=0)
    cache = DynamicCache(config=model.config)
    rows = list(range(len(prompts)))  # row of the batch -> prompt
    with torch.inference_mode():
        while True:
            output = model(
                input_ids=input_ids_BT,
                attention_mask=attention_BT,
                position_ids=positions_BT,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            writing = [writers[prompt] for prompt in rows]
            drawing = [samplers[prompt] for prompt in rows] if samplers else None
            tokens_B = _next_tokens(output.logits[:, -1, :], writing, guide, drawing)
            if on_step is not None:
                on_step(sum(not writer.complete for writer in writing))
            for writer, token in zip(writing, tokens_B, strict=True):
                if not writer.complete:
                    writer.accept(token)
            left = [row for row, writer in enumerate(writing) if not writer.complete]
            if not left:
                return [writer.answer() for writer in writers]
            positions_BT = positions_BT[:, -1:] + 1
            input_ids_BT = torch.tensor(tokens_B, device=model.device).unsqueeze(-1)
            attention_BT = torch.nn.functional.pad(attention_BT, (0, 1), value=1)
            if len(rows) - len(left) >= max(1, _IDLE_SHARE * len(rows)):
                kept = torch.tensor(left, device=model.device)
                cache.batch_select_indices(kept)
                input_ids_BT, attention_BT, positions_BT = (
                    tensor[kept] for tensor in (input_ids_BT, attention_BT, positions_BT)
                )
                rows = [rows[row] for row in left]


def _pad_left(prompts: Sequence[Sequence[int]], device: "torch.device") -> tuple["torch.Tensor", "torch.Tensor"]:
    """Token ids and attention mask, both (B, T) int64; the padding's id does not matter, it is masked."""
    import torch

    width = max(len(prompt) for prompt in prompts)
    ids = torch.zeros((len(prompts), width), dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    return ids.to(device), mask.to(device)


def _next_tokens(
    logits_BV: "torch.Tensor",
    writers: Sequence[AnswerWriter],
    guide: AnswerGuide,
    samplers: Sequence[Sampler] | None = None,
) -> list[int]:
    """One token per row: the forced one, or of those that the grammar allows the likeliest or one drawn.

    Finished rows get 0.
    """
    import numpy as np
    import torch

    logits_BV = logits_BV.float()
    if not torch.isfinite(logits_BV).all():
        raise GenerationError(
            "The model computed logits that are not finite numbers, so nothing can be read from it. "
            "If it was quantized, quantize it again with more damping (quantization.damping) or float32."
        )
    tokens = [0] * len(writers)
    mask_words = np.zeros((len(writers), (guide.vocab_size + 31) // 32), dtype=np.int32)
    choosing: list[int] = []
    digit_ids = torch.tensor(guide.digit_ids, device=logits_BV.device)
    for row, writer in enumerate(writers):
        if writer.complete:
            continue
        forced = writer.forced_token()
        if forced is not None:
            tokens[row] = forced
        elif writer.at_digit:
            probabilities = logits_BV[row, digit_ids].softmax(-1)
            writer.note_digit([round(p, 6) for p in probabilities.tolist()])
            at = samplers[row].draw(probabilities.log()) if samplers else int(probabilities.argmax())
            tokens[row] = guide.digit_ids[at]
        else:
            writer.fill_mask(mask_words, row)
            choosing.append(row)
    if choosing:
        words = torch.from_numpy(mask_words[choosing]).to(logits_BV.device)
        bits = (words.unsqueeze(-1) >> torch.arange(32, device=words.device, dtype=torch.int32)) & 1
        allowed_BV = bits.flatten(1)[:, : logits_BV.shape[-1]].bool()
        held_BV = logits_BV[choosing].masked_fill(~allowed_BV, float("-inf"))
        if samplers:
            chosen = [samplers[row].draw(logits_V) for row, logits_V in zip(choosing, held_BV, strict=True)]
        else:
            chosen = held_BV.argmax(-1).tolist()
        for row, token in zip(choosing, chosen, strict=True):
            tokens[row] = token
    return tokens
