"""Documents packed into training sequences."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from smartdevdigest_ops.contracts import CrawlRecord
from smartdevdigest_ops.training.errors import TrainingError
from smartdevdigest_ops.training.packing import PackedDocuments, pack_documents

T = 32
TEXTS = ["A pod is the smallest unit.", "컨테이너는 가볍다.", "def main(): return 0", "x " * 90]


@pytest.fixture(scope="module")
def tokenizer(tiny_base_model: Path):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_base_model)


def documents_of(packed: PackedDocuments, boundary: int) -> Iterator[list[int]]:
    """The documents that lie whole in the sequences, boundaries removed."""
    stream = packed.token_ids_NT.reshape(-1)
    starts = (stream == boundary).nonzero()[0]
    for start, end in pairwise(starts):
        yield stream[start + 1 : end].tolist()


def test_every_token_of_every_document_is_in_a_full_sequence_or_counted_as_dropped(tokenizer) -> None:
    packed = pack_documents(tokenizer, TEXTS, sequence_length=T, seed=1)
    ids = [tokenizer(text)["input_ids"] for text in TEXTS]

    assert packed.token_ids_NT.shape == (len(packed), T)
    assert packed.token_ids_NT.size + packed.num_tokens_dropped == sum(map(len, ids)) + len(TEXTS) + 1
    assert 0 <= packed.num_tokens_dropped < T
    assert packed.num_bytes == sum(len(text.encode()) for text in TEXTS)
    whole = list(documents_of(packed, tokenizer.convert_tokens_to_ids("<|endoftext|>")))
    assert whole
    assert all(document in ids for document in whole)


def test_positions_restart_at_each_document_and_at_each_sequence(tokenizer) -> None:
    packed = pack_documents(tokenizer, TEXTS, sequence_length=T, seed=1)
    boundary = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    for token_ids_T, position_ids_T in zip(packed.token_ids_NT, packed.position_ids_NT, strict=True):
        expected = -1
        for token_id, position in zip(token_ids_T, position_ids_T, strict=True):
            expected = 0 if token_id == boundary else expected + 1
            assert position == expected


def test_the_seed_alone_decides_the_order(tokenizer) -> None:
    orders = [pack_documents(tokenizer, TEXTS, sequence_length=T, seed=seed).token_ids_NT for seed in (1, 1, 2)]
    assert (orders[0] == orders[1]).all()
    assert orders[0].shape != orders[2].shape or (orders[0] != orders[2]).any()


def test_a_special_token_quoted_in_a_document_is_plain_characters(tokenizer) -> None:
    packed = pack_documents(tokenizer, ["stop at <|im_end|> please " * 5], sequence_length=T, seed=1)
    assert tokenizer.eos_token_id not in packed.token_ids_NT


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
