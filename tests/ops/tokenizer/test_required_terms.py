"""Alignment of tokens to characters, and terms made one token each."""

import pytest
from tokenizer_samples import write_base
from tokenizers import pre_tokenizers

from smartdevdigest_ops.tokenizer.base import TokenizerError, byte_alphabet, is_aligned, open_base
from smartdevdigest_ops.tokenizer.merges import MergeTable, add_required_terms


@pytest.fixture
def table(tmp_path) -> MergeTable:
    return MergeTable(open_base(write_base(tmp_path / "base", [("i", "n"), ("Ġ", "ì")])))


def test_the_byte_alphabet_is_that_of_the_tokenizers_library():
    alphabet = byte_alphabet()
    assert set(alphabet) == set(pre_tokenizers.ByteLevel.alphabet())
    assert sorted(alphabet.values()) == list(range(256))
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    text = "".join(chr(c) for c in [*range(256), 0x3131, 0xAC00, 0x10FFFD])
    assert bytes(alphabet[c] for c in level.pre_tokenize_str(text)[0][0]) == text.encode()


@pytest.mark.parametrize(
    ("data", "aligned"),
    [
        ("컨테이너".encode(), True),
        (" 컨".encode(), True),
        ("컨".encode()[:2], True),
        ("컨".encode()[1:], True),
        ("컨".encode()[:1], True),
        ("😀".encode()[:3], True),
        ("컨테".encode()[:4], False),
        ("컨테".encode()[2:], False),
        (" 컨".encode()[:2], False),
        ("컨".encode()[:1] * 2, False),
        (b"\x80\x80\x80\x80", False),
    ],
)
def test_a_token_is_whole_characters_or_a_fragment_of_one(data, aligned):
    assert is_aligned(data) is aligned


def test_each_term_is_one_token_alone_and_after_a_space(table):
    terms = ("orchestration", "컨테이너", "컨테이너화", "import", "쿠버네티스")
    add_required_terms(table, terms)
    for term in terms:
        for text in (term, f" {term}"):
            (pre_token,) = table.base.pre_tokens(text)
            assert len(table.segment(pre_token)) == 1, text


def test_intermediate_tokens_of_a_korean_term_hold_no_half_characters(table):
    add_required_terms(table, ("컨테이너",))
    assert [symbol for symbol in table.symbols.values() if not is_aligned(table.data(symbol))] == []


def test_a_term_that_is_one_token_already_needs_nothing(table):
    assert add_required_terms(table, ("in",)) == ["Ġin"]
    assert add_required_terms(table, ("in",)) == []


def test_a_merge_into_a_known_new_token_adds_no_second_token(table):
    a, b, c = (table.base.vocabulary[x] for x in "abc")
    table.add(a, table.add(b, c))  # abc = a + bc
    ab = table.add(a, b)  # ranks after bc: "abc" still is a + bc
    assert table.add(ab, c) == table.base.first_new_id + 1
    assert list(table.symbols.values()) == ["bc", "abc", "ab"]


def test_a_term_that_the_base_splits_before_merging_is_refused(table):
    for term in ("CI/CD", "k8s", "스프링 부트"):
        with pytest.raises(TokenizerError, match="cannot be one token"):
            add_required_terms(table, (term,))


@pytest.mark.parametrize("term", ["", " in", "in\n"])
def test_a_term_with_outer_white_space_is_refused(table, term):
    with pytest.raises(TokenizerError, match="starts and ends with a visible character"):
        add_required_terms(table, (term,))


def test_a_term_that_the_base_has_but_does_not_reach_is_refused(table):
    table.base.vocabulary["xy"] = table.base.first_new_id
    with pytest.raises(TokenizerError, match="would change how the base encodes"):
        add_required_terms(table, ("xy",))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"type": "WordPiece"}, "a WordPiece model"),
        ({"continuing_subword_prefix": "##"}, "subword marks"),
        ({"dropout": 0.1}, "dropout"),
    ],
)
def test_another_kind_of_model_is_refused(tmp_path, change, found):
    with pytest.raises(TokenizerError, match=found):
        open_base(write_base(tmp_path, [], **change))
