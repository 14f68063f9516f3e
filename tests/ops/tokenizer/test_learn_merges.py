"""Which merges continued BPE learns, by hand and against a naive learner."""

from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_samples import segments_in, segments_of, write_base

from smartdevdigest_ops.tokenizer.base import Bpe, is_aligned, open_base
from smartdevdigest_ops.tokenizer.learn import is_word, learn_merges
from smartdevdigest_ops.tokenizer.merges import MergeTable


@pytest.fixture
def base(tmp_path) -> Bpe:
    return open_base(write_base(tmp_path / "base", [("t", "h"), ("th", "e")]))


@pytest.fixture(scope="module")
def abc_base(tmp_path_factory) -> Bpe:
    return open_base(write_base(tmp_path_factory.mktemp("abc") / "base", []))


def learned(
    base: Bpe, counts: dict[str, float], n: int = 99, min_frequency: float = 2, characters: int = 24
) -> list[str]:
    table = learn_merges(
        base, segments_of(base, counts), num_new_tokens=n, min_votes=min_frequency, max_token_characters=characters
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
    base = open_base(write_base(tmp_path / "base", [("b", "c")]))
    base.vocabulary["ab"] = base.first_new_id
    assert learned(base, {"ab": 50, "xy": 10}) == ["xy"]


def test_longer_tokens_than_allowed_are_refused_and_a_leading_space_counts(base):
    # All pairs tie; lo has the lowest left id, then the space in Ġ+lo. Ġlow is 4 characters.
    assert learned(base, {"Ġlow": 5}, characters=3) == ["lo", "Ġlo"]
    assert learned(base, {"Ġlow": 5}, characters=4) == ["lo", "Ġlo", "Ġlow"]


def test_no_token_holds_a_part_of_a_second_character(base):
    segments = segments_in(base, ["쿠버네티스 컨테이너 쿠버네티스는 컨테이너의 클러스터 네트워크"] * 9)
    table = learn_merges(base, segments, num_new_tokens=200, min_votes=2, max_token_characters=24)
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
        learn_merges(base, segments_in(base, order), num_new_tokens=80, min_votes=2, max_token_characters=24)
        for order in (texts, texts[::-1])
    ]
    assert tables[0].merges == tables[1].merges
    assert tables[0].symbols == tables[1].symbols


def test_votes_that_are_no_whole_numbers_come_out_exact(base):
    # 0.25 x 3 words; the pair lo has 0.75 votes until it is merged, and none after.
    assert learned(base, {"low": 0.25, "lot": 0.25, "lox": 0.25}, min_frequency=0.75) == ["lo"]
    assert learned(base, {"low": 0.25, "lot": 0.25, "lox": 0.25}, min_frequency=0.76) == []


@pytest.mark.parametrize("text", [" the", "the", "컨테이너", "({", "—", "\ufffd"])
def test_a_word_may_be_a_token(text):
    assert is_word(text, 24)


@pytest.mark.parametrize("text", ["", "  the", "\tdef", "    ", "{\n", "\n\n", "v1", "2026", " 42", "²³", "a" * 25])
def test_numbers_indentation_and_line_ends_are_no_words(text):
    assert not is_word(text, 24)


def test_numbers_and_indentation_are_never_joined_however_often_they_come(base):
    # This base's pre-tokenizer keeps digits apart; the learner does so where one does not.
    assert learned(base, {"2026": 900, "ĠĠĠĠ": 900, "ĉreturn": 5, "ĊĊ": 900}) == ["et", "rn", "ret", "urn", "return"]


def naive_merges(
    base: Bpe, segments: Mapping[tuple[int, ...], float], n: int, min_votes: float, characters: int
) -> MergeTable:
    """The same rules with every pair counted again for every merge."""
    table = MergeTable(base)
    words = [(list(ids), votes) for ids, votes in segments.items()]
    refused: set[tuple[int, int]] = set()
    while len(table.symbols) < n:
        pairs: Counter[tuple[int, int]] = Counter()
        for ids, votes in words:
            for i in range(len(ids) - 1):
                pairs[ids[i], ids[i + 1]] += votes
        allowed = [(-votes, pair) for pair, votes in pairs.items() if votes >= min_votes and pair not in refused]
        if not allowed:
            break
        pair = min(allowed)[1]
        symbol = table.symbol(pair[0]) + table.symbol(pair[1])
        data = table.data(symbol)
        if table.is_known(symbol) or not is_aligned(data) or not is_word(data.decode("utf-8", "replace"), characters):
            refused.add(pair)
            continue
        result = table.add(*pair)
        for ids, _ in words:
            i = 0
            while i < len(ids) - 1:
                if (ids[i], ids[i + 1]) == pair:
                    ids[i : i + 2] = [result]
                i += 1
    return table


@pytest.mark.parametrize("min_votes", [2, 5])
def test_the_incremental_learner_agrees_with_the_naive_one(tiny_base_model, sample_documents, min_votes):
    base = open_base(tiny_base_model)
    segments = segments_in(base, [document.content[:600] for document in sample_documents[::3]])
    fast = learn_merges(base, segments, num_new_tokens=120, min_votes=min_votes, max_token_characters=6)
    slow = naive_merges(base, segments, 120, min_votes, 6)
    assert fast.merges == slow.merges
    assert len(fast.symbols) > 40


@settings(max_examples=60, deadline=None)
@given(words=st.dictionaries(st.text("abc", min_size=2, max_size=9), st.integers(1, 9), min_size=1, max_size=8))
def test_the_incremental_learner_agrees_on_words_that_repeat_themselves(abc_base, words):
    segments = segments_of(abc_base, words)
    fast = learn_merges(abc_base, segments, num_new_tokens=30, min_votes=1, max_token_characters=9)
    assert fast.merges == naive_merges(abc_base, segments, 30, 1, 9).merges
