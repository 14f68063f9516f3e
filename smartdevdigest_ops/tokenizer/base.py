"""The base tokenizer as BPE whose merges can be continued: its symbols, its pre-tokens, its segmentation of one.

Two kinds are read. Byte-level BPE (GPT-2, Llama 3, Qwen, SmolLM) writes text in 256 characters that stand for bytes,
and a regular expression splits it before any merge. SentencePiece BPE with byte fallback (Gemma, Llama 2, Mistral
7B) writes text as its characters, a space as `▁`, and a character that it does not have as byte tokens `<0x..>`;
nothing splits it, merges run over the whole text. `SentencePieceBpe` says how it is cut all the same, and why the
cuts change nothing.
"""

import json
import re
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any

from smartdevdigest_ops.errors import UserError

SPACE = "▁"
"""U+2581, which stands for a space in SentencePiece vocabularies."""

_BYTE_TOKEN = re.compile("<0x[0-9A-F]{2}>")


class TokenizerError(UserError):
    """A base tokenizer cannot be extended, or not as the settings ask."""


class Bpe(ABC):
    """BPE of a `tokenizer.json`, read with the tokenizers library alone. `open_base` makes the right one."""

    def __init__(self, tree: dict[str, Any], file: Path) -> None:
        from tokenizers import Tokenizer

        self.tree = tree
        self._backend: Tokenizer = Tokenizer.from_file(str(file))
        self.added: dict[str, int] = {token["content"]: token["id"] for token in tree["added_tokens"]}
        self.vocabulary: dict[str, int] = tree["model"]["vocab"]
        self.first_new_id: int = max([*self.vocabulary.values(), *self.added.values()]) + 1

    @cached_property
    def symbols(self) -> dict[int, str]:
        """Token id -> its string in the vocabulary."""
        return {token_id: symbol for symbol, token_id in self.vocabulary.items()}

    @abstractmethod
    def pre_tokens(self, text: str) -> list[str]:
        """Pre-tokens of `text` as the vocabulary writes them: what merges never cross."""

    @abstractmethod
    def data(self, symbol: str) -> bytes:
        """The bytes that a symbol stands for."""

    @abstractmethod
    def can_join(self, left: str, right: str) -> bool:
        """Whether two neighbouring symbols of a pre-token may become one token."""

    @abstractmethod
    def term_pieces(self, term: str) -> tuple[list[str], list[str]]:
        """Pre-tokens of a term that follows no space, and of one that follows a space.

        Raises:
            TokenizerError: the vocabulary has no way to make it one token.
        """

    def segment(self, pre_token: str) -> list[int]:
        """Ids of one pre-token."""
        return [token.id for token in self._backend.model.tokenize(pre_token)]

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, without the tokens that a post-processor adds."""
        ids: list[int] = self._backend.encode(text, add_special_tokens=False).ids
        return ids

    def _normalised_pieces(self, text: str) -> list[str]:
        """`text` as normalizer and pre-tokenizer leave it."""
        if self._backend.normalizer is not None:
            text = self._backend.normalizer.normalize_str(text)
        if self._backend.pre_tokenizer is None:
            return [text]
        return [piece for piece, _ in self._backend.pre_tokenizer.pre_tokenize_str(text)]


class ByteLevelBpe(Bpe):
    """BPE over the 256 bytes."""

    def __init__(self, tree: dict[str, Any], file: Path) -> None:
        super().__init__(tree, file)
        self._bytes = byte_alphabet()

    def pre_tokens(self, text: str) -> list[str]:
        """Pre-tokens of `text` in the byte alphabet."""
        return self._normalised_pieces(text)

    def data(self, symbol: str) -> bytes:
        """One byte a character."""
        return bytes(self._bytes[character] for character in symbol)

    def can_join(self, left: str, right: str) -> bool:
        """Whole UTF-8 characters, or a fragment of one; the pre-tokenizer has done the rest."""
        return is_aligned(self.data(left + right))

    def term_pieces(self, term: str) -> tuple[list[str], list[str]]:
        """Pre-tokens of a term alone and after a space."""
        return self.pre_tokens(term), self.pre_tokens(f" {term}")


# Between two of these kinds of characters a text may be cut: letters, digits, white space, all others. `▁` goes with
# what follows it.
_BORDER = re.compile(
    rf"(?<=[^{SPACE}])(?={SPACE})"
    r"|(?<=[^\W\d_])(?=[\W\d_])"
    r"|(?<=\d)(?=\D)"
    r"|(?<=\s)(?=\S)"
    rf"|(?<=[^\w\s{SPACE}])(?=[^\W_]|\s)|(?<=_)(?=[^\W_]|\s)"
)


class SentencePieceBpe(Bpe):
    """BPE over characters, with `▁` for a space and byte fallback.

    Its merges run over a whole text, so words to count have to be cut out of it without changing what is merged. A
    cut stands between two characters of different kinds (`_BORDER`) that no merge of the base ever joins: the pairs
    (last character of the left, first of the right) over all merges are `_joined`. Whether there is a cut depends on
    these two characters alone. So no base merge crosses one, and neither does a new merge: it was learned inside a
    piece, where the two characters it joins at stood without a cut between them. Merging piece by piece is therefore
    merging the whole text.
    """

    def __init__(self, tree: dict[str, Any], file: Path) -> None:
        super().__init__(tree, file)
        merges = (merge.split(" ") if isinstance(merge, str) else merge for merge in tree["model"]["merges"])
        self._joined = {left[-1] + right[0] for left, right in merges}
        # Tokens such as "\n\n" or "<table>", which are taken out of a text before it is merged, the longest first.
        # Special tokens are none of a document's: it is encoded with them switched off.
        whole = sorted((token["content"] for token in tree["added_tokens"] if not token["special"]), key=len)
        self._whole = re.compile("|".join(map(re.escape, reversed(whole)))) if whole else None

    def pre_tokens(self, text: str) -> list[str]:
        """Pieces of `text` that no merge crosses, added tokens left out."""
        sections = self._whole.split(text) if self._whole else [text]
        return [
            piece
            for section in sections
            if section
            for normalised in self._normalised_pieces(section)
            for piece in self._cut(normalised)
        ]

    def data(self, symbol: str) -> bytes:
        """UTF-8 of the characters with spaces for `▁`; of a byte token, its byte."""
        if _BYTE_TOKEN.fullmatch(symbol):
            return bytes([int(symbol[3:5], 16)])
        return symbol.replace(SPACE, " ").encode("utf-8")

    def can_join(self, left: str, right: str) -> bool:
        """Characters of one kind, or `▁` and what follows it.

        Byte tokens are decoded only as themselves, so they join nothing, and a character that takes them can be in
        no new token. Runs of spaces stay as they are, and digits join only where the base's merges join them.
        """
        if _BYTE_TOKEN.fullmatch(left) or _BYTE_TOKEN.fullmatch(right):
            return False
        at_joint = left[-1] + right[0]
        if right.startswith(SPACE) or (len(left) > 1 and not left.strip(SPACE)):
            return False
        if any(character.isdecimal() for character in at_joint) and at_joint not in self._joined:
            return False
        return not _BORDER.search(at_joint)

    def term_pieces(self, term: str) -> tuple[list[str], list[str]]:
        """Pre-tokens of a term inside a text, and after a space.

        Where the normalizer puts a space before a text (Llama 2), a text that begins with the term has the second.

        Raises:
            TokenizerError: the base writes one of its characters as bytes.
        """
        spelled = term.replace(" ", SPACE)
        as_bytes = [character for character in spelled if character not in self.vocabulary]
        if as_bytes:
            raise TokenizerError(
                f"tokenizer.required_terms holds {term!r}, in which the base tokenizer has no token for "
                f"{', '.join(as_bytes)} and writes bytes instead; these are decoded only as tokens of their own, so "
                "the term cannot be one token. Remove it, or require its other parts."
            )
        return self._cut(spelled), self._cut(SPACE + spelled)

    def _cut(self, text: str) -> list[str]:
        pieces = []
        start = 0
        for border in _BORDER.finditer(text):
            at = border.start()
            if text[at - 1 : at + 1] not in self._joined:
                pieces.append(text[start:at])
                start = at
        return [*pieces, text[start:]]


def open_base(directory: Path) -> Bpe:
    """The tokenizer of a directory as BPE that can be continued.

    Raises:
        TokenizerError: its `tokenizer.json` is another kind of tokenizer.
    """
    file = directory / "tokenizer.json"
    tree: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    kind = ByteLevelBpe if "ByteLevel" in _types(tree.get("pre_tokenizer")) else SentencePieceBpe
    if found := _why_not(tree, kind):
        raise TokenizerError(
            f"{file} is {found}; continued BPE needs byte-level BPE (GPT-2, Llama 3, Qwen, SmolLM) or SentencePiece "
            "BPE with byte fallback (Gemma, Llama 2), where merges are ranked and decoding is exact. Set "
            "tokenizer.num_new_tokens to 0 and tokenizer.required_terms to [] to keep this tokenizer as it is, or "
            "choose another model.base_model."
        )
    return kind(tree, file)


def _why_not(tree: dict[str, Any], kind: type[Bpe]) -> str | None:
    """What makes a tokenizer one that cannot be continued; None where nothing does."""
    model = tree["model"]
    decoder = _types(tree.get("decoder"))
    if model.get("type") != "BPE":
        return f"a {model.get('type')} model"
    if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix") or model.get("dropout"):
        return "BPE with subword marks or dropout"
    if kind is ByteLevelBpe:
        return None if "ByteLevel" in decoder else "byte-level BPE without the decoder that gives the bytes back"
    if not (model.get("byte_fallback") and "ByteFallback" in decoder):
        return "BPE over characters without byte fallback, which loses characters that it does not have"
    before_merges = json.dumps([tree.get("normalizer"), tree.get("pre_tokenizer")], ensure_ascii=False)
    return None if SPACE in before_merges else f"BPE with byte fallback that does not write a space as {SPACE}"


def byte_alphabet() -> dict[str, int]:
    """Character that stands for a byte in a byte-level vocabulary -> the byte.

    Printable Latin-1 stands for itself, every other byte for the next character from U+0100 on.

    Source: `bytes_to_unicode` of GPT-2's encoder, which every byte-level BPE since has kept.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


def is_aligned(data: bytes) -> bool:
    """Whether bytes are whole UTF-8 characters, or a fragment of one character.

    A token that holds a character and a part of the next one decodes to garbage wherever generation stops after it.
    A fragment of one is needed on the way to the character: Hangul has three bytes, and a merge joins two.
    """
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        length = _character_bytes(data[0])
        is_tail = all(0x80 <= byte < 0xC0 for byte in data[1:])
        return is_tail and ((length == 0 and len(data) < 4) or len(data) < length)
    return True


def _character_bytes(lead: int) -> int:
    """Bytes of the character that starts with `lead`; 0 for a continuation byte."""
    if 0x80 <= lead < 0xC0:
        return 0
    return 1 if lead < 0x80 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4


def _types(component: Any) -> set[str]:
    """Types in a component of `tokenizer.json`, through its sequences."""
    if isinstance(component, dict):
        return {str(component.get("type"))}.union(*(_types(value) for value in component.values()))
    if isinstance(component, list):
        return set().union(*(_types(value) for value in component))
    return set()
