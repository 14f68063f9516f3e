"""What the GGUF conversion loses of SmolLM's tokenizer is put right; other tokenizers are left as they come."""

import json
from pathlib import Path

import pytest
import torch
from gguf_samples import ABSENT_BYTES, write_tiny_gguf
from transformers import AutoModelForCausalLM, AutoTokenizer

from smartdevdigest_ops.artifacts import file_sha256
from smartdevdigest_ops.models.gguf import GgufError, convert_gguf, read_gguf_facts
from smartdevdigest_ops.models.packages import find_packaged_model
from smartdevdigest_ops.models.stage import check_embedding, check_tokenizer, check_weights
from smartdevdigest_ops.settings import load_settings
from smartdevdigest_ops.tokenizer.base import byte_alphabet


@pytest.fixture(scope="module")
def smollm(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("smollm")
    write_tiny_gguf(directory / "tiny.gguf", pretokenizer="smollm")
    (directory / "out").mkdir()
    convert_gguf(directory / "tiny.gguf", directory / "out")
    return directory / "out"


def round_trip(tokenizer, text: str) -> str:
    return tokenizer.decode(tokenizer.encode(text, add_special_tokens=False), clean_up_tokenization_spaces=False)


def test_every_character_that_holds_any_byte_of_utf8_round_trips(smollm):
    tokenizer = AutoTokenizer.from_pretrained(smollm)
    # All bytes of UTF-8: ASCII with its control characters, every lead byte, every continuation byte.
    characters = [chr(c) for c in range(128)] + [chr(c) for c in range(0x80, 0x800)]
    characters += [chr(c) for c in range(0x800, 0xD800, 64)] + [chr(c) for c in range(0x10000, 0x110000, 4096)]
    assert [c for c in characters if round_trip(tokenizer, c) != c] == []
    assert round_trip(tokenizer, "".join(characters)) == "".join(characters)


def test_all_256_bytes_are_in_the_vocabulary_and_what_was_there_keeps_its_id(smollm, tmp_path):
    tokens = write_tiny_gguf(tmp_path / "tiny.gguf", pretokenizer="smollm")
    vocabulary = AutoTokenizer.from_pretrained(smollm).get_vocab()
    assert set(byte_alphabet()) <= set(vocabulary)
    assert [vocabulary[token] for token in tokens] == list(range(len(tokens)))
    assert [vocabulary[character] for character in sorted(ABSENT_BYTES)] == list(range(len(tokens), len(tokens) + 21))


def test_digits_are_split_one_by_one_although_a_merge_would_join_them(smollm):
    assert AutoTokenizer.from_pretrained(smollm).tokenize("v12 12") == ["v", "1", "2", "Ġ", "1", "2"]


def test_special_tokens_and_the_chat_template_work_and_no_bos_is_added(smollm):
    tokenizer = AutoTokenizer.from_pretrained(smollm)
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (
        "<|im_start|>",
        "<|im_end|>",
        "<|im_end|>",
    )
    assert tokenizer.encode("<|im_start|><|im_end|>") == [1, 2]
    assert tokenizer.encode("t") == tokenizer.encode("t", add_special_tokens=False)
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "the"}], return_dict=False)
    assert tokenizer.convert_ids_to_tokens(chat) == ["<|im_start|>", "the", "<|im_end|>"]


def test_rows_of_the_added_bytes_are_the_mean_of_the_byte_rows_that_were_there(smollm):
    tokenizer = AutoTokenizer.from_pretrained(smollm)
    rows = AutoModelForCausalLM.from_pretrained(smollm).get_input_embeddings().weight
    present = [tokenizer.convert_tokens_to_ids(c) for c in byte_alphabet() if c not in ABSENT_BYTES]
    added = [tokenizer.convert_tokens_to_ids(c) for c in ABSENT_BYTES]
    assert len(rows) == len(tokenizer)
    torch.testing.assert_close(rows[added], rows[present].mean(dim=0).expand(21, -1))


def test_the_snapshot_is_dense_float32_with_the_rope_of_the_file_and_no_path(smollm):
    config = json.loads((smollm / "config.json").read_text())
    assert "quantization_config" not in config
    assert config["dtype"] == "float32"
    assert config["rope_parameters"]["rope_theta"] == config["rope_theta"] == 50000.0
    for file in smollm.glob("*.json"):
        assert str(smollm.parent) not in file.read_text()
    assert check_weights(smollm).passed
    assert check_tokenizer(smollm).passed
    assert check_embedding(smollm).passed


def test_converting_twice_gives_the_same_bytes(smollm, tmp_path):
    write_tiny_gguf(tmp_path / "tiny.gguf", pretokenizer="smollm")
    (tmp_path / "again").mkdir()
    convert_gguf(tmp_path / "tiny.gguf", tmp_path / "again")
    names = sorted(file.name for file in smollm.iterdir())
    assert names == sorted(file.name for file in (tmp_path / "again").iterdir())
    assert [file_sha256(smollm / name) for name in names] == [file_sha256(tmp_path / "again" / name) for name in names]


def test_another_tokenizer_is_taken_as_it_comes_and_the_check_says_what_it_loses(tmp_path):
    tokens = write_tiny_gguf(tmp_path / "tiny.gguf", pretokenizer="gpt-2")
    (tmp_path / "out").mkdir()
    facts = convert_gguf(tmp_path / "tiny.gguf", tmp_path / "out")
    assert facts.pretokenizer == "gpt-2"
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert len(tokenizer) == len(tokens)
    assert tokenizer.tokenize("12") == ["12"]
    result = check_tokenizer(tmp_path / "out")
    assert not result.passed
    assert "became" in result.message


def test_the_header_says_architecture_pretokenizer_and_licence(tmp_path):
    write_tiny_gguf(tmp_path / "tiny.gguf", pretokenizer="smollm")
    facts = read_gguf_facts(tmp_path / "tiny.gguf")
    assert (facts.architecture, facts.pretokenizer, facts.license) == ("llama", "smollm", "apache-2.0")


def test_a_file_that_is_no_gguf_is_refused_by_name(tmp_path):
    (tmp_path / "broken.gguf").write_bytes(b"not a model" * 100)
    with pytest.raises(GgufError, match=r"broken\.gguf cannot be read as GGUF"):
        read_gguf_facts(tmp_path / "broken.gguf")


def test_an_architecture_that_transformers_cannot_read_is_refused(tmp_path):
    write_tiny_gguf(tmp_path / "tiny.gguf", pretokenizer="smollm", architecture="unheard-of")
    with pytest.raises(GgufError, match="architecture 'unheard-of'"):
        convert_gguf(tmp_path / "tiny.gguf", tmp_path)


@pytest.mark.slow
def test_the_sample_base_model_converts_and_completes_a_sentence(tmp_path):
    facts = convert_gguf(find_packaged_model(load_settings("sample").model.base_model).parts[0], tmp_path)
    assert facts.license == "apache-2.0"
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert len(tokenizer) == 49152 + 21
    assert tokenizer.tokenize("v1.28") == ["v", "1", ".", "2", "8"]
    assert check_tokenizer(tmp_path).passed
    assert check_embedding(tmp_path).passed
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    answer = model.generate(**prompt, max_new_tokens=3, do_sample=False)
    assert "Paris" in tokenizer.decode(answer[0])
