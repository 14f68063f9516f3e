"""Bits per byte of test documents."""

from pathlib import Path

from smartdevdigest_ops.evaluation.metrics.compression import (
    MeasuredText,
    bits_per_byte_by_language,
    choose_texts,
    document_bits,
)
from smartdevdigest_ops.evaluation.statistics.intervals import Bootstrap
from smartdevdigest_ops.settings import Settings

BOOTSTRAP = Bootstrap(num_samples=100, confidence=0.95, seed=17)


def test_bits_per_byte_of_a_language_is_total_bits_over_total_bytes() -> None:
    texts = [MeasuredText("en", "ab", "a"), MeasuredText("en", "abcd", "b"), MeasuredText("ko", "가", "c")]
    table = bits_per_byte_by_language(texts, [8.0, 4.0, 6.0], BOOTSTRAP)
    assert table["en"]["mean"] == 2.0
    assert table["ko"]["mean"] == 2.0  # 6 bits over 3 bytes of UTF-8
    assert table["en"]["n"] == 2


def test_bits_per_byte_of_near_duplicates_are_as_uncertain_as_those_of_one_document() -> None:
    rows = [{"url": f"https://a.example/{n}", "language": "en", "content": "abcd", "cluster": "one"} for n in range(4)]
    bits = [4.0, 8.0, 12.0, 16.0]
    table = bits_per_byte_by_language(choose_texts(rows, 4), bits, BOOTSTRAP)
    assert table["en"] == {"mean": 2.5, "low": 2.5, "high": 2.5, "n": 4}  # one cluster is drawn whole every time
    apart = choose_texts([row | {"cluster": None} for row in rows], 4)
    interval = bits_per_byte_by_language(apart, bits, BOOTSTRAP)["en"]
    assert interval["low"] < 2.5 < interval["high"]


def test_finished_bits_are_not_measured_again(tmp_path: Path, tiny_base_model: Path, ci_settings: Settings) -> None:
    journal = tmp_path / "bits.json"
    row = {"url": "https://a.example/x", "language": "en", "content": "Pods run containers."}
    texts = [each.text for each in choose_texts([row], 3)]
    measured = document_bits(tiny_base_model, texts, model_settings=ci_settings.model, name="base", journal=journal)
    absent = tmp_path / "no-model"
    assert document_bits(absent, texts, model_settings=ci_settings.model, name="base", journal=journal) == measured
    # A random model spreads over 1,024 tokens: about 10 bits a token, 20 bytes of text.
    assert 20 < measured[0] < 10 * 20 * 1.2
