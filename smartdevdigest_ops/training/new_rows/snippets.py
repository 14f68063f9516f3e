"""Snippets: short windows of text in which the new tokens occur often enough to learn their rows from.

Text as it comes shows the frequent tokens thousands of times before the rare ones once. Half of the snippets are
therefore drawn for what they show (greedily, by new tokens that have been seen least), the other half at random, so
that old tokens, and text without new ones, keep their share: there the new rows must stay silent.
"""

import heapq
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from smartdevdigest_ops.training.bits_per_byte import encode_documents

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Expansions = Mapping[int, Sequence[int]]
"""New token id -> ids of the base tokens that it replaces."""

_DOCUMENTS_PER_CALL = 64
# Candidates for each snippet that is drawn: more cover rare tokens better, and cost only tokenizing.
_CANDIDATES = 8
# A document's first windows stand for it: snippets come from many documents.
_WINDOWS_PER_DOCUMENT = 16


def draw_snippets(
    tokenizer: "PreTrainedTokenizerBase",
    texts: Sequence[str],
    expansions: Expansions,
    *,
    max_base_tokens: int,
    snippet_tokens: int,
    occurrences: int,
    seed: int,
) -> list[list[int]]:
    """Token ids of at most `max_base_tokens // snippet_tokens` snippets, in an order drawn from `seed`.

    Each holds at most `snippet_tokens` tokens once its new tokens are taken apart. Tokens seen `occurrences` times
    already do not count when snippets are drawn for what they show.
    """
    num_snippets = max(1, max_base_tokens // snippet_tokens)
    drawn = random.Random(seed)
    order = list(range(len(texts)))
    drawn.shuffle(order)
    candidates: list[list[int]] = []
    for start in range(0, len(order), _DOCUMENTS_PER_CALL):
        if len(candidates) >= _CANDIDATES * num_snippets:
            break
        batch = [texts[index] for index in order[start : start + _DOCUMENTS_PER_CALL]]
        for token_ids in encode_documents(tokenizer, batch):
            candidates += _windows(token_ids, expansions, snippet_tokens)[:_WINDOWS_PER_DOCUMENT]
    drawn.shuffle(candidates)
    num_random = min(len(candidates), num_snippets) // 2
    chosen, rest = candidates[:num_random], candidates[num_random:]
    counts = Counter(token_id for snippet in chosen for token_id in snippet if token_id in expansions)
    chosen = chosen + _most_telling(rest, num_snippets - num_random, expansions, counts, occurrences)
    drawn.shuffle(chosen)
    return chosen


def expand(token_ids: Sequence[int], expansions: Expansions) -> list[int]:
    """The same text in base tokens."""
    return [base_id for token_id in token_ids for base_id in expansions.get(token_id, (token_id,))]


def _windows(token_ids: Sequence[int], expansions: Expansions, snippet_tokens: int) -> list[list[int]]:
    """`token_ids` cut into pieces of at most `snippet_tokens` base tokens, between tokens; no empty one."""
    windows: list[list[int]] = []
    length = snippet_tokens
    for token_id in token_ids:
        width = len(expansions.get(token_id, (token_id,)))
        if length + width > snippet_tokens:
            windows.append([])
            length = 0
        windows[-1].append(token_id)
        length += width
    return windows


def _most_telling(
    snippets: Sequence[list[int]], num_snippets: int, expansions: Expansions, counts: Counter[int], occurrences: int
) -> list[list[int]]:
    """Greedily the snippets whose new tokens have been seen least; `counts` is what was seen, and is kept up."""

    def gain(snippet: Sequence[int]) -> float:
        shown = {token_id for token_id in snippet if token_id in expansions}
        return sum(1 / (1 + counts[token_id]) for token_id in sorted(shown) if counts[token_id] < occurrences)

    # Gains only fall as tokens are seen, so a popped snippet whose gain still holds is the best (lazy greedy).
    heap = [(-gain(snippet), index) for index, snippet in enumerate(snippets)]
    heapq.heapify(heap)
    chosen: list[list[int]] = []
    while heap and len(chosen) < num_snippets:
        negative_gain, index = heapq.heappop(heap)
        now = gain(snippets[index])
        if now < -negative_gain:
            heapq.heappush(heap, (-now, index))
            continue
        if now == 0:
            break
        chosen.append(snippets[index])
        counts.update(token_id for token_id in snippets[index] if token_id in expansions)
    return chosen
