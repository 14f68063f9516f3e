"""SentencePiece BPE tokenizers with byte fallback as conversions from Gemma and Llama 2 write them."""

import json
from pathlib import Path
from typing import Any, Literal

SPECIAL_TOKENS = ("<pad>", "<eos>", "<bos>", "<unk>")
# Taken out of a text before it is merged, as Gemma's user-defined symbols are.
WHOLE_TOKENS = ("\n", "\n\n", "<table>")
BYTE_TOKENS = tuple(f"<0x{byte:02X}>" for byte in range(256))
ASCII = tuple(map(chr, range(0x21, 0x7F)))

Style = Literal["gemma", "llama-legacy", "llama-metaspace"]

_REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
_PREPEND = {"type": "Prepend", "prepend": "▁"}
_METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
_BACK_TO_TEXT = [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}]
_STRIP = {"type": "Strip", "content": " ", "start": 1, "stop": 0}


def write_sentencepiece_base(
    directory: Path,
    merges: list[tuple[str, str]],
    *,
    characters: str = "",
    style: Style = "gemma",
    **model: Any,
) -> Path:
    """A tokenizer of bytes, ASCII, `▁`, `characters` and `merges`; only Gemma's has `WHOLE_TOKENS`."""
    directory.mkdir(parents=True, exist_ok=True)
    whole = WHOLE_TOKENS if style == "gemma" else ()
    results = ["".join(pair) for pair in merges]
    tokens = list(dict.fromkeys([*SPECIAL_TOKENS, *whole, *BYTE_TOKENS, "▁", *ASCII, *characters, *results]))
    vocabulary = {token: i for i, token in enumerate(tokens)}
    prefixed = style != "gemma"
    tree = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": vocabulary[token],
                "content": token,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": token in SPECIAL_TOKENS,
            }
            for token in (*SPECIAL_TOKENS, *whole)
        ],
        "normalizer": {
            "gemma": _REPLACE,
            "llama-legacy": {"type": "Sequence", "normalizers": [_PREPEND, _REPLACE]},
            "llama-metaspace": None,
        }[style],
        "pre_tokenizer": _METASPACE if style == "llama-metaspace" else None,
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [*_BACK_TO_TEXT, {"type": "Fuse"}, *([_STRIP] if prefixed else [])],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": [list(pair) for pair in merges],
        }
        | model,
    }
    (directory / "tokenizer.json").write_text(json.dumps(tree, ensure_ascii=False), encoding="utf-8")
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "clean_up_tokenization_spaces": False,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return directory


def learn_sentencepiece_merges(texts: list[str], *, vocab_size: int, num_characters: int) -> tuple[list[Any], str]:
    """Merges learned on `texts`, and the characters they need: the `num_characters` that are most frequent."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("\n", "removed"), pre_tokenizers.Split("▁", "merged_with_next")]
    )
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, limit_alphabet=num_characters, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    characters = "".join(token for token in model["vocab"] if len(token) == 1)
    return [tuple(merge) for merge in model["merges"]], characters
