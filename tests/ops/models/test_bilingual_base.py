"""Gemma 3 270M as the profile `bilingual` names it; skipped where its packages are not installed.

Run it with `make run PROFILE=bilingual ACCEPT=gemma` behind you, or with the packages of the extra on PYTHONPATH.
"""

import json
import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from smartdevdigest_ops.digesting.prompt import build_prompt
from smartdevdigest_ops.models.packages import BaseModelError, find_packaged_model
from smartdevdigest_ops.models.resolve import resolve_base_model
from smartdevdigest_ops.models.stage import check_embedding, check_tokenizer, check_weights
from smartdevdigest_ops.settings import load_settings
from smartdevdigest_ops.tokenizer.base import SentencePieceBpe, open_base
from smartdevdigest_ops.training.bits_per_byte import document_boundary_id

BASE_MODEL = load_settings("bilingual").model.base_model


def is_installed() -> bool:
    try:
        return len(find_packaged_model(BASE_MODEL).parts) == 4
    except BaseModelError:
        return False


pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not is_installed(), reason="the packages of the extra `bilingual` are not installed"),
]


@pytest.fixture(scope="module")
def gemma(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("gemma")
    source = resolve_base_model(BASE_MODEL, out, seed=17, accept_terms="gemma")
    assert (source.revision, source.license) == (BASE_MODEL.partition("#sha256=")[2], "gemma")
    return out


def test_the_snapshot_is_whole_and_comes_with_its_terms(gemma):
    assert {"GEMMA_TERMS.html", "NOTICE", "NOTICE.md"} <= {file.name for file in gemma.iterdir()}
    for check in (check_tokenizer(gemma), check_weights(gemma), check_embedding(gemma)):
        assert check.passed, check.message
    config = json.loads((gemma / "config.json").read_text())
    assert config["architectures"] == ["Gemma3ForCausalLM"]
    assert (config["rope_theta"], config["rope_local_base_freq"]) == (1e6, 1e4)


def test_the_tokenizer_is_the_one_that_the_file_describes(gemma):
    tokenizer = AutoTokenizer.from_pretrained(gemma)
    assert len(tokenizer) == 262_144
    named = (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.unk_token_id)
    assert named == (0, 1, 2, 3)
    assert document_boundary_id(tokenizer) == 2
    assert tokenizer("def").input_ids[0] == 2
    assert tokenizer.tokenize("뷂 <0x41>\n\n    1.5") == [
        *("<0xEB>", "<0xB7>", "<0x82>", "▁<", "0", "x", "4", "1", ">"),
        *("\n\n", "▁▁▁▁", "1", ".", "5"),
    ]
    assert tokenizer.convert_tokens_to_ids(["<start_of_turn>", "<end_of_turn>"]) == [105, 106]


def test_pieces_of_the_sample_are_merged_as_its_texts_are(gemma, sample_documents):
    base = open_base(gemma)
    assert isinstance(base, SentencePieceBpe)
    whole = {token["id"] for token in base.tree["added_tokens"] if not token["special"]}
    for document in sample_documents:
        pieces = base.pre_tokens(document.content)
        merged = [token_id for piece in pieces for token_id in base.segment(piece)]
        assert merged == [token_id for token_id in base.encode(document.content) if token_id not in whole]


def test_the_model_predicts_korean_and_its_prompt_starts_with_bos(gemma):
    tokenizer = AutoTokenizer.from_pretrained(gemma)
    prompt = build_prompt(tokenizer, title="제목", content="본문 <eos>", language="ko", max_tokens=256)
    assert prompt.token_ids[0] == tokenizer.bos_token_id
    assert tokenizer.eos_token_id not in prompt.token_ids
    model = AutoModelForCausalLM.from_pretrained(gemma)
    text = "대한민국의 수도는 서울이다. 서울은 한강을 끼고 있는 도시이다."
    ids = torch.tensor([tokenizer(text).input_ids])
    with torch.inference_mode():
        nats = model(ids, labels=ids).loss.item() * (ids.shape[1] - 1)
    assert nats / math.log(2) / len(text.encode()) < 1.0  # random weights: 18 bits a token, 5 a byte
