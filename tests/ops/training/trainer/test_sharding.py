"""One model in parts over two processes."""

import json
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from training_processes import exit_codes, result, two_processes

from smartdevdigest_ops.settings import Settings, TrainingSettings, load_settings
from smartdevdigest_ops.stage import StageContext
from smartdevdigest_ops.training.errors import TrainingError
from smartdevdigest_ops.training.plan.memory import StepShape, fits_replicated
from smartdevdigest_ops.training.plan.plan import load_shape
from smartdevdigest_ops.training.trainer.micro_batches import MicroBatch
from smartdevdigest_ops.training.trainer.run import TrainingData, train
from smartdevdigest_ops.training.trainer.sharding import choose_sharding, shard

SETTINGS = TrainingSettings(
    batch_size=2, gradient_accumulation=4, learning_rate=3e-3, epochs=9, warmup_steps=2, max_steps=8, evaluation_steps=4
)
QWEN = Path(__file__).parents[1] / "plan" / "qwen2.5-32b.config.json"


def in_parts(base_model: Path, directory: Path, settings: TrainingSettings = SETTINGS, **options: Any) -> list[Any]:
    """The calls of two processes that train a model in parts together in `directory`."""
    given = {"sharded": True, "precision": "float32"} | options
    return [
        ((base_model, directory, settings), given | {"environment": environment}) for environment in two_processes()
    ]


@pytest.fixture(scope="module")
def runs(tiny_base_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with what one process learned, `one`, and what two with parts of the model did, `parts`."""
    directory = tmp_path_factory.mktemp("runs")
    one = ((tiny_base_model, directory / "one", SETTINGS), {"environment": {}, "precision": "float32"})
    assert exit_codes(one, *in_parts(tiny_base_model, directory / "parts")) == [0, 0, 0]
    return directory


def assert_same_run(found: dict[str, Any], expected: dict[str, Any], *, loss: float, weights: float) -> None:
    """Losses to a relative and weights to an absolute tolerance."""
    import torch

    assert len(found["run"]["curve"]) == SETTINGS.max_steps
    for row, of_expected in zip(found["run"]["curve"], expected["run"]["curve"], strict=True):
        assert row == pytest.approx(of_expected, rel=loss)
    assert found["weights"].keys() == expected["weights"].keys()
    for name, weight in expected["weights"].items():
        torch.testing.assert_close(found["weights"][name], weight, atol=weights, rtol=0, msg=name)


def test_two_processes_with_parts_of_the_model_learn_what_one_learns(runs: Path) -> None:
    """As replicas do (test_distributed_training.py). The held-out losses of all four evaluations are in the curves."""
    expected = result(runs / "one")
    # Measured: 5e-7 and 3e-8.
    assert_same_run(result(runs / "parts"), expected, loss=2e-6, weights=1e-6)
    assert expected["run"]["curve"][-1]["loss"] < expected["run"]["curve"][0]["loss"]


def test_each_process_holds_half_of_every_weight_and_no_checkpoint_holds_it_whole(runs: Path) -> None:
    parts = [json.loads((runs / "parts" / f"parts-{rank}.json").read_text()) for rank in (0, 1)]
    for name, (whole, part) in parts[0].items():
        assert part == parts[1][name][1] == whole // 2, name
    checkpoint = runs / "parts" / "checkpoints" / "checkpoint-8"
    for kind in ("pytorch_model_fsdp_0", "optimizer_0"):
        first, second = ((checkpoint / kind / f"__{rank}_0.distcp").stat().st_size for rank in (0, 1))
        assert 1 / 3 < first / (first + second) < 2 / 3
    assert not list(checkpoint.glob("*.safetensors"))


def test_the_gathered_model_is_tied_as_the_base_is(runs: Path, tiny_base_model: Path) -> None:
    from transformers import AutoConfig

    assert AutoConfig.from_pretrained(tiny_base_model).tie_word_embeddings
    weights = result(runs / "parts")["weights"]
    assert weights["lm_head.weight"].data_ptr() == weights["model.embed_tokens.weight"].data_ptr()


def test_a_run_whose_process_was_killed_goes_on_with_the_same_bytes(
    runs: Path, tiny_base_model: Path, tmp_path: Path
) -> None:
    import torch

    # Each process draws 4 sequences a step: the second dies in step 6, after the checkpoint of step 4.
    first, second = in_parts(tiny_base_model, tmp_path / "killed")
    codes = exit_codes(first, (second[0], second[1] | {"killed_at_item": 23}))
    assert codes[0] != 0
    assert codes[1] == -signal.SIGKILL
    sealed = [path.parent.name for path in (tmp_path / "killed" / "checkpoints").glob("*/complete.json")]
    assert sealed == ["checkpoint-4"]
    assert exit_codes(*in_parts(tiny_base_model, tmp_path / "killed")) == [0, 0]

    whole, again = result(runs / "parts"), result(tmp_path / "killed")
    assert again["run"]["curve"] == whole["run"]["curve"]
    assert again["run"]["best_step"] == whole["run"]["best_step"]
    for name, weight in whole["weights"].items():
        assert torch.equal(weight, again["weights"][name]), name


def test_memory_that_runs_out_in_one_process_ends_both_and_the_next_try_is_smaller(
    runs: Path, tiny_base_model: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "small"
    first, second = in_parts(tiny_base_model, directory)
    codes = exit_codes(first, (second[0], second[1] | {"most_sequences": 1}))
    assert 0 not in codes
    assert MicroBatch.open(2, directory / "micro_batch.json").sequences == 1
    # Gradient checkpointing too: it computes a block again amid the backward pass of a model in parts.
    MicroBatch.open(2, directory / "micro_batch.json").shrink()
    assert exit_codes(*in_parts(tiny_base_model, directory, most_sequences=1)) == [0, 0]

    found = result(directory)
    assert found["run"]["micro_batch"] == "micro-batches of 1 sequence and gradient checkpointing"
    assert_same_run(found, result(runs / "one"), loss=2e-6, weights=1e-6)


def test_in_bfloat16_master_weights_stay_float32(runs: Path, tiny_base_model: Path, tmp_path: Path) -> None:
    import torch

    two_steps = SETTINGS.model_copy(update={"max_steps": 3, "evaluation_steps": 3})
    assert exit_codes(*in_parts(tiny_base_model, tmp_path / "bf16", two_steps, precision="bfloat16")) == [0, 0]
    found, expected = result(tmp_path / "bf16"), result(runs / "one")
    for row, of_expected in zip(found["run"]["curve"], expected["run"]["curve"], strict=False):
        assert row["loss"] != of_expected["loss"]
        assert row["loss"] == pytest.approx(of_expected["loss"], rel=1e-3)
    assert {weight.dtype for weight in found["weights"].values()} == {torch.float32}
    # More digits than bfloat16 has.
    assert any((weight != weight.bfloat16()).any() for weight in found["weights"].values())


def test_a_checkpoint_in_parts_is_refused_by_replicas(runs: Path, context: StageContext, tiny_base_model: Path) -> None:
    from training_processes import Sequences
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_base_model)
    context = replace(context, scratch=runs / "parts")
    data = TrainingData(train=Sequences(21), sequences_per_item=1)
    with pytest.raises(TrainingError, match=r"written with training\.sharding=full.*two processes or more"):
        train(model, data, stage="m1_checkpoint", settings=SETTINGS, context=context)


def test_the_setting_decides_and_one_process_or_a_cpu_never_needs_parts(
    context: StageContext, training_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    step = StepShape("full", 1, 64, True, "float32", num_devices=2)

    def chosen(sharding: str) -> bool:
        settings = training_settings({"training": {"sharding": sharding}, "model": {"device": "cpu"}})
        return choose_sharding(replace(context, settings=settings), None, step)

    assert not chosen("full")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert chosen("full")
    assert not chosen("replicated")
    assert not chosen("auto")


def test_replicas_of_a_32b_model_fit_no_gpu_of_80_gib_and_those_of_a_small_step_decide() -> None:
    qwen = load_shape(load_settings("gpu-30b"), QWEN)
    small = replace(qwen, num_layers=8, linear_layers=qwen.linear_layers[: len(qwen.linear_layers) // 16])
    step = StepShape("full", 16, 2048, True, "bfloat16", is_packed=True, num_devices=8)
    assert not fits_replicated(qwen, step, 80 * 2**30)
    # Replicas of 2 billion weights or so: too large as set, not with one sequence at a time.
    assert not fits_replicated(small, step, 60 * 2**30)
    assert fits_replicated(small, step, 80 * 2**30)


def test_weights_with_fewer_rows_than_processes_are_refused(
    context: StageContext, tiny_base_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM

    monkeypatch.setenv("WORLD_SIZE", "65")
    with pytest.raises(TrainingError, match=r"has 1024 rows, which 65 processes cannot share"):
        shard(AutoModelForCausalLM.from_pretrained(tiny_base_model), context)
