"""Which merges continued BPE learns, by hand and against a naive learner."""

from collections import Counter

import pytest
from tokenizer_samples import write_base

from smartdevdigest_ops.tokenizer.base import BaseBpe
from smartdevdigest_ops.tokenizer.learn import count_pre_tokens, learn_merges
from smartdevdigest_ops.tokenizer.merges import MergeTable, is_aligned


@pytest.fixture
def base(tmp_path) -> BaseBpe:
    return BaseBpe(write_base(tmp_path / "base", [("t", "h"), ("th", "e")]))


def learned(
    base: BaseBpe, counts: dict[str, int], n: int = 99, min_frequency: int = 2, characters: int = 24
) -> list[str]:
    table = learn_merges(
        base, Counter(counts), num_new_tokens=n, min_frequency=min_frequency, max_token_characters=characters
    )
    return list(table.symbols.values())


def test_the_most_frequent_pair_is_merged_first_and_its_result_merges_on(base):
    # pairs: lo 9, ow 9, we 3, er 3 -> lo and ow tie, l < o by id; then low 9; then e+r and low+e tie, e < low.
    assert learned(base, {"low": 6, "lower": 3}) == ["lo", "low", "er", "lower"]


def test_merging_stops_at_the_number_asked_for(base):
    assert learned(base, {"low": 6, "lower": 3}, n=1) == ["lo"]


def test_pairs_below_the_minimum_frequency_are_left(base):
    assert learned(base, {"low": 6, "lower": 3}, min_frequency=4) == ["lo", "low"]


def test_the_base_segmentation_is_what_is_joined(base):
    # The base gives [the, n]; its parts t, h, e are never merged in another way.
    assert learned(base, {"then": 5}) == ["then"]


def test_a_result_that_the_base_has_already_is_refused(tmp_path):
    # "ab" is in the base, but its own merges never reach it: they give [a, bc] for "abc" and [a, b] for "ab".
    base = BaseBpe(write_base(tmp_path / "base", [("b", "c")]))
    base.vocabulary["ab"] = base.first_new_id
    assert learned(base, {"ab": 50, "xy": 10}) == ["xy"]


def test_longer_tokens_than_allowed_are_refused_and_a_leading_space_counts(base):
    # All pairs tie; lo has the lowest left id, then the space in Ġ+lo. Ġlow is 4 characters.
    assert learned(base, {"Ġlow": 5}, characters=3) == ["lo", "Ġlo"]
    assert learned(base, {"Ġlow": 5}, characters=4) == ["lo", "Ġlo", "Ġlow"]


def test_no_token_holds_a_part_of_a_second_character(base):
    counts = count_pre_tokens(base, ["쿠버네티스 컨테이너 쿠버네티스는 컨테이너의 클러스터 네트워크"] * 9)
    table = learn_merges(base, counts, num_new_tokens=200, min_frequency=2, max_token_characters=24)
    assert " 컨테이너" in {table.data(symbol).decode("utf-8", "replace") for symbol in table.symbols.values()}
    assert [symbol for symbol in table.symbols.values() if not is_aligned(table.data(symbol))] == []


def test_repeated_characters_are_counted_and_joined_from_the_left(base):
    # "aaaa" has 3 pairs a+a; joined it is [aa, aa], one pair; nothing of a+a is left.
    assert learned(base, {"aaaa": 2}) == ["aa", "aaaa"]
    # "aaaaa" is [aa, aa, a]: both pairs occur twice, and a has a lower id than aa.
    assert learned(base, {"aaaaa": 2}) == ["aa", "aaa", "aaaaa"]


def test_the_order_of_the_documents_does_not_matter(base, sample_documents):
    texts = [document.content for document in sample_documents[:20]]
    tables = [
        learn_merges(base, count_pre_tokens(base, order), num_new_tokens=80, min_frequency=2, max_token_characters=24)
        for order in (texts, texts[::-1])
    ]
    assert tables[0].merges == tables[1].merges
    assert tables[0].symbols == tables[1].symbols


def naive_merges(base: BaseBpe, counts: Counter[str], n: int, min_frequency: int, characters: int) -> MergeTable:
    """The same rules with every pair counted again for every merge."""
    table = MergeTable(base)
    words = {word: base.segment(word) for word in counts}
    refused: set[tuple[int, int]] = set()
    while len(table.symbols) < n:
        pairs: Counter[tuple[int, int]] = Counter()
        for word, ids in words.items():
            for i in range(len(ids) - 1):
                pairs[ids[i], ids[i + 1]] += counts[word]
        allowed = [(-count, pair) for pair, count in pairs.items() if count >= min_frequency and pair not in refused]
        if not allowed:
            break
        pair = min(allowed)[1]
        symbol = table.symbol(pair[0]) + table.symbol(pair[1])
        data = table.data(symbol)
        if table.is_known(symbol) or not is_aligned(data) or len(data.decode("utf-8", "replace")) > characters:
            refused.add(pair)
            continue
        result = table.add(*pair)
        for ids in words.values():
            i = 0
            while i < len(ids) - 1:
                if (ids[i], ids[i + 1]) == pair:
                    ids[i : i + 2] = [result]
                i += 1
    return table


@pytest.mark.parametrize("min_frequency", [2, 5])
def test_the_incremental_learner_agrees_with_the_naive_one(tiny_base_model, sample_documents, min_frequency):
    base = BaseBpe(tiny_base_model)
    counts = count_pre_tokens(base, [document.content[:600] for document in sample_documents[::3]])
    fast = learn_merges(base, counts, num_new_tokens=120, min_frequency=min_frequency, max_token_characters=6)
    slow = naive_merges(base, counts, 120, min_frequency, 6)
    assert fast.merges == slow.merges
    assert len(fast.symbols) > 40
