"""Byte-level tokenizers with hand-written vocabularies, and votes of words, for the tests of continued BPE."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from smartdevdigest_ops.tokenizer.base import Bpe, byte_alphabet
from smartdevdigest_ops.tokenizer.pre_tokens import count_pre_tokens
from smartdevdigest_ops.tokenizer.votes import Segment, collect_votes

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def write_base(
    directory: Path,
    merges: list[tuple[str, str]],
    *,
    specials_in_vocabulary: bool = True,
    merges_as_text: bool = False,
    ignore_merges: bool = False,
    **model: Any,
) -> Path:
    """A tokenizer of all bytes and `merges`. Special tokens come first, or after the vocabulary as in Qwen."""
    directory.mkdir(parents=True, exist_ok=True)
    tokens = [*byte_alphabet(), *("".join(pair) for pair in merges)]
    tokens = [*SPECIAL_TOKENS, *tokens] if specials_in_vocabulary else tokens
    vocabulary = {token: i for i, token in enumerate(tokens)}
    added = {token: vocabulary.get(token, len(tokens) + i) for i, token in enumerate(SPECIAL_TOKENS)}
    tree = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": token_id,
                "content": token,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for token, token_id in added.items()
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{"type": "Digits", "individual_digits": True}, BYTE_LEVEL],
        },
        "post_processor": None,
        "decoder": BYTE_LEVEL,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": ignore_merges,
            "vocab": vocabulary,
            "merges": [" ".join(pair) if merges_as_text else list(pair) for pair in merges],
        }
        | model,
    }
    (directory / "tokenizer.json").write_text(json.dumps(tree, ensure_ascii=False), encoding="utf-8")
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|im_end|>",
        "clean_up_tokenization_spaces": False,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    template = "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"
    (directory / "chat_template.jinja").write_text(template, encoding="utf-8")
    return directory


def segments_of(base: Bpe, votes: Mapping[str, float]) -> dict[Segment, float]:
    """Pre-tokens with their votes as `learn_merges` wants them."""
    return {tuple(base.segment(word)): vote for word, vote in votes.items() if len(base.segment(word)) > 1}


def rows_of(texts: Iterable[str], language: str = "ko") -> list[dict[str, Any]]:
    """Corpus rows without titles."""
    return [{"title": None, "content": text, "language": language} for text in texts]


def segments_in(base: Bpe, texts: Iterable[str]) -> dict[Segment, float]:
    """Votes of all words of `texts`, one an occurrence."""
    return collect_votes(base, count_pre_tokens(base, rows_of(texts))).segments
