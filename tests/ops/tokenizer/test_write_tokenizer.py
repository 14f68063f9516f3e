"""The extended tokenizer as AutoTokenizer loads it: exact, only joining, every id where it was."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_samples import SPECIAL_TOKENS, segments_in, write_base
from transformers import AutoTokenizer

from smartdevdigest_ops.tokenizer.base import open_base
from smartdevdigest_ops.tokenizer.learn import learn_merges
from smartdevdigest_ops.tokenizer.merges import add_required_terms
from smartdevdigest_ops.tokenizer.write import copy_base_tokenizer, write_extended_tokenizer

TERMS = ("오케스트레이션", "middleware")


def extend(base_dir: Path, out: Path, texts: list[str], n: int = 300) -> Path:
    base = open_base(base_dir)
    table = learn_merges(base, segments_in(base, texts), num_new_tokens=n, min_votes=2, max_token_characters=24)
    add_required_terms(table, TERMS)
    out.mkdir()
    write_extended_tokenizer(base_dir, table, out)
    return out


@pytest.fixture(scope="module")
def pair(tiny_base_model, sample_documents, tmp_path_factory):
    """The tiny base tokenizer, and the same extended on the sample."""
    out = tmp_path_factory.mktemp("extended") / "out"
    extend(tiny_base_model, out, [document.content for document in sample_documents])
    return AutoTokenizer.from_pretrained(tiny_base_model), AutoTokenizer.from_pretrained(out), out


def base_ids(out: Path) -> dict[int, list[int]]:
    return {token["id"]: token["base_ids"] for token in json.loads((out / "new_tokens.json").read_text())}


def assert_exact_and_only_joining(pair, text: str) -> None:
    base, tokenizer, out = pair
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text
    expansion = base_ids(out)
    joined = [base_id for token_id in ids for base_id in expansion.get(token_id, [token_id])]
    assert joined == base.encode(text, add_special_tokens=False)


@settings(max_examples=150, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back_and_is_the_base_segmentation_joined(pair, text):
    assert_exact_and_only_joining(pair, text)


@settings(max_examples=150, deadline=None)
@given(
    words=st.lists(
        st.sampled_from(["컨테이너", "를", " ", "오케스트레이션", "def", "\n", "  ", "é", "12", "'ll", "미"])
    )
)
def test_mixed_korean_and_code_comes_back_and_is_the_base_segmentation_joined(pair, words):
    assert_exact_and_only_joining(pair, "".join(words))


def test_new_ids_follow_the_last_of_the_base_without_a_gap(pair):
    base, tokenizer, out = pair
    assert sorted(base_ids(out)) == list(range(len(base), len(tokenizer)))
    assert len(tokenizer) > len(base) + 100
    assert all(len(ids) > 1 and max(ids) < len(base) for ids in base_ids(out).values())


def test_base_ids_are_the_base_segmentation_of_the_text_of_a_whole_token(pair):
    base, tokenizer, out = pair
    for token_id, ids in base_ids(out).items():
        text = tokenizer.decode([token_id], clean_up_tokenization_spaces=False)
        if "\ufffd" not in text and not text.isspace():
            assert base.encode(text, add_special_tokens=False) == ids


def test_a_suffix_splits_off_a_required_term(pair):
    _, tokenizer, _ = pair
    ids = tokenizer.encode("오케스트레이션을", add_special_tokens=False)
    assert tokenizer.decode(ids[:1]) == "오케스트레이션"


def test_special_tokens_and_chat_template_are_those_of_the_base(pair):
    base, tokenizer, _ = pair
    assert tokenizer.special_tokens_map == base.special_tokens_map
    assert tokenizer.chat_template == base.chat_template
    chat = [{"role": "user", "content": "쿠버네티스란?"}]
    rendered = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
    assert rendered[0] == base.convert_tokens_to_ids("<|im_start|>")


@pytest.mark.parametrize("ignore_merges", [False, True])
@pytest.mark.parametrize("merges_as_text", [False, True])
def test_special_tokens_after_the_vocabulary_keep_their_ids(tmp_path, ignore_merges, merges_as_text):
    base_dir = write_base(
        tmp_path / "base",
        [("t", "h")],
        specials_in_vocabulary=False,
        merges_as_text=merges_as_text,
        ignore_merges=ignore_merges,
    )
    out = extend(base_dir, tmp_path / "out", ["the container then the cluster"] * 9, n=20)
    base, tokenizer = AutoTokenizer.from_pretrained(base_dir), AutoTokenizer.from_pretrained(out)
    assert [tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS] == [257, 258, 259]
    assert min(base_ids(out)) == 260
    assert len(tokenizer) == 260 + len(base_ids(out))
    text = "<|im_start|>the container<|im_end|>"
    ids = tokenizer.encode(text)
    assert (ids[0], ids[-1]) == (258, 259)
    assert_exact_and_only_joining((base, tokenizer, out), "the contained clusters then")


def test_older_formats_of_the_same_vocabulary_are_left_behind(tmp_path):
    base_dir = write_base(tmp_path / "base", [("t", "h")])
    (base_dir / "vocab.json").write_text("{}")
    (base_dir / "merges.txt").write_text("")
    out = extend(base_dir, tmp_path / "out", ["the then"] * 9, n=2)
    assert {file.name for file in out.iterdir()} == {
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "new_tokens.json",
    }


def test_the_same_corpus_gives_the_same_bytes(tmp_path, tiny_base_model, sample_documents):
    texts = [document.content for document in sample_documents[:10]]
    first, second = (extend(tiny_base_model, tmp_path / name, texts, n=50) for name in ("a", "b"))
    for file in first.iterdir():
        assert file.read_bytes() == (second / file.name).read_bytes()


def test_a_copied_base_is_the_base_with_no_new_tokens(tmp_path, tiny_base_model):
    copy_base_tokenizer(tiny_base_model, tmp_path)
    assert json.loads((tmp_path / "new_tokens.json").read_text()) == []
    assert (tmp_path / "tokenizer.json").read_bytes() == (tiny_base_model / "tokenizer.json").read_bytes()
    assert not (tmp_path / "model.safetensors").exists()
