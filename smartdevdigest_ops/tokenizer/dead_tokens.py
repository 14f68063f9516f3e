"""Which new tokens a corpus uses: a token that nothing is encoded with is a row that is never trained.

BPE joins two tokens at a time, so a long token brings the steps to it along: 쿠버네티 on the way to 쿠버네티스. Where a
step is never left over, it is produced nowhere, and still no encoding would reach the long token without it. So a new
token is dead when no text of the corpus is encoded with it and it is a step to no token that one is. Dead tokens can
be taken away without changing any encoding of the corpus, and are.
"""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from smartdevdigest_ops.tokenizer.merges import MergeTable
from smartdevdigest_ops.tokenizer.write import extended_tree


@dataclass(frozen=True)
class TokenUse:
    """The new tokens of a tokenizer by what they are for, as its vocabulary writes them."""

    produced: frozenset[str]
    """In the encoding of some pre-token of the corpus."""
    required: frozenset[str]
    """Not produced, but asked for, or a step to what was asked for."""
    steps: frozenset[str]
    """Neither, but merged into one that is produced."""
    dead: frozenset[str]
    """None of these."""


def token_use(
    tree: dict[str, Any], new_tokens: Iterable[str], pre_tokens: Iterable[str], required: Iterable[str] = ()
) -> TokenUse:
    """What the tokenizer of a `tokenizer.json` does with its new tokens.

    Args:
        tree: the file's content.
        new_tokens: as its vocabulary writes them.
        pre_tokens: all different ones of the corpus.
        required: tokens that may stay without being produced.
    """
    from tokenizers import Tokenizer

    model = Tokenizer.from_str(json.dumps(tree)).model
    in_corpus: set[str] = set()
    for pre_token in tqdm(pre_tokens, desc="looking for dead tokens", unit="word", mininterval=1.0):
        in_corpus.update(token.value for token in model.tokenize(pre_token))
    new = frozenset(new_tokens)
    parts = _parts(tree, new)
    produced = new & in_corpus
    asked_for = _with_steps(new & frozenset(required), parts) - produced
    steps = _with_steps(produced, parts) - produced - asked_for
    return TokenUse(produced, asked_for, steps, new - produced - asked_for - steps)


def without_dead_tokens(table: MergeTable, pre_tokens: Iterable[str]) -> MergeTable:
    """The table without the merges that lead to dead tokens; ids stay without a gap."""
    dead = token_use(extended_tree(table), table.symbols.values(), pre_tokens).dead
    kept = MergeTable(table.base)
    moved: dict[str, int] = {}
    for pair in table.merges:
        left, right = map(table.symbol, pair)
        if left + right not in dead:
            moved[left + right] = kept.add(moved.get(left, pair[0]), moved.get(right, pair[1]))
    return kept


def _parts(tree: dict[str, Any], new: frozenset[str]) -> dict[str, set[str]]:
    """New token -> the new tokens that are merged into it."""
    parts: defaultdict[str, set[str]] = defaultdict(set)
    for merge in tree["model"]["merges"]:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        if left + right in new:
            parts[left + right] |= {left, right} & new
    return parts


def _with_steps(tokens: frozenset[str], parts: dict[str, set[str]]) -> frozenset[str]:
    found: set[str] = set()
    waiting = list(tokens)
    while waiting:
        token = waiting.pop()
        if token not in found:
            found.add(token)
            waiting.extend(parts.get(token, ()))
    return frozenset(found)
