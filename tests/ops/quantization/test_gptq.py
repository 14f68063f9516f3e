"""Quantizing by gptqmodel, on the tiny model."""

import json
import sys
from pathlib import Path

import pytest

from smartdevdigest_ops.quantization.calibration import build_calibration
from smartdevdigest_ops.quantization.errors import QuantizationError
from smartdevdigest_ops.quantization.gptq import _read_quantizer_log, quantize_gptq
from smartdevdigest_ops.quantization.quiet import output_to_log
from smartdevdigest_ops.settings import QuantizationSettings


def test_two_runs_give_the_same_files_byte_for_byte(
    tiny_base_model: Path, tiny_quantized: Path, calibration_sequences: list[list[int]], tmp_path: Path
) -> None:
    quantize_gptq(
        tiny_base_model,
        tmp_path / "again",
        calibration_sequences,
        QuantizationSettings(group_size=32),
        device="cpu",
        threads=1,
        log_file=tmp_path / "gptq.log",
    )
    first = {file.name: file.read_bytes() for file in tiny_quantized.iterdir()}
    second = {file.name: file.read_bytes() for file in (tmp_path / "again").iterdir()}
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_the_directory_names_no_path_and_holds_no_log(tiny_quantized: Path) -> None:
    names = {file.name for file in tiny_quantized.iterdir()}
    assert {"config.json", "quantize_config.json", "model.safetensors", "tokenizer.json"} <= names
    assert "quant_log.csv" not in names
    for file in tiny_quantized.glob("*.json"):
        text = file.read_text(encoding="utf-8")
        assert str(tiny_quantized.parent.parent) not in text, file.name
        assert "/tmp/" not in text, file.name


def test_the_generation_settings_stay_those_of_the_model(tiny_base_model: Path, tiny_quantized: Path) -> None:
    name = "generation_config.json"
    assert (tiny_quantized / name).read_bytes() == (tiny_base_model / name).read_bytes()


def test_everything_unpacked_is_stored_in_16_bits(tiny_quantized: Path) -> None:
    from safetensors.torch import load_file

    types = {str(tensor.dtype) for tensor in load_file(tiny_quantized / "model.safetensors").values()}
    assert types == {"torch.int32", "torch.float16"}
    assert json.loads((tiny_quantized / "config.json").read_text())["dtype"] == "float16"


def test_every_linear_layer_is_reported_and_none_fell_back(tiny_quantized: Path) -> None:
    report = json.loads((tiny_quantized.parent / "report.json").read_text())
    assert (report["num_layers"], report["num_fallback_layers"]) == (14, 0)


def test_fallback_layers_are_counted_and_their_loss_is_left_out(tmp_path: Path) -> None:
    log = tmp_path / "quant_log.csv"
    log.write_text(
        "layer,module,loss,samples,damp,time\n"
        "0,mlp.up_proj,0.25,512,0.05,0.1\n"
        "0,mlp.down_proj,rtn fallback,0,0.05,0.1\n"
        "1,mlp.up_proj,fallback(rtn): 0.0012345,0,0.05,0.1\n"
        "1,mlp.down_proj,0.75,512,0.05,0.1\n"
    )
    report = _read_quantizer_log(log)
    assert (report.num_layers, report.num_fallback_layers, report.mean_loss) == (4, 2, 0.5)
    assert not log.exists()


@pytest.mark.parametrize(
    ("group_size", "found"), [(128, "64 inputs of model.layers.0"), (48, "64 inputs"), (16, "no size")]
)
def test_a_group_size_that_does_not_fit_is_refused_before_anything_starts(
    tiny_base_model: Path, tmp_path: Path, group_size: int, found: str
) -> None:
    with pytest.raises(QuantizationError, match=found) as caught:
        quantize_gptq(
            tiny_base_model,
            tmp_path / "out",
            [[1, 2, 3]],
            QuantizationSettings(group_size=group_size),
            device="cpu",
            threads=1,
            log_file=tmp_path / "gptq.log",
        )
    assert "one of 32, 64 (" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_output_goes_to_the_log_and_comes_back_after(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with output_to_log(tmp_path / "log" / "noise.log") as progress:
        kept = sys.stdout
        print("banner")
        print("a progress bar", file=progress)
    kept.write("a thread that outlives the block")
    print("after")
    captured = capsys.readouterr()
    assert (tmp_path / "log" / "noise.log").read_text() == "banner\n"
    assert captured.out == "after\n"
    assert captured.err == "a progress bar\n"


def test_calibration_is_half_korean_half_english_and_of_prompts_with_answers(
    tiny_base_model: Path, labeled_rows: list[dict[str, object]]
) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_base_model)
    drawn = build_calibration(tokenizer, labeled_rows, num_documents=6, num_tokens=128, prompt_tokens=512, seed=17)
    assert drawn.languages == ["ko", "en"] * 3
    assert all(len(ids) == 128 for ids in drawn.sequences)
    assert drawn.num_tokens == 6 * 128
    # One of each language from the beginning, then one of each to the end.
    begin = ["Digest this technical document" in tokenizer.decode(ids) for ids in drawn.sequences]
    assert begin == [True, True, False, False, True, True]
    end = [tokenizer.decode(ids).endswith("}" + tokenizer.eos_token) for ids in drawn.sequences]
    assert end == [not begins for begins in begin]
    again = build_calibration(
        tokenizer, list(reversed(labeled_rows)), num_documents=6, num_tokens=128, prompt_tokens=512, seed=17
    )
    assert again == drawn


def test_where_one_language_runs_out_the_other_fills_up(
    tiny_base_model: Path, labeled_rows: list[dict[str, object]]
) -> None:
    from transformers import AutoTokenizer

    korean = [row for row in labeled_rows if row["language"] == "ko"][:1]
    english = [row for row in labeled_rows if row["language"] == "en"]
    tokenizer = AutoTokenizer.from_pretrained(tiny_base_model)
    drawn = build_calibration(tokenizer, korean + english, num_documents=5, num_tokens=64, prompt_tokens=512, seed=1)
    assert drawn.languages == ["ko", "en", "en", "en", "en"]


def test_calibration_without_a_labeled_document_is_refused(tiny_base_model: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_base_model)
    with pytest.raises(QuantizationError, match="nothing to calibrate on"):
        build_calibration(tokenizer, [], num_documents=5, num_tokens=64, prompt_tokens=512, seed=1)
