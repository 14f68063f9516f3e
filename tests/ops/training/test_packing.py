"""Documents packed into training sequences."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from smartdevdigest_ops.contracts import CrawlRecord
from smartdevdigest_ops.training.errors import TrainingError
from smartdevdigest_ops.training.packing import PackedDocuments, pack_documents

T = 32
TEXTS = ["A pod is the smallest unit.", "컨테이너는 가볍다.", "def main(): return 0", "", "x " * 90]


@pytest.fixture(scope="module")
def tokenizer(tiny_base_model: Path):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_base_model)


def token_ids(packed: PackedDocuments) -> np.ndarray:
    """(N, T)"""
    return np.stack([packed.sequence(index)[0] for index in range(len(packed))])


def documents_in(packed: PackedDocuments, boundary: int) -> Iterator[list[int]]:
    """The documents that lie whole in the sequences, boundaries removed."""
    stream = token_ids(packed).reshape(-1)
    starts = (stream == boundary).nonzero()[0]
    for start, end in pairwise(starts):
        yield stream[start + 1 : end].tolist()


def test_every_token_of_every_document_is_in_a_full_sequence_or_counted_as_dropped(tokenizer) -> None:
    packed = pack_documents(tokenizer, TEXTS, sequence_length=T, seed=1)
    ids = [tokenizer(text)["input_ids"] for text in TEXTS]

    assert token_ids(packed).shape == (len(packed), T)
    assert token_ids(packed).size + packed.num_tokens_dropped == sum(map(len, ids)) + len(TEXTS) + 1
    assert 0 <= packed.num_tokens_dropped < T
    assert packed.num_bytes == sum(len(text.encode()) for text in TEXTS)
    whole = list(documents_in(packed, tokenizer.convert_tokens_to_ids("<|endoftext|>")))
    assert whole
    assert all(document in ids for document in whole)


def test_a_stream_that_ends_with_a_sequence_ends_with_a_boundary(tokenizer) -> None:
    num_tokens = sum(len(tokenizer(text)["input_ids"]) + 1 for text in TEXTS) + 1
    packed = pack_documents(tokenizer, TEXTS, sequence_length=num_tokens, seed=1)

    assert len(packed) == 1
    assert packed.num_tokens_dropped == 0
    ids, positions = packed.sequence(0)
    assert ids[0] == ids[-1] == tokenizer.convert_tokens_to_ids("<|endoftext|>")
    assert positions[0] == positions[-1] == 0
    assert packed.documents_of(0) == [f"document {number}" for number in packed.order_D]


def test_positions_restart_at_each_document_and_at_each_sequence(tokenizer) -> None:
    packed = pack_documents(tokenizer, TEXTS, sequence_length=T, seed=1)
    boundary = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    for item in packed:
        expected = -1
        for token_id, position in zip(item["input_ids"].tolist(), item["position_ids"].tolist(), strict=True):
            expected = 0 if token_id == boundary else expected + 1
            assert position == expected
        assert (item["labels"] == item["input_ids"]).all()


def test_a_sequence_names_the_documents_that_it_has_tokens_of(tokenizer) -> None:
    names = [f"https://docs.example/{number}" for number in range(len(TEXTS))]
    packed = pack_documents(tokenizer, TEXTS, sequence_length=T, seed=1, name_of=names.__getitem__)
    ids = {name: tokenizer(text)["input_ids"] for name, text in zip(names, TEXTS, strict=True)}

    # Written out token by token, the owner of each beside it.
    owners = [name for place in packed.order_D for name in [names[place]] * (len(ids[names[place]]) + 1)]
    for index in range(len(packed)):
        window = owners[index * T : (index + 1) * T]
        assert packed.documents_of(index) == list(dict.fromkeys(window))


def test_the_seed_alone_decides_the_order(tokenizer) -> None:
    packed = [pack_documents(tokenizer, TEXTS, sequence_length=T, seed=seed) for seed in (1, 1, 2)]
    assert (token_ids(packed[0]) == token_ids(packed[1])).all()
    assert (packed[0].order_D != packed[2].order_D).any()


def test_token_ids_from_the_cache_are_those_in_memory(tokenizer, tmp_path: Path) -> None:
    in_memory = pack_documents(tokenizer, TEXTS, sequence_length=T, seed=1)
    for _ in range(2):  # written, then found
        cached = pack_documents(tokenizer, iter(TEXTS), sequence_length=T, seed=1, cache_dir=tmp_path)
        assert (token_ids(cached) == token_ids(in_memory)).all()
        assert cached.num_bytes == in_memory.num_bytes


def test_a_special_token_quoted_in_a_document_is_plain_characters(tokenizer) -> None:
    packed = pack_documents(tokenizer, ["stop at <|im_end|> please " * 5], sequence_length=T, seed=1)
    assert tokenizer.eos_token_id not in token_ids(packed)


def test_documents_shorter_than_one_sequence_together_are_refused(tokenizer) -> None:
    with pytest.raises(TrainingError, match=r"1 documents .* training\.m1\.sequence_length"):
        pack_documents(tokenizer, ["short"], sequence_length=T, seed=1)


def test_a_packed_document_gets_the_logits_it_gets_alone(
    tokenizer, tiny_base_model: Path, sample_documents: list[CrawlRecord]
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_base_model).eval()
    texts = [record.content[:150] for record in sample_documents[:6]]
    packed = pack_documents(tokenizer, texts, sequence_length=256, seed=1)
    item = packed[0]
    with torch.inference_mode():
        together_TV = model(
            input_ids=item["input_ids"][None], position_ids=item["position_ids"][None], use_cache=False
        ).logits[0]
        starts = [*torch.nonzero(item["position_ids"] == 0).flatten().tolist(), 256]
        assert len(starts) > 3
        for start, end in pairwise(starts):
            alone_TV = model(input_ids=item["input_ids"][None, start:end], use_cache=False).logits[0]
            torch.testing.assert_close(together_TV[start:end], alone_TV, atol=1e-5, rtol=1e-4)
