"""The base tokenizer as byte-level BPE: its symbols, its pre-tokens, its segmentation of one."""

import json
from functools import cached_property
from pathlib import Path
from typing import Any

from smartdevdigest_ops.errors import UserError


class TokenizerError(UserError):
    """A base tokenizer cannot be extended, or not as the settings ask."""


def byte_alphabet() -> dict[str, int]:
    """Character that stands for a byte in a byte-level vocabulary -> the byte.

    Printable Latin-1 stands for itself, every other byte for the next character from U+0100 on.

    Source: `bytes_to_unicode` of GPT-2's encoder, which every byte-level BPE since has kept.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


class BaseBpe:
    """Byte-level BPE of a `tokenizer.json`, read with the tokenizers library alone.

    Raises:
        TokenizerError: its `tokenizer.json` is another kind of tokenizer.
    """

    def __init__(self, directory: Path) -> None:
        from tokenizers import Tokenizer

        file = directory / "tokenizer.json"
        self.tree: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        _refuse_other_kinds(self.tree, file)
        self._backend: Tokenizer = Tokenizer.from_file(str(file))
        self.added: dict[str, int] = {token["content"]: token["id"] for token in self.tree["added_tokens"]}
        self.vocabulary: dict[str, int] = self.tree["model"]["vocab"]
        self.first_new_id: int = max([*self.vocabulary.values(), *self.added.values()]) + 1

    @cached_property
    def symbols(self) -> dict[int, str]:
        """Token id -> its string in the vocabulary."""
        return {token_id: symbol for symbol, token_id in self.vocabulary.items()}

    def pre_tokens(self, text: str) -> list[str]:
        """Pre-tokens of `text` in the byte alphabet: what merges never cross."""
        if self._backend.normalizer is not None:
            text = self._backend.normalizer.normalize_str(text)
        return [pre_token for pre_token, _ in self._backend.pre_tokenizer.pre_tokenize_str(text)]

    def segment(self, pre_token: str) -> list[int]:
        """Ids of one pre-token."""
        return [token.id for token in self._backend.model.tokenize(pre_token)]

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, without the tokens that a post-processor adds."""
        ids: list[int] = self._backend.encode(text, add_special_tokens=False).ids
        return ids


def _refuse_other_kinds(tree: dict[str, Any], file: Path) -> None:
    model = tree["model"]
    found = None
    if model.get("type") != "BPE":
        found = f"a {model.get('type')} model"
    elif "ByteLevel" not in _types(tree.get("pre_tokenizer")) or "ByteLevel" not in _types(tree.get("decoder")):
        found = "BPE over characters (no ByteLevel pre-tokenizer and decoder)"
    elif model.get("continuing_subword_prefix") or model.get("end_of_word_suffix") or model.get("dropout"):
        found = "BPE with subword marks or dropout"
    if found:
        raise TokenizerError(
            f"{file} is {found}; continued BPE needs byte-level BPE (GPT-2, Llama 3, Qwen, SmolLM), where every merge "
            "joins bytes and decoding is exact. Set tokenizer.num_new_tokens to 0 and tokenizer.required_terms to [] "
            "to keep this tokenizer as it is, or choose another model.base_model."
        )


def _types(component: Any) -> set[str]:
    """Types in a component of `tokenizer.json`, through its sequences."""
    if isinstance(component, dict):
        return {str(component.get("type"))}.union(*(_types(value) for value in component.values()))
    if isinstance(component, list):
        return set().union(*(_types(value) for value in component))
    return set()
