"""Who votes for merges: how much an occurrence of a pre-token counts, by kind of text and by document frequency.

A merge is chosen by the votes of the words that hold its pair. An occurrence in the kind of text with the largest
weight is one vote, in another kind less. A pre-token of fewer than `min_documents` documents has none: what is one
page's identifier is no word of the field.

Measured (`benchmarks/tokenizer_sizes.py --compare`): 32 MB of Korean and English documentation, 2,000 merges on
SmolLM2's tokenizer, tokens of held-out text.

| votes | ko | en | code | words that vote |
|---|---|---|---|---|
| balance 0 | -64.8 % | -3.1 % | -10.3 % | 36,586 |
| balance 0.5 (the default) | -64.5 % | -3.2 % | -10.7 % | 36,586 |
| balance 1 | -64.2 % | -3.2 % | -10.9 % | 36,586 |
| balance 0.5, min_documents 1 instead of 3 | -64.6 % | -3.1 % | -10.6 % | 148,092 |
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from tqdm import tqdm

from smartdevdigest_ops.tokenizer.base import Bpe
from smartdevdigest_ops.tokenizer.pre_tokens import PreTokenCounts

Segment = tuple[int, ...]
Cut = Callable[[str, Segment], list[Segment]]
"""Cuts a pre-token, given with its base ids, into the parts that merges may join."""

_STEPS = 1024
"""Votes are whole multiples of 1/1024: in float64 their sums are exact, and so the same in any order."""


@dataclass(frozen=True)
class Votes:
    """The voting words of a corpus as base ids, and how many votes each has."""

    segments: dict[Segment, float]
    """Ids of a word (or a part of one that merges may join), two or more -> votes."""
    num_tokens: float
    """Tokens of the voting words in the base's segmentation, each counted with its votes: a merge with v votes saves
    v / num_tokens of them."""
    weights: dict[str, float]
    """Kind of text -> votes of one occurrence."""


def collect_votes(
    base: Bpe,
    counts: PreTokenCounts,
    *,
    min_documents: int = 1,
    weights: Mapping[str, float] | None = None,
    balance: float = 0.0,
    cut: Cut | None = None,
) -> Votes:
    """Segment the pre-tokens of at least `min_documents` documents with the base, and weigh their occurrences.

    Args:
        base: whose segmentation the merges will join.
        counts: of the corpus.
        min_documents: in how many documents a pre-token stands that votes.
        weights: votes of an occurrence by kind of text, 1 where a kind is left out; None: by `balance`.
        balance: see `balanced_weights`.
        cut: where merges may not join inside a word; None: nowhere.
    """
    voting = sorted(word for word, documents in counts.num_documents.items() if documents >= min_documents)
    segments = {
        word: tuple(base.segment(word)) for word in tqdm(voting, desc="segmenting", unit="word", mininterval=1.0)
    }
    sizes = {
        kind: sum(count * len(segments[word]) for word, count in occurrences.items() if word in segments)
        for kind, occurrences in counts.by_kind.items()
    }
    scaled = balanced_weights(sizes, balance) if weights is None else _scaled(weights, sizes)
    votes = dict.fromkeys(voting, 0.0)
    for kind, occurrences in counts.by_kind.items():
        for word, count in occurrences.items():
            if word in votes:
                votes[word] += round(count * scaled[kind] * _STEPS) / _STEPS
    num_tokens = sum(vote * len(segments[word]) for word, vote in votes.items())
    return Votes(_by_segment(votes, segments, cut), num_tokens, scaled)


def balanced_weights(sizes: Mapping[str, int], balance: float) -> dict[str, float]:
    """Votes of an occurrence by kind of text, for kinds of these sizes in tokens; the largest is 1.

    A kind with the share s of all tokens gets a share in proportion to s ** (1 - balance): 0 leaves the shares as
    they are, 1 makes them equal.

    Source: exponentially smoothed sampling of languages, Conneau et al. 2020 (arXiv 1911.02116), section 3.1, where
    alpha is 1 - balance.
    """
    smallest = min((size for size in sizes.values() if size), default=1)
    return {kind: (smallest / size) ** balance if size else 1.0 for kind, size in sizes.items()}


def _scaled(weights: Mapping[str, float], kinds: Iterable[str]) -> dict[str, float]:
    given = {kind: weights.get(kind, 1.0) for kind in kinds}
    largest = max(given.values(), default=1.0)
    return {kind: weight / largest for kind, weight in given.items()}


def _by_segment(votes: Mapping[str, float], segments: Mapping[str, Segment], cut: Cut | None) -> dict[Segment, float]:
    """Votes of what merges can join, in a fixed order; words of one token have nothing to join."""
    found: dict[Segment, float] = {}
    for word, vote in votes.items():
        ids = segments[word]
        for part in (ids,) if cut is None else cut(word, ids):
            if len(part) > 1 and vote:
                found[part] = found.get(part, 0.0) + vote
    return found
