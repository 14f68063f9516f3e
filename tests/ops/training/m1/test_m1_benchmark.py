"""What the benchmarks of M1 measure with."""

import argparse
import json
import time
from pathlib import Path

import pytest

from benchmarks import m1, m1_training
from benchmarks.m1_curve import Run, read_readings
from benchmarks.m1_training import Meter, TimeIsUp, load_for_m1, read_texts, scratch_context
from smartdevdigest_ops.training.errors import TrainingError


@pytest.fixture
def model(tiny_base_model: Path):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_base_model).train()


def test_the_meter_counts_what_is_trained_on_without_padding_and_without_the_step_that_is_not_over(model):
    import torch

    meter = Meter(model, seconds=float("inf"), skip=1)
    mask_BT = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    for _ in range(4):
        model(input_ids=torch.ones(2, 4, dtype=torch.long), attention_mask=mask_BT)
    assert (meter.micro_steps, meter.tokens, meter.positions) == (2, 12, 16)
    model.eval()
    model(input_ids=torch.ones(1, 4, dtype=torch.long))
    assert meter.micro_steps == 2


def test_the_meter_ends_a_training_between_two_micro_steps_and_lets_the_model_go(model):
    import torch

    ids_BT = torch.ones(1, 4, dtype=torch.long)
    meter = Meter(model, seconds=0.0)
    with pytest.raises(TimeIsUp):
        model(input_ids=ids_BT)
    assert model(input_ids=ids_BT).logits.shape[:2] == (1, 4)
    assert meter.micro_steps == 0


@pytest.mark.parametrize(("device", "num_synchronized"), [("cpu", 0), ("cuda", 4)])
def test_the_meter_of_a_gpu_reads_the_clock_after_its_work_is_done_also_with_one_thread(
    monkeypatch: pytest.MonkeyPatch, device: str, num_synchronized: int
):
    import torch

    class OnDevice(torch.nn.Module):
        device = torch.device("cpu")

        def forward(self, input_ids):
            time.sleep(0.05)  # as a processor that only waits for a GPU

    synchronized = []
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(m1_training, "_synchronize", synchronized.append)
    model = OnDevice()
    model.device = torch.device(device)
    meter = Meter(model, seconds=float("inf"))
    for _ in range(2):
        model(input_ids=torch.ones(1, 4, dtype=torch.long))
    assert synchronized == ["cuda"] * num_synchronized
    assert (meter.seconds >= 0.05) == (device == "cuda")


@pytest.mark.parametrize("way", ["ours", "Trainer"])
def test_a_shape_whose_memory_ran_out_is_a_row_of_the_table_and_another_error_is_none(monkeypatch, way: str):
    import torch

    options = argparse.Namespace(batch=1, sequence_length=16)
    errors = {
        "ours": TrainingError("m1_checkpoint: memory ran out with micro-batches of 1 sequence, the smallest."),
        "Trainer": torch.OutOfMemoryError("CUDA out of memory."),
    }

    def run_out(*_: object, **__: object) -> None:
        raise errors[way]

    monkeypatch.setattr(m1, "train_packed", run_out)
    monkeypatch.setattr("transformers.Trainer.train", run_out)
    monkeypatch.setattr(m1, "matrix_product_limit", lambda device: 1.0)
    reading = m1.train_cuda_shape("tiny", way, options)
    assert m1.cuda_table([reading])[-1] == f"| tiny | {way} | out of memory | | |"

    errors[way] = TrainingError("m1_checkpoint: the training has diverged.")
    with pytest.raises(TrainingError, match="diverged"):
        m1.train_cuda_shape("tiny", way, options)


def test_held_out_texts_are_the_test_split(tmp_path: Path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    for split, languages in (("train", ["ko", "en"]), ("test", ["en", "ko", "en"])):
        rows = [{"language": language, "content": f"{split} {number}"} for number, language in enumerate(languages)]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{split}.parquet")
    assert read_texts(tmp_path) == (["train 0", "train 1"], {"en": ["test 0", "test 2"], "ko": ["test 1"]})


def test_a_run_is_a_name_with_settings_and_a_tokenizer_of_its_own():
    given = Path("domain_tokenizer")
    assert Run.parse("unextended", given) == Run("unextended", None)
    assert Run.parse("mlm:objective=mlm,mask_ratio=0.3", given) == Run(
        "mlm", given, {"objective": "mlm", "mask_ratio": "0.3"}
    )
    assert Run.parse("small:tokenizer=other", given) == Run("small", Path("other"))
    assert Run.parse("fitted:minutes_before=35,max_steps=90", given) == Run("fitted", given, {"max_steps": "90"}, 35.0)
    with pytest.raises(ValueError, match="needs a tokenizer"):
        Run.parse("extended", None)


def test_a_domain_tokenizer_extends_the_model_and_a_whole_model_is_taken_as_it_is(
    tiny_base_model: Path, domain_tokenizer_dir: Path, tmp_path: Path
):
    context = scratch_context(tmp_path, {"batch_size": 1, "sequence_length": 16, "warmup_steps": 0})
    base, _ = load_for_m1(tiny_base_model, None, context)
    extended, tokenizer = load_for_m1(tiny_base_model, domain_tokenizer_dir, context)
    assert extended.config.vocab_size == len(tokenizer) == base.config.vocab_size + 2
    extended.save_pretrained(tmp_path / "whole")
    tokenizer.save_pretrained(tmp_path / "whole")
    whole, _ = load_for_m1(tiny_base_model, tmp_path / "whole", context)
    assert whole.config.vocab_size == extended.config.vocab_size


def test_of_two_readings_of_one_step_the_later_counts(tmp_path: Path):
    file = tmp_path / "readings.jsonl"
    readings = [
        {"run": "extended", "step": step, "seconds": seconds} for step, seconds in ((5, 2.0), (0, 0.0), (5, 3.0))
    ]
    file.write_text("".join(json.dumps(reading) + "\n" for reading in readings), encoding="utf-8")
    assert [(reading["step"], reading["seconds"]) for reading in read_readings(file)] == [(0, 0.0), (5, 3.0)]
    assert read_readings(tmp_path / "nothing") == []
