"""Bytes per token, by hand."""

import pytest
from tokenizer_samples import write_base
from transformers import AutoTokenizer

from smartdevdigest_ops.tokenizer.fertility import Fertility, fertility_table, measure_fertility, split_code

DOCUMENT = "글\n\n```python\nthe\n```\nuse `the` here\n"


def test_code_blocks_are_parted_from_prose_and_code_spans_stay_in_their_sentence():
    prose, code = split_code(DOCUMENT)
    assert code == "```python\nthe\n```\n"
    assert prose == "글\n\nuse `the` here\n"


def test_bytes_and_tokens_add_up_by_language_and_for_code(tmp_path):
    before = AutoTokenizer.from_pretrained(write_base(tmp_path / "before", []))
    after = AutoTokenizer.from_pretrained(write_base(tmp_path / "after", [("t", "h"), ("th", "e")]))
    rows = [{"language": "ko", "content": DOCUMENT}, {"language": "en", "content": "the the"}]
    totals = measure_fertility(before, after, rows)
    # Bytes alone are tokens before; "the" saves 2 of them wherever it stands, the th of python one.
    assert totals["en"] == Fertility(7, 7, 3)
    assert totals["ko"] == Fertility(20, 20, 18)
    assert totals["ko_code"] == totals["code"] == Fertility(18, 18, 15)
    assert "en_code" not in totals
    assert totals["en"].as_json() == {
        "num_bytes": 7,
        "num_tokens_before": 7,
        "num_tokens_after": 3,
        "bytes_per_token_before": 1.0,
        "bytes_per_token_after": pytest.approx(2.3333),
        "token_change": pytest.approx(-0.5714),
    }
    assert "| en | 7 | 1.00 | 2.33 | -57.1% |" in fertility_table(totals)
