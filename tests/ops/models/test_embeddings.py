"""Rows of new tokens start as the mean of the rows they replace; nothing else moves."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from smartdevdigest_ops.models.embeddings import VocabularyMismatch, extend_embeddings


def build_model(*, tied: bool, rows: int = 10) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=rows,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        tie_word_embeddings=tied,
    )
    return LlamaForCausalLM(config)


def token(token_id: int, *base_ids: int) -> dict:
    return {"id": token_id, "token": f"token{token_id}", "base_ids": list(base_ids)}


@pytest.mark.parametrize("tied", [True, False])
def test_new_rows_are_the_mean_of_their_base_rows_and_old_rows_stay(tied):
    model = build_model(tied=tied)
    inputs = model.get_input_embeddings().weight.detach().clone()
    outputs = model.get_output_embeddings().weight.detach().clone()
    extend_embeddings(model, [token(10, 1, 2), token(11, 3), token(12, 4, 4, 7)])
    grown = model.get_input_embeddings().weight
    assert grown.shape == (13, 8)
    torch.testing.assert_close(grown[:10], inputs, rtol=0, atol=0)
    torch.testing.assert_close(grown[10], (inputs[1] + inputs[2]) / 2)
    torch.testing.assert_close(grown[11], inputs[3])
    torch.testing.assert_close(grown[12], (2 * inputs[4] + inputs[7]) / 3)
    output = model.get_output_embeddings().weight
    torch.testing.assert_close(output[10], (outputs[1] + outputs[2]) / 2)
    assert (output is grown) == tied


def test_the_configuration_and_the_logits_have_the_new_size():
    model = build_model(tied=True)
    extend_embeddings(model, [token(10, 1, 2)])
    assert model.config.vocab_size == 11
    assert model(torch.tensor([[10]])).logits.shape == (1, 1, 11)


def test_a_base_with_spare_rows_has_those_filled_first():
    model = build_model(tied=True, rows=16)
    before = model.get_input_embeddings().weight.detach().clone()
    extend_embeddings(model, [token(10, 0, 1), token(11, 2, 3)])
    after = model.get_input_embeddings().weight
    assert after.shape == (16, 8)
    torch.testing.assert_close(after[11], (before[2] + before[3]) / 2)
    torch.testing.assert_close(after[12:], before[12:], rtol=0, atol=0)


@pytest.mark.parametrize("tied", [True, False])
def test_a_matrix_that_grows_does_so_to_the_multiple_and_the_spare_rows_are_hardly_predicted(tied):
    model = build_model(tied=tied)
    before = model.get_input_embeddings().weight.detach().clone()
    extend_embeddings(model, [token(10, 1, 2), token(11, 3)], multiple_of=8)
    rows, output = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    assert rows.shape == output.shape == (16, 8)
    assert model.config.vocab_size == 16
    torch.testing.assert_close(rows[:10], before, rtol=0, atol=0)
    torch.testing.assert_close(rows[12:], before.mean(dim=0).expand(4, 8))
    # Jensen: no spare row gets more than one part in V of what the V base rows get together.
    weights_TV = model(torch.arange(12)[None]).logits[0].exp()
    assert (weights_TV[:, 12:] <= weights_TV[:, :10].sum(dim=1, keepdim=True) / 10 + 1e-6).all()


def test_a_base_with_enough_spare_rows_does_not_grow_to_a_multiple():
    model = build_model(tied=True, rows=13)
    extend_embeddings(model, [token(10, 1)], multiple_of=8)
    assert model.get_input_embeddings().weight.shape == (13, 8)


class Vocabulary:
    """A tokenizer, as far as it is looked at."""

    def __init__(self, size: int) -> None:
        self._size = size

    def get_vocab(self) -> dict[str, int]:
        return {f"token{token_id}": token_id for token_id in range(self._size)}


@pytest.mark.parametrize("multiple_of", [1, 8])
def test_a_model_whose_own_tokenizer_has_the_new_ids_was_extended_already_and_is_refused(multiple_of):
    model = build_model(tied=True)
    new_tokens = [token(token_id, 1, 2) for token_id in range(10, 19)]
    extend_embeddings(model, new_tokens, multiple_of=multiple_of, own_tokenizer=Vocabulary(10))
    with pytest.raises(VocabularyMismatch, match=r"ids below 19.*begins at 10: the model was extended already"):
        extend_embeddings(model, new_tokens, multiple_of=multiple_of, own_tokenizer=Vocabulary(19))


def test_a_model_whose_own_tokenizer_ends_before_the_new_ids_is_another_base():
    with pytest.raises(VocabularyMismatch, match=r"ids below 8.*learned on another base model"):
        extend_embeddings(build_model(tied=True), [token(10, 1)], own_tokenizer=Vocabulary(8))


@pytest.mark.parametrize("num_new_tokens", [1, 25, 26, 33, 34])
def test_a_padded_base_takes_any_number_of_new_tokens_up_to_its_rows(num_new_tokens):
    """Qwen2.5 in small: 151,665 tokens in 151,936 rows, where 208 to 271 new tokens round up to its rows."""
    model = build_model(tied=False, rows=192)
    new_tokens = [token(158 + number, 1, 2) for number in range(num_new_tokens)]
    extend_embeddings(model, new_tokens, multiple_of=8, own_tokenizer=Vocabulary(158))
    rows = model.get_input_embeddings().weight
    assert rows.shape[0] == 192
    torch.testing.assert_close(rows[157 + num_new_tokens], (rows[1] + rows[2]) / 2)


def test_means_are_taken_in_float32_and_kept_in_the_type_of_the_model():
    model = build_model(tied=True).to(torch.bfloat16)
    rows = model.get_input_embeddings().weight.detach().clone()
    extend_embeddings(model, [token(10, *range(10))])
    grown = model.get_input_embeddings().weight
    assert grown.dtype == torch.bfloat16
    assert torch.equal(grown[10], rows.float().mean(dim=0).to(torch.bfloat16))


def test_no_new_tokens_change_nothing():
    model = build_model(tied=True)
    extend_embeddings(model, [])
    assert model.config.vocab_size == 10


@pytest.mark.parametrize(
    ("new_tokens", "message"),
    [
        ([token(11, 1)], "embedding has 10 rows but the base tokenizer of new_tokens.json has 11"),
        ([token(10, 1), token(12, 1)], "the id 12, expected 11"),
        ([token(10, 10)], "not all tokens of the base"),
        ([token(10)], "not all tokens of the base"),
    ],
)
def test_sizes_that_disagree_are_refused(new_tokens, message):
    with pytest.raises(VocabularyMismatch, match=message):
        extend_embeddings(build_model(tied=True), new_tokens)
