"""Merging the adapter into M1."""

import json
import shutil
from pathlib import Path

import pytest

from smartdevdigest_ops.quantization.checks import check_merge, check_tensors, measure_tensors
from smartdevdigest_ops.quantization.errors import QuantizationError
from smartdevdigest_ops.quantization.gptq import quantize_gptq
from smartdevdigest_ops.quantization.layout import layout_problems
from smartdevdigest_ops.quantization.merge import MergeReport, merge_adapter
from smartdevdigest_ops.settings import QuantizationSettings


def test_the_merged_model_answers_as_the_adapted_one_and_not_as_m1(
    tiny_base_model: Path, tiny_adapter: Path, tmp_path: Path
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    report = merge_adapter(tiny_base_model, tiny_adapter, tmp_path)
    assert report.exact
    assert report.num_merged_layers == 14
    assert check_merge(report).passed
    m1 = AutoModelForCausalLM.from_pretrained(tiny_base_model)
    ids = torch.arange(100, 140).unsqueeze(0)
    with torch.inference_mode():
        plain = m1(input_ids=ids).logits
        adapted = PeftModel.from_pretrained(m1, tiny_adapter)(input_ids=ids).logits
        merged = AutoModelForCausalLM.from_pretrained(tmp_path)(input_ids=ids).logits
    assert torch.allclose(merged, adapted, atol=1e-5)
    assert (merged - plain).abs().max() > 1e-2


def test_tied_embeddings_stay_tied_and_are_stored_once(
    tiny_base_model: Path, tiny_adapter: Path, tmp_path: Path
) -> None:
    from safetensors import safe_open

    assert merge_adapter(tiny_base_model, tiny_adapter, tmp_path).tied_embeddings
    with safe_open(tmp_path / "model.safetensors", framework="pt") as stream:
        assert "lm_head.weight" not in stream.keys()  # noqa: SIM118
    assert json.loads((tmp_path / "config.json").read_text())["tie_word_embeddings"] is True


def test_a_vocabulary_grown_by_tokens_and_rows_survives_the_merge(
    tiny_base_model: Path, tiny_adapter: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    m1 = tmp_path / "m1"
    tokenizer = AutoTokenizer.from_pretrained(tiny_base_model)
    tokenizer.add_tokens(["쿠버네티스", "middleware", "컨테이너"])
    model = AutoModelForCausalLM.from_pretrained(tiny_base_model)
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(m1)
    tokenizer.save_pretrained(m1)
    assert merge_adapter(m1, tiny_adapter, tmp_path / "merged").exact
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert merged.get_input_embeddings().weight.shape[0] == len(tokenizer)
    assert len(AutoTokenizer.from_pretrained(tmp_path / "merged")) == len(tokenizer)


def test_an_output_embedding_of_its_own_survives_the_merge_and_stays_in_16_bits_when_quantized(
    tiny_base_model: Path, tiny_adapter: Path, calibration_sequences: list[list[int]], tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    m1, merged, quantized = (tmp_path / name for name in ("m1", "merged", "quantized"))
    model = AutoModelForCausalLM.from_pretrained(tiny_base_model, tie_word_embeddings=False)
    model.lm_head.weight = torch.nn.Parameter(model.get_input_embeddings().weight.detach() * 0.5)
    model.save_pretrained(m1)
    AutoTokenizer.from_pretrained(tiny_base_model).save_pretrained(m1)
    report = merge_adapter(m1, tiny_adapter, merged)
    assert report.exact
    assert not report.tied_embeddings
    before = load_file(m1 / "model.safetensors")["lm_head.weight"]
    assert torch.equal(load_file(merged / "model.safetensors")["lm_head.weight"], before)
    quantize_gptq(
        merged, quantized, calibration_sequences, QuantizationSettings(group_size=32), device="cpu", threads=1,
        log_file=tmp_path / "gptq.log",
    )  # fmt: skip
    assert torch.equal(load_file(quantized / "model.safetensors")["lm_head.weight"], before.half())
    assert layout_problems(quantized) == []
    assert check_tensors(measure_tensors(merged, quantized), quantized=True).passed


def test_a_tokenizer_with_more_tokens_than_the_embedding_has_rows_is_refused(
    tiny_base_model: Path, tiny_adapter: Path, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    m1 = shutil.copytree(tiny_base_model, tmp_path / "m1")
    tokenizer = AutoTokenizer.from_pretrained(m1)
    tokenizer.add_tokens(["쿠버네티스"])
    tokenizer.save_pretrained(m1)
    with pytest.raises(QuantizationError, match="rows but the tokenizer"):
        merge_adapter(m1, tiny_adapter, tmp_path / "merged")


def test_an_adapter_of_another_model_is_refused(tiny_adapter: Path, tmp_path: Path) -> None:
    from smartdevdigest_ops.models.tiny import build_tiny_llama

    build_tiny_llama(tmp_path / "m1", hidden_size=32)
    with pytest.raises(QuantizationError, match="trained on another M1"):
        merge_adapter(tmp_path / "m1", tiny_adapter, tmp_path / "merged")


@pytest.mark.parametrize("difference", [0.5, float("nan")])
def test_a_merge_that_changes_the_logits_fails_its_check(difference: float) -> None:
    result = check_merge(
        MergeReport(difference, max_logit=10.0, tolerance=1e-3, num_merged_layers=2, tied_embeddings=True)
    )
    assert not result.passed
    assert "1.00e-03" in result.message
