"""Each gate of domain_tokenizer, passing on an extended tokenizer and failing on a broken one."""

import json
import shutil
from pathlib import Path

import pytest
from tokenizer_samples import rows_of, write_base
from transformers import AutoTokenizer

from smartdevdigest_ops.settings import TokenizerSettings
from smartdevdigest_ops.tokenizer.base import open_base
from smartdevdigest_ops.tokenizer.checks import (
    check_base_ids,
    check_digits_and_indentation,
    check_no_dead_tokens,
    check_only_joins,
    check_reload,
    check_required_terms,
    check_round_trip,
    check_special_tokens_and_chat,
)
from smartdevdigest_ops.tokenizer.dead_tokens import token_use
from smartdevdigest_ops.tokenizer.extend import extend_tokenizer

TEXTS = ["the container then", "컨테이너를 설명한다.", "def f():\n\treturn 12\n"]
TERMS = ("orchestration", "쿠버네티스")


@pytest.fixture
def base_dir(tmp_path) -> Path:
    return write_base(tmp_path / "base", [("t", "h"), ("th", "e")])


@pytest.fixture
def extended(base_dir, tmp_path) -> Path:
    out = tmp_path / "extended"
    out.mkdir()
    settings = TokenizerSettings(num_new_tokens=20, min_frequency=2, required_terms=TERMS)
    assert extend_tokenizer(base_dir, rows_of(TEXTS[:2] * 5), settings, out).num_learned == 20
    return out


def new_tokens_of(directory: Path) -> list[dict]:
    return json.loads((directory / "new_tokens.json").read_text())


def load(directory: Path):
    return AutoTokenizer.from_pretrained(directory)


def edited(directory: Path, tmp_path: Path, edit) -> Path:
    """A copy of a tokenizer with its `tokenizer.json` edited."""
    copy = tmp_path / "edited"
    shutil.copytree(directory, copy)
    tree = json.loads((copy / "tokenizer.json").read_text())
    edit(tree)
    (copy / "tokenizer.json").write_text(json.dumps(tree))
    return copy


def test_round_trip_passes_on_the_extended_and_fails_where_a_byte_is_lost(extended, tmp_path):
    assert check_round_trip(load(extended), TEXTS).passed
    broken = edited(extended, tmp_path, lambda tree: tree["model"]["vocab"].pop("ĉ"))  # the tab
    result = check_round_trip(load(broken), TEXTS)
    assert not result.passed
    assert "2 of 3" in result.message
    assert r"'\treturn 12\n' became 'return 12\n'" in result.message


def test_ids_pass_on_the_extended_and_fail_where_a_token_moved(base_dir, extended, tmp_path):
    assert check_base_ids(load(base_dir), load(extended)).passed

    def swap(tree):
        vocabulary = tree["model"]["vocab"]
        vocabulary["th"], vocabulary["the"] = vocabulary["the"], vocabulary["th"]

    result = check_base_ids(load(base_dir), load(edited(extended, tmp_path, swap)))
    assert not result.passed
    assert result.message.startswith("2 of ")


def test_ids_fail_where_a_special_token_changed(base_dir, extended):
    tokenizer = load(extended)
    tokenizer.eos_token = "<|endoftext|>"
    result = check_base_ids(load(base_dir), tokenizer)
    assert not result.passed
    assert "Changed: eos_token_id" in result.message


def test_special_tokens_and_chat_pass_on_the_extended(base_dir, extended):
    result = check_special_tokens_and_chat(load(base_dir), load(extended), new_tokens_of(extended))
    assert result.passed, result.message


def test_special_tokens_and_chat_fail_where_the_template_changed(base_dir, extended):
    tokenizer = load(extended)
    tokenizer.chat_template += "{{ bos_token }}"
    result = check_special_tokens_and_chat(load(base_dir), tokenizer, new_tokens_of(extended))
    assert not result.passed
    assert result.message.endswith("Changed: the chat template.")


def test_special_tokens_and_chat_fail_where_one_is_no_longer_recognised(base_dir, extended, tmp_path):
    broken = edited(extended, tmp_path, lambda tree: tree["added_tokens"].pop(1))  # <|im_start|>
    config = json.loads((broken / "tokenizer_config.json").read_text())
    (broken / "tokenizer_config.json").write_text(json.dumps(config | {"bos_token": "<|endoftext|>"}))
    result = check_special_tokens_and_chat(load(base_dir), load(broken), new_tokens_of(extended))
    assert not result.passed
    assert "how special tokens are encoded" in result.message


def test_digits_and_indentation_pass_on_the_extended_and_fail_where_a_run_is_joined(base_dir, extended, tmp_path):
    assert check_digits_and_indentation(load(base_dir), load(extended)).passed

    def join_spaces(tree):
        tree["model"]["vocab"]["ĠĠ"] = max(tree["model"]["vocab"].values()) + 1
        tree["model"]["merges"].append(["Ġ", "Ġ"])

    result = check_digits_and_indentation(load(base_dir), load(edited(extended, tmp_path, join_spaces)))
    assert not result.passed
    assert "The first: '  '" in result.message


def test_no_dead_tokens_passes_on_the_extended_and_fails_where_one_is_never_produced(extended, tmp_path):
    symbols = [token["token"] for token in new_tokens_of(extended)]
    base = open_base(extended)
    words = {word for text in TEXTS[:2] for word in base.pre_tokens(text)}
    use = token_use(base.tree, symbols, words, required=symbols[20:])
    result = check_no_dead_tokens(use)
    assert result.passed, result.message
    assert len(use.required) == len(symbols) - 20

    def add_dead(tree):
        tree["model"]["vocab"]["qz"] = max(tree["model"]["vocab"].values()) + 1
        tree["model"]["merges"].append(["q", "z"])

    broken = json.loads((edited(extended, tmp_path, add_dead) / "tokenizer.json").read_text())
    result = check_no_dead_tokens(token_use(broken, [*symbols, "qz"], words, required=symbols[20:]))
    assert not result.passed
    assert result.message.startswith("1 of ")
    assert "The first dead: 'qz'" in result.message


def test_required_terms_pass_on_the_extended_and_fail_on_the_base(base_dir, extended):
    assert check_required_terms(load(extended), TERMS).passed
    result = check_required_terms(load(base_dir), TERMS)
    assert not result.passed
    assert "orchestration [13, 14]" in result.message


def test_joins_pass_on_the_extended_and_fail_on_added_whole_words(base_dir, extended):
    assert check_only_joins(load(base_dir), load(extended), new_tokens_of(extended), TEXTS).passed
    # An added word matches inside other words: "then" is [the, n] in the base and [t, hen] now.
    added = load(base_dir)
    added.add_tokens(["hen"])
    result = check_only_joins(load(base_dir), added, [{"id": len(added) - 1, "base_ids": [1, 2]}], TEXTS)
    assert not result.passed
    assert "1 of 3 texts" in result.message


def test_reload_passes_on_the_extended_and_fails_where_the_class_rebuilds_another(extended):
    assert check_reload(extended, TEXTS).passed
    # GPT-2's class builds its own pre-tokenizer, whatever tokenizer.json says.
    config = json.loads((extended / "tokenizer_config.json").read_text())
    config["tokenizer_class"] = "GPT2Tokenizer"
    (extended / "tokenizer_config.json").write_text(json.dumps(config | {"add_prefix_space": True}))
    result = check_reload(extended, TEXTS)
    assert not result.passed
    assert "encode otherwise" in result.message
