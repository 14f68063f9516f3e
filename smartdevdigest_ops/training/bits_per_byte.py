"""Bits per byte: how well a model predicts text, comparable across tokenizers.

Perplexity per token is not: a tokenizer with longer tokens has fewer and harder ones. The total of -log2 p over all
tokens, divided by the UTF-8 bytes of the text, is the size the model would compress it to and needs no tokenizer to
be read.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from smartdevdigest_ops.training.errors import TrainingError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def document_boundary_id(tokenizer: "PreTrainedTokenizerBase") -> int:
    """The token that stands before a document.

    `<|endoftext|>` where the vocabulary has it: it separates the pretraining documents of SmolLM2 and Qwen, whose
    BOS and EOS open and close chat turns. BOS otherwise, EOS where there is no BOS.

    Raises:
        TrainingError: the tokenizer has none of them.
    """
    vocabulary = tokenizer.get_vocab()
    if "<|endoftext|>" in vocabulary:
        return int(vocabulary["<|endoftext|>"])
    for token_id in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token_id is not None:
            return int(token_id)
    raise TrainingError(
        f"{tokenizer.name_or_path}: the tokenizer has no <|endoftext|>, no BOS and no EOS token, so that documents "
        "cannot be told apart. Choose another model.base_model."
    )


def encode_documents(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text. A `<|im_end|>` that a document quotes is ordinary characters, never the token."""
    if not texts:
        return []
    encoded = tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True, verbose=False)
    ids: list[list[int]] = encoded["input_ids"]
    return ids


def bits_per_byte(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    texts: Sequence[str],
    *,
    sequence_length: int,
    batch_size: int = 4,
) -> float:
    """Total -log2 p of all tokens of `texts`, divided by their UTF-8 bytes.

    Documents are cut into windows of `sequence_length` tokens that do not overlap. Each window is preceded by the
    document boundary, so that its first token is scored too; what stood before the window is not seen, which makes
    the figure slightly higher than with a sliding window, for every model alike.

    Raises:
        TrainingError: the texts hold no byte.
    """
    import torch

    num_bytes = sum(len(text.encode()) for text in texts)
    if num_bytes == 0:
        raise TrainingError("Bits per byte of no text is undefined: the held-out texts are all empty.")
    boundary = document_boundary_id(tokenizer)
    windows = [
        token_ids[start : start + sequence_length]
        for token_ids in encode_documents(tokenizer, texts)
        for start in range(0, len(token_ids), sequence_length)
    ]
    # Neighbours of like length: little padding. Padding is on the right, where causal attention never looks at it.
    windows.sort(key=len, reverse=True)
    total_nats = 0.0
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():  # in inference mode a model in parts would keep buffers that training cannot use
            for start in range(0, len(windows), batch_size):
                batch = windows[start : start + batch_size]
                longest = len(batch[0])
                rows = [[boundary, *window[:-1]] + [boundary] * (longest - len(window)) for window in batch]
                logits_BTV = model(input_ids=torch.tensor(rows, device=model.device), use_cache=False).logits
                # Row by row: a float32 log-softmax over the whole batch would double the peak of memory.
                for logits_TV, window in zip(logits_BTV, batch, strict=True):
                    targets_T = torch.tensor(window, device=logits_TV.device)
                    loss = torch.nn.functional.cross_entropy(
                        logits_TV[: len(window)].float(), targets_T, reduction="sum"
                    )
                    total_nats += loss.item()
    finally:
        model.train(was_training)
    return total_nats / math.log(2) / num_bytes
