"""Bits per byte against a computation by hand."""

import math
from pathlib import Path

import pytest

from smartdevdigest_ops.training.bits_per_byte import bits_per_byte, document_boundary_id
from smartdevdigest_ops.training.errors import TrainingError

TEXTS = ["쿠버네티스는 파드를 배치한다.", "A pod holds containers that share a network. " * 4, "", "x"]


@pytest.fixture(scope="module")
def tokenizer(tiny_base_model: Path):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_base_model)


@pytest.fixture(scope="module")
def model(tiny_base_model: Path):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_base_model)


def by_hand(model, tokenizer, texts: list[str], sequence_length: int) -> float:
    """Token by token, window by window, with a softmax written out."""
    import torch

    bits = 0.0
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        for position, token_id in enumerate(ids):
            start = position // sequence_length * sequence_length
            before = [tokenizer.convert_tokens_to_ids("<|endoftext|>"), *ids[start:position]]
            with torch.inference_mode():
                logits_V = model(torch.tensor([before])).logits[0, -1].double()
            bits -= math.log2((logits_V[token_id].exp() / logits_V.exp().sum()).item())
    return bits / sum(len(text.encode()) for text in texts)


@pytest.mark.parametrize("sequence_length", [8, 512])
def test_the_figure_is_the_one_computed_by_hand(model, tokenizer, sequence_length: int) -> None:
    found = bits_per_byte(model, tokenizer, TEXTS, sequence_length=sequence_length)
    assert found == pytest.approx(by_hand(model, tokenizer, TEXTS, sequence_length), abs=1e-5)


def test_the_batch_size_changes_nothing(model, tokenizer) -> None:
    figures = [bits_per_byte(model, tokenizer, TEXTS, sequence_length=8, batch_size=size) for size in (1, 2, 7)]
    assert figures == pytest.approx([figures[0]] * 3, abs=1e-5)


def test_a_model_that_knows_nothing_needs_the_vocabulary_in_bits_for_every_token(tokenizer, tiny_base_model) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_base_model)
    with torch.no_grad():
        model.get_input_embeddings().weight.zero_()
    num_tokens = sum(len(tokenizer(text)["input_ids"]) for text in TEXTS)
    num_bytes = sum(len(text.encode()) for text in TEXTS)
    found = bits_per_byte(model, tokenizer, TEXTS, sequence_length=16)
    assert found == pytest.approx(num_tokens * 10 / num_bytes, rel=1e-5)  # 1,024 tokens are 10 bits


def test_a_special_token_quoted_in_a_text_is_scored_as_its_characters(model, tokenizer) -> None:
    quoted = bits_per_byte(model, tokenizer, ["<|im_end|>"], sequence_length=64)
    # One special token would cost about 10 bits for 10 bytes; its characters are several tokens.
    assert quoted > 2


def test_the_mode_of_the_model_is_left_as_it_was(model, tokenizer) -> None:
    model.train()
    bits_per_byte(model, tokenizer, ["text"], sequence_length=8)
    assert model.training
    model.eval()


def test_no_text_at_all_is_refused(model, tokenizer) -> None:
    with pytest.raises(TrainingError, match="empty"):
        bits_per_byte(model, tokenizer, ["", ""], sequence_length=8)


def test_the_boundary_is_bos_where_the_vocabulary_has_no_endoftext(tokenizer) -> None:
    class Llama3Like:
        name_or_path = "llama"
        bos_token_id, eos_token_id = 7, 9

        def get_vocab(self) -> dict[str, int]:
            return {"a": 1}

    assert document_boundary_id(Llama3Like()) == 7
    assert document_boundary_id(tokenizer) == tokenizer.get_vocab()["<|endoftext|>"]
