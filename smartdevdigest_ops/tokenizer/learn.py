"""Continued BPE: the merges that shorten a corpus most, learned on top of the base's segmentation.

Segment each different word of the corpus with the base; then again and again merge the pair of neighbours that has
the most votes. An inverted index says which words hold a pair, so a merge touches only those and in them only the
pair's neighbours; a max-heap with lazy invalidation finds the next pair: a popped number of votes that is no longer
true is pushed back corrected.

Source: Sennrich et al. 2016 (arXiv 1508.07909), section 3.2, for BPE; Csaki et al. 2023, "Efficiently Adapting
Pretrained Language Models to New Languages" (arXiv 2311.05741), for why a base's vocabulary is extended.
"""

import heapq
import itertools
from collections import defaultdict
from collections.abc import Mapping

from tqdm import tqdm

from smartdevdigest_ops.tokenizer.base import Bpe
from smartdevdigest_ops.tokenizer.merges import MergeTable
from smartdevdigest_ops.tokenizer.votes import Segment

Pair = tuple[int, int]


class Words:
    """The different words of a corpus as ids, and the votes of each pair of neighbours."""

    def __init__(self, segments: Mapping[Segment, float]) -> None:
        self._ids = [list(ids) for ids in segments]
        self._votes = list(segments.values())
        self.pair_votes: defaultdict[Pair, float] = defaultdict(float)
        # Words that hold a pair, or did before another merge took it: looking is cheaper than keeping the lists true.
        self._words_with: defaultdict[Pair, list[int]] = defaultdict(list)
        for word, ids in enumerate(self._ids):
            for pair in itertools.pairwise(ids):
                self._add(pair, word)

    def _add(self, pair: Pair, word: int) -> None:
        self.pair_votes[pair] += self._votes[word]
        words = self._words_with[pair]
        if not words or words[-1] != word:
            words.append(word)

    def merge(self, pair: Pair, result: int) -> set[Pair]:
        """Join `pair` into `result` in every word that has it, from the left; returns the pairs that `result` makes.

        These are the only pairs that gain votes: every other can only lose some from here on.
        """
        created: set[Pair] = set()
        for word in self._words_with.pop(pair):
            created.update(self._merge_in(word, pair, result))
        del self.pair_votes[pair]
        return created

    def _merge_in(self, word: int, pair: Pair, result: int) -> set[Pair]:
        left, right = pair
        ids = self._ids[word]
        created: set[Pair] = set()
        at = -1
        while left in ids[at + 1 : -1]:
            at = ids.index(left, at + 1)
            if ids[at + 1] != right:
                continue
            ids[at : at + 2] = [result]
            if at > 0:
                self.pair_votes[ids[at - 1], left] -= self._votes[word]
                self._add((ids[at - 1], result), word)
                created.add((ids[at - 1], result))
            if at + 1 < len(ids):
                self.pair_votes[right, ids[at + 1]] -= self._votes[word]
                self._add((result, ids[at + 1]), word)
                created.add((result, ids[at + 1]))
        return created


def learn_merges(
    base: Bpe,
    segments: Mapping[Segment, float],
    *,
    num_new_tokens: int,
    min_votes: float,
    max_token_characters: int,
) -> MergeTable:
    """At most `num_new_tokens` merges; fewer where no allowed pair has `min_votes` any more.

    Refused are results that are a token already, that are no word of at most `max_token_characters` (`is_word`), or
    that the base cannot join. Pairs with equal votes go by their ids, lower first, so that the same corpus always
    gives the same tokenizer.

    Args:
        base: whose segmentation is joined.
        segments: ids of a word -> its votes (`votes.Votes.segments`).
        num_new_tokens: merges wanted.
        min_votes: what a pair needs.
        max_token_characters: longest token, its leading space counted.
    """
    words = Words(segments)
    table = MergeTable(base)
    heap = [(-votes, *pair) for pair, votes in words.pair_votes.items() if votes >= min_votes]
    heapq.heapify(heap)
    with tqdm(total=num_new_tokens, desc="learning merges", unit="merge", mininterval=1.0) as progress:
        while heap and len(table.symbols) < num_new_tokens:
            negative_votes, left, right = heapq.heappop(heap)
            pair = (left, right)
            votes = words.pair_votes.get(pair, 0.0)
            if votes != -negative_votes:
                if min_votes <= votes < -negative_votes:
                    heapq.heappush(heap, (-votes, left, right))
                continue
            if not _is_allowed(table, pair, max_token_characters):
                continue
            for created in words.merge(pair, table.add(left, right)):
                if words.pair_votes[created] >= min_votes:
                    heapq.heappush(heap, (-words.pair_votes[created], *created))
            progress.update()
    return table


def is_word(text: str, max_characters: int) -> bool:
    """Whether a new token may be this text: visible characters, at most one space before them, and no digit.

    Numbers and indentation therefore keep the tokens that the base gives them. A fragment of a character counts as
    one character.
    """
    visible = text.removeprefix(" ")
    return 0 < len(text) <= max_characters and not any(
        character.isspace() or character.isdigit() for character in visible
    )


def _is_allowed(table: MergeTable, pair: Pair, max_token_characters: int) -> bool:
    left, right = map(table.symbol, pair)
    symbol = left + right
    text = table.data(symbol).decode("utf-8", "replace")
    return not table.is_known(symbol) and is_word(text, max_token_characters) and table.base.can_join(left, right)
