"""Encode many texts at once, on every core."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TEXTS_PER_BATCH = 256


def encode_texts(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text, as `tokenizer.encode(text, add_special_tokens=False)` gives them."""
    encoded: list[list[int]] = []
    with parallel_tokenizers():
        for start in range(0, len(texts), _TEXTS_PER_BATCH):
            batch = list(texts[start : start + _TEXTS_PER_BATCH])
            encoded += tokenizer(batch, add_special_tokens=False, return_attention_mask=False, verbose=False)[
                "input_ids"
            ]
    return encoded


@contextmanager
def parallel_tokenizers() -> Iterator[None]:
    """The library's threads are on: the stages' processes have them off, because of forks that come later.

    With the variable set again after use, a fork takes no thread along and nothing warns.
    """
    name = "TOKENIZERS_PARALLELISM"
    before = os.environ.get(name)
    os.environ[name] = "true"
    try:
        yield
    finally:
        os.environ[name] = "false" if before is None else before
