"""Ways to start rows that benchmarks/new_rows.py compares the product's with."""

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.new_row_ways import embed, set_rows, sparsemax, weights_by_bytes, weights_of_focus, weights_of_last


def token(token_id: int, *base_ids: int) -> dict:
    return {"id": token_id, "base_ids": list(base_ids)}


def test_sub_tokens_count_by_their_bytes_or_by_their_place():
    tokens = [token(10, 1, 2), token(11, 3, 3, 4)]
    num_bytes = {1: 1, 2: 3, 3: 2, 4: 4}.__getitem__
    assert weights_by_bytes(tokens, num_bytes) == [{1: 0.25, 2: 0.75}, {3: 0.5, 4: 0.5}]
    first, second = weights_of_last(tokens)
    assert first == pytest.approx({1: 1 / 3, 2: 2 / 3})
    assert second == pytest.approx({3: 1 / 2, 4: 1 / 2})


def test_sparsemax_is_the_nearest_point_of_the_simplex():
    scores = np.array([[0.9, 0.5, 0.1, -0.8], [0.2, 0.2, 0.2, 0.2], [3.0, 0.0, 1.0, 1.9]])
    expected = [[0.7, 0.3, 0.0, 0.0], [0.25] * 4, [1.0, 0.0, 0.0, 0.0]]
    np.testing.assert_allclose(sparsemax(scores), expected, atol=1e-6)


def test_a_new_token_starts_from_base_tokens_that_stand_in_like_company_and_a_rare_one_from_its_parts():
    draw = np.random.default_rng(0)
    # Tokens 0 and the new 10 stand between 1 to 4, token 5 between 6 to 9.
    documents = []
    for middle, company in ((0, (1, 5)), (10, (1, 5)), (5, (6, 10))):
        documents += [np.insert(draw.integers(*company, size=6), 3, middle) for _ in range(60)]
    liked, rare = weights_of_focus([token(10, 5, 6), token(11, 7, 8)], documents, dimensions=4, min_occurrences=5)
    assert max(liked, key=liked.__getitem__) == 0
    assert sum(liked.values()) == pytest.approx(1)
    assert liked.get(5, 0.0) == 0
    assert rare == {7: 0.5, 8: 0.5}


def test_tokens_of_different_documents_are_no_company():
    ids, rows_VD = embed([np.array([0, 1] * 9), np.array([2, 3] * 9)], dimensions=3, min_occurrences=1)
    assert ids.tolist() == [0, 1, 2, 3]
    assert abs(rows_VD[:2] @ rows_VD[2:].T).max() < 1e-5


@pytest.mark.parametrize("tied", [True, False])
def test_rows_are_set_in_every_matrix_and_old_ones_stay(tied: bool):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=12,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        tie_word_embeddings=tied,
    )
    model = LlamaForCausalLM(config)
    before = [
        matrix.weight.detach().clone() for matrix in (model.get_input_embeddings(), model.get_output_embeddings())
    ]
    set_rows(model, 10, [{1: 0.25, 2: 0.75}, {3: 1.0}])
    after = [model.get_input_embeddings().weight, model.get_output_embeddings().weight]
    for old, new in zip(before, after, strict=True):
        torch.testing.assert_close(new[10], 0.25 * old[1] + 0.75 * old[2])
        torch.testing.assert_close(new[11], old[3])
        torch.testing.assert_close(new[:10], old[:10], rtol=0, atol=0)
