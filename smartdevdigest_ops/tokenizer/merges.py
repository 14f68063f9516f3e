"""Merges on top of a base BPE, and the tokens they make.

Every new merge ranks after all of the base's and never results in a token that the base has, so the base's merges
finish first and a new one only ever joins what the base had split: replacing each new token by its `base_ids` gives
the base's encoding back. That is what keeps rows initialised from `base_ids` meaningful, and it is tested.

Nor does a base that looks whole pre-tokens up before it merges (`ignore_merges`, Llama 3) need anything of its own. A
new token is a run of tokens of some word, whose outer borders no merge crossed; the merges within them are those that
the run standing alone gets, in the same order, as always the lowest rank is merged first. So alone it segments as it
does in the word, and looking it up gives what merging gives: a|bc|d with ab|c alone is no segmentation that BPE makes.
"""

import itertools
from dataclasses import dataclass, field
from typing import Any

from smartdevdigest_ops.tokenizer.base import Bpe, TokenizerError


@dataclass
class MergeTable:
    """The merges learned so far, in rank order."""

    base: Bpe
    merges: list[tuple[int, int]] = field(default_factory=list)
    symbols: dict[int, str] = field(default_factory=dict)
    """New id -> its string as the base's vocabulary writes it."""

    def __post_init__(self) -> None:
        self._ranks: dict[tuple[int, int], tuple[int, int]] = {}
        self._ids: dict[str, int] = {}
        self._base_ids: dict[int, list[int]] = {}

    def symbol(self, token_id: int) -> str:
        """String of a base or new token as the base's vocabulary writes it."""
        return self.symbols.get(token_id) or self.base.symbols[token_id]

    def data(self, symbol: str) -> bytes:
        """The bytes that a symbol stands for."""
        return self.base.data(symbol)

    def is_in_base(self, symbol: str) -> bool:
        """Whether the base has this token; a merge into it would change how the base encodes."""
        return symbol in self.base.vocabulary or symbol in self.base.added

    def is_known(self, symbol: str) -> bool:
        """Whether base or new tokens have it."""
        return symbol in self._ids or self.is_in_base(symbol)

    def add(self, left: int, right: int) -> int:
        """Append the merge of two tokens, and the token it makes unless another merge made it; returns its id."""
        symbol = self.symbol(left) + self.symbol(right)
        token_id = self._ids.get(symbol)
        if token_id is None:
            token_id = self.base.first_new_id + len(self.symbols)
            self._ids[symbol] = token_id
            self.symbols[token_id] = symbol
            self._base_ids[token_id] = self.base_ids(left) + self.base_ids(right)
        self._ranks[left, right] = (len(self.merges), token_id)
        self.merges.append((left, right))
        return token_id

    def base_ids(self, token_id: int) -> list[int]:
        """The base tokens that a token stands for: itself, or what its merges joined."""
        return self._base_ids.get(token_id, [token_id])

    def segment(self, pre_token: str) -> list[int]:
        """Ids of a pre-token: the base's, then new merges by rank."""
        ids = self.base.segment(pre_token)
        while len(ids) > 1:
            ranked = [(self._ranks[pair], i) for i, pair in enumerate(itertools.pairwise(ids)) if pair in self._ranks]
            if not ranked:
                break
            (_, token_id), i = min(ranked)
            ids[i : i + 2] = [token_id]
        return ids

    def new_tokens(self) -> list[dict[str, Any]]:
        """`new_tokens.json`: {"id", "token", "base_ids"} in id order; `token` is the string in `tokenizer.json`."""
        return [
            {"id": token_id, "token": symbol, "base_ids": self.base_ids(token_id)}
            for token_id, symbol in self.symbols.items()
        ]


def add_required_terms(table: MergeTable, terms: tuple[str, ...]) -> list[str]:
    """Append the merges that make each term one token, alone and after a space; returns the forms that needed any.

    A later merge ranks below all earlier ones, so a term that is one token stays one.

    Raises:
        TokenizerError: a term can never be one token under this base.
    """
    extended = []
    for term in terms:
        alone, after_space = _pre_tokens_of(table, term)
        # A pre-tokenizer that splits the space off leaves the term as it is alone.
        forms = [alone, after_space[0]] if len(after_space) == 1 else [alone]
        for form in forms:
            if _join(table, form, term):
                extended.append(form)
    return extended


def _pre_tokens_of(table: MergeTable, term: str) -> tuple[str, list[str]]:
    """The pre-token that a term is, and its pre-tokens after a space."""
    if not term or term != term.strip():
        raise TokenizerError(
            f"tokenizer.required_terms holds {term!r}: a term starts and ends with a visible character."
        )
    pieces, after_space = table.base.term_pieces(term)
    if len(pieces) != 1:
        shown = " | ".join(table.data(piece).decode("utf-8", "replace") for piece in pieces)
        raise TokenizerError(
            f"tokenizer.required_terms holds {term!r}, which the base tokenizer splits before any merge ({shown}); "
            "merges never cross these borders, so it cannot be one token. Remove it, or require its parts."
        )
    return pieces[0], after_space


def _join(table: MergeTable, pre_token: str, term: str) -> bool:
    """Merge a pre-token into one token, left to right, whole characters first."""
    ids = table.segment(pre_token)
    if len(ids) == 1:
        return False
    while len(ids) > 1:
        pairs = list(itertools.pairwise(ids))
        results = [table.symbol(left) + table.symbol(right) for left, right in pairs]
        free = [i for i, result in enumerate(results) if not table.is_in_base(result)]
        if not free:
            raise TokenizerError(
                f"tokenizer.required_terms holds {term!r}, which the base has tokens for that its own merges do not "
                "reach; making it one token would change how the base encodes. Remove it."
            )
        joinable = (i for i in free if table.base.can_join(*map(table.symbol, pairs[i])))
        at = next(joinable, free[0])
        table.add(*pairs[at])
        ids = table.segment(pre_token)
    return True
