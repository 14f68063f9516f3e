"""Bases that merges can be continued on: how a text is cut, what may join, and which kinds are refused."""

import itertools
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece_samples import BYTE_TOKENS, learn_sentencepiece_merges, write_sentencepiece_base
from tokenizer_samples import write_base
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from smartdevdigest_ops.tokenizer.base import Bpe, ByteLevelBpe, SentencePieceBpe, TokenizerError, open_base
from smartdevdigest_ops.tokenizer.checks import check_only_joins, check_reload, check_required_terms, check_round_trip
from smartdevdigest_ops.tokenizer.merges import MergeTable, add_required_terms
from smartdevdigest_ops.tokenizer.round_trip import PROBE_TEXTS, round_trip_failures
from smartdevdigest_ops.tokenizer.write import write_extended_tokenizer

TERMS = ("orchestration", "def", "쿠버네티스", "컨테이너")
CHARACTERS = st.sampled_from("abtheor 0123.,-_<>/()\n\t쿠버네티스컨테이너를뷁é漢👩")
ANY_TEXT = st.text(alphabet=CHARACTERS | st.characters(exclude_categories=["Cs"]), max_size=40)


@pytest.fixture(scope="module")
def texts(sample_documents) -> list[str]:
    # `▁` itself is written as a space by every SentencePiece tokenizer, so a text that holds it cannot come back.
    documents = [document.content for document in sample_documents[::4]]
    assert not any("▁" in document for document in documents)
    return documents


@pytest.fixture(scope="module")
def learned_base(texts, tmp_path_factory) -> Path:
    """Gemma's kind of tokenizer, learned on the sample; about a third of its Hangul syllables have no token."""
    merges, characters = learn_sentencepiece_merges(texts, vocab_size=2500, num_characters=500)
    characters += "".join(TERMS)
    return write_sentencepiece_base(tmp_path_factory.mktemp("learned"), merges, characters=characters)


@pytest.fixture(scope="module")
def base(learned_base) -> Bpe:
    return open_base(learned_base)


@pytest.fixture(scope="module")
def extended(base, learned_base, texts, tmp_path_factory) -> tuple[MergeTable, Path]:
    """The 60 most frequent pairs that may join, merged one after the other, then the required terms."""
    counts = Counter(piece for text in texts for piece in base.pre_tokens(text))
    words = [(base.segment(piece), count) for piece, count in counts.items() if count > 1]
    table = MergeTable(base)
    for _ in range(60):
        pairs: Counter[tuple[int, int]] = Counter()
        for ids, count in words:
            for pair in itertools.pairwise(ids):
                pairs[pair] += count
        best = max(
            (
                pair
                for pair in pairs
                if base.can_join(*map(table.symbol, pair)) and not table.is_known("".join(map(table.symbol, pair)))
            ),
            key=lambda pair: (pairs[pair], pair),
        )
        new_id = table.add(*best)
        for ids, _ in words:
            at = 0
            while at + 1 < len(ids):
                if (ids[at], ids[at + 1]) == best:
                    ids[at : at + 2] = [new_id]
                at += 1
    add_required_terms(table, TERMS)
    out = tmp_path_factory.mktemp("extended")
    write_extended_tokenizer(learned_base, table, out)
    return table, out


@pytest.fixture(scope="module")
def longer(extended) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(extended[1])


def piecewise(base, text: str) -> list[int]:
    return [token_id for piece in base.pre_tokens(text) for token_id in base.segment(piece)]


def without_whole_tokens(base, ids: list[int]) -> list[int]:
    whole = {token["id"] for token in base.tree["added_tokens"] if not token["special"]}
    return [token_id for token_id in ids if token_id not in whole]


def test_the_kind_of_a_base_is_found(tmp_path, tiny_base_model):
    assert isinstance(open_base(tiny_base_model), ByteLevelBpe)
    assert isinstance(open_base(write_sentencepiece_base(tmp_path, [])), SentencePieceBpe)


def test_merging_piece_by_piece_is_merging_the_whole_text(learned_base, texts):
    base = open_base(learned_base)
    pieces = Counter(piece for text in texts for piece in base.pre_tokens(text))
    assert len(pieces) < 0.6 * pieces.total()  # cut into words that come again, or counting would be pointless
    for text in (*texts, *PROBE_TEXTS):
        assert piecewise(base, text) == without_whole_tokens(base, base.encode(text))


@settings(max_examples=150, deadline=None)
@given(text=ANY_TEXT)
def test_any_text_is_merged_piece_by_piece_as_whole(base, text):
    assert piecewise(base, text) == without_whole_tokens(base, base.encode(text))


SHARED: dict = {}


def test_a_merge_of_the_base_that_crosses_words_is_not_cut(tmp_path):
    merges = [("<", "/"), ("▁", "</"), (">", "▁</"), ("a", "b")]
    base = open_base(write_sentencepiece_base(tmp_path, merges))
    assert base.pre_tokens("ab> </ab cd") == ["ab", ">▁</", "ab", "▁cd"]
    assert [base.symbols[i] for i in base.encode("ab> </ab")] == ["ab", ">▁</", "ab"]
    assert piecewise(base, "ab> </ab cd") == base.encode("ab> </ab cd")


def test_added_tokens_end_a_piece_and_special_tokens_do_not(tmp_path):
    base = open_base(write_sentencepiece_base(tmp_path, []))
    assert base.pre_tokens("ab\n\ncd<table>ef") == ["ab", "cd", "ef"]
    assert base.pre_tokens("a<eos>b") == ["a", "<", "eos", ">", "b"]


def test_symbols_stand_for_their_bytes(tmp_path, tiny_base_model):
    sentencepiece = open_base(write_sentencepiece_base(tmp_path, []))
    assert sentencepiece.data("▁컨테") == " 컨테".encode()
    assert sentencepiece.data("<0xEC>") == b"\xec"
    assert sentencepiece.data("<0x") == b"<0x"
    assert open_base(tiny_base_model).data("ĠaĊ") == b" a\n"


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ("컨테", "이너", True),
        ("▁", "컨", True),
        ("▁the", "orem", True),
        ("<", "/", True),
        ("컨", "▁테", False),  # a space is only ever at the front
        ("▁", "▁", False),  # runs of spaces stay the base's
        ("▁▁", "def", False),
        ("the", ".", False),  # letters and punctuation
        (".", "the", False),
        ("a", "1", False),
        ("▁", "1", False),  # digits join only where the base's do
        ("2", "1", False),
        ("1", "2", True),
        ("<0xEB>", "<0xB7>", False),  # byte tokens are decoded only as themselves
        ("컨", "<0xEB>", False),
        ("<0", "x", False),
    ],
)
def test_what_may_join_in_a_sentencepiece_base(tmp_path, left, right, expected):
    base = open_base(write_sentencepiece_base(tmp_path, [("1", "2")], characters="컨테이너"))
    assert base.can_join(left, right) is expected


def test_what_may_join_in_a_byte_level_base_is_whole_characters(tmp_path):
    base = open_base(write_base(tmp_path, []))
    spelled = {byte: character for character, byte in base._bytes.items()}
    first, second, third = (spelled[byte] for byte in "컨".encode())
    assert base.can_join(first, second)
    assert base.can_join(first + second, third)
    assert base.can_join("Ġ", first + second + third)
    assert not base.can_join("Ġ", first)


def test_new_tokens_of_a_sentencepiece_base_only_join_what_it_splits(learned_base, extended, longer, texts):
    table, out = extended
    before = AutoTokenizer.from_pretrained(learned_base)
    everything = [*texts, *PROBE_TEXTS]
    for check in (
        check_only_joins(before, longer, table.new_tokens(), everything),
        check_round_trip(longer, everything),
        check_required_terms(longer, TERMS),
        check_reload(out, everything),
    ):
        assert check.passed, check.message
    saved = 1 - sum(len(longer.encode(t)) for t in texts) / sum(len(before.encode(t)) for t in texts)
    assert saved > 0.005
    assert not any(byte in symbol for symbol in table.symbols.values() for byte in BYTE_TOKENS)


@settings(max_examples=150, deadline=None)
@given(text=ANY_TEXT)
def test_any_text_comes_back_and_is_only_joined(base, extended, longer, text):
    table, _ = extended
    ids = longer.encode(text, add_special_tokens=False)
    assert [base_id for token_id in ids for base_id in table.base_ids(token_id)] == base.encode(text)
    assert longer.decode(ids, skip_special_tokens=False) == text.replace("▁", " ")


def test_the_one_character_that_stands_for_a_space_may_come_back_as_one(longer, tiny_base_model):
    assert round_trip_failures(longer, ["load ▁▂▃ low"]) == []
    assert longer.decode(longer.encode("▁▂▃")) == " ▂▃"
    byte_level = AutoTokenizer.from_pretrained(tiny_base_model)
    assert round_trip_failures(byte_level, ["load ▁▂▃ low"]) == []
    assert byte_level.decode(byte_level.encode("▁▂▃")) == "▁▂▃"


@pytest.mark.parametrize("style", ["llama-legacy", "llama-metaspace"])
def test_a_base_that_puts_a_space_before_a_text_is_cut_alike(tmp_path, style):
    merges = [("▁", "t"), ("▁t", "h"), ("e", "r"), ("▁th", "er"), ("▁", "▁")]
    base = open_base(write_sentencepiece_base(tmp_path / "base", merges, style=style, characters="쿠버네티스컨테이너"))
    for text in ("there there", "  there,there\n\nther", "", " "):
        assert piecewise(base, text) == base.encode(text), text
    table = MergeTable(base)
    add_required_terms(table, TERMS)
    write_extended_tokenizer(tmp_path / "base", table, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    for term in TERMS:
        assert tokenizer.tokenize(f"x {term}, ({term})")[-5:] == [f"▁{term}", ",", "▁", "(", term, ")"][-5:]


def test_a_term_with_a_character_that_the_base_writes_as_bytes_is_refused(tmp_path):
    table = MergeTable(open_base(write_sentencepiece_base(tmp_path, [], characters="컨테이")))
    with pytest.raises(TokenizerError, match="no token for 너 and writes bytes"):
        add_required_terms(table, ("컨테이너",))


def test_a_term_that_is_cut_is_refused_with_its_parts(tmp_path):
    table = MergeTable(open_base(write_sentencepiece_base(tmp_path, [])))
    with pytest.raises(TokenizerError, match=r"CI \| / \| CD"):
        add_required_terms(table, ("CI/CD",))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"model": {"type": "Unigram"}}, "a Unigram model"),
        ({"model": {"type": "WordPiece"}}, "a WordPiece model"),
        ({"model": {"byte_fallback": False}}, "without byte fallback"),
        ({"decoder": {"type": "Fuse"}}, "without byte fallback"),
        ({"normalizer": None}, "does not write a space as ▁"),
        ({"model": {"dropout": 0.1}}, "dropout"),
        ({"pre_tokenizer": {"type": "ByteLevel"}}, "without the decoder"),
    ],
)
def test_another_kind_of_tokenizer_is_refused_with_the_reason(tmp_path, change, found):
    file = write_sentencepiece_base(tmp_path, []) / "tokenizer.json"
    tree = json.loads(file.read_text())
    for key, value in change.items():
        tree[key] = tree[key] | value if key == "model" else value
    file.write_text(json.dumps(tree))
    with pytest.raises(TokenizerError, match=found):
        open_base(tmp_path)
