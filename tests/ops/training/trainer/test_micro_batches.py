"""Memory that runs out: smaller micro-batches, the same optimizer step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from training_processes import Sequences, fail_to_allocate, limit_memory

from smartdevdigest_ops.settings import TrainingSettings
from smartdevdigest_ops.stage import StageContext
from smartdevdigest_ops.training.errors import TrainingError
from smartdevdigest_ops.training.trainer.micro_batches import MicroBatch, flatten_rows, is_out_of_memory
from smartdevdigest_ops.training.trainer.run import TrainingData, TrainingRun, train


def fail_like_a_gpu() -> None:
    import torch

    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")


def run(model: Any, context: StageContext, *, batch_size: int, gradient_accumulation: int) -> TrainingRun:
    settings = TrainingSettings(
        batch_size=batch_size,
        gradient_accumulation=gradient_accumulation,
        learning_rate=1e-3,
        epochs=9,
        warmup_steps=0,
        max_steps=3,
    )
    data = TrainingData(train=Sequences(21), sequences_per_item=1)
    return train(model, data, stage="m1_checkpoint", settings=settings, context=context)


@pytest.fixture
def load(tiny_base_model: Path) -> Callable[[], Any]:
    from transformers import AutoModelForCausalLM

    return lambda: AutoModelForCausalLM.from_pretrained(tiny_base_model)


@pytest.mark.parametrize("fail", [fail_to_allocate, fail_like_a_gpu])
def test_a_run_that_ran_out_of_memory_learns_what_the_smaller_micro_batch_learns(
    context: StageContext, load: Callable[[], Any], fail: Callable[[], None], tmp_path: Path
) -> None:
    import dataclasses

    import torch

    limited, small = load(), load()
    limit_memory(limited, 1, fail)
    found = run(limited, context, batch_size=4, gradient_accumulation=2)
    (tmp_path / "small").mkdir()
    lines = list(context.report_line.lines)  # type: ignore[attr-defined]
    expected = run(
        small, dataclasses.replace(context, scratch=tmp_path / "small"), batch_size=1, gradient_accumulation=8
    )

    assert found.losses == pytest.approx(expected.losses, rel=1e-5)
    assert found.tokens_seen == expected.tokens_seen
    for name, weight in small.state_dict().items():
        torch.testing.assert_close(limited.state_dict()[name], weight, atol=1e-5, rtol=1e-4)
    assert found.micro_batch == "micro-batches of 1 sequence"
    said = [line for line in lines if "memory ran out" in line]
    assert len(said) == 2
    assert "going on with micro-batches of 2 sequences, the optimizer step stays the same" in said[0]
    assert MicroBatch.open(4, context.scratch / "micro_batch.json").sequences == 1


def test_memory_too_small_for_one_sequence_is_an_error_that_says_what_was_tried(
    context: StageContext, load: Callable[[], Any]
) -> None:
    model = load()
    limit_memory(model, 0, fail_to_allocate)
    with pytest.raises(
        TrainingError, match=r"1 sequence and gradient checkpointing, the smallest .*training\.m1\.sequence_length"
    ):
        run(model, context, batch_size=2, gradient_accumulation=1)


def test_gradient_checkpointing_is_the_last_resort_and_changes_no_gradient(
    context: StageContext, load: Callable[[], Any], tmp_path: Path
) -> None:
    import dataclasses

    checkpointed, plain = load(), load()
    MicroBatch(1, False, context.scratch / "micro_batch.json").shrink()
    found = run(checkpointed, context, batch_size=2, gradient_accumulation=1)
    (tmp_path / "plain").mkdir()
    expected = run(
        plain, dataclasses.replace(context, scratch=tmp_path / "plain"), batch_size=2, gradient_accumulation=1
    )

    assert found.micro_batch == "micro-batches of 1 sequence and gradient checkpointing"
    assert found.losses == pytest.approx(expected.losses, rel=1e-5)


def test_another_runtime_error_is_not_taken_for_one_of_memory() -> None:
    assert not is_out_of_memory(RuntimeError("shapes cannot be multiplied"))
    with pytest.raises(RuntimeError) as caught:
        fail_to_allocate()
    assert is_out_of_memory(caught.value)


def test_rows_put_into_one_give_the_loss_they_give_as_rows(load: Callable[[], Any]) -> None:
    import torch

    model = load().eval()
    ids_BT = torch.randint(0, 300, (3, 32), generator=torch.Generator().manual_seed(5))
    rows = {"input_ids": ids_BT, "labels": ids_BT, "position_ids": torch.arange(16).repeat(3, 2)}
    with torch.inference_mode():
        expected, found = (
            model(**inputs, use_cache=False, num_items_in_batch=3 * 31).loss for inputs in (rows, flatten_rows(rows))
        )
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
