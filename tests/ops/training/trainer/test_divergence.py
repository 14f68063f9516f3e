"""When a run has diverged, and what is kept and said then."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smartdevdigest_ops.settings import Settings, TrainingSettings
from smartdevdigest_ops.stage import StageContext
from smartdevdigest_ops.training.errors import TrainingError
from smartdevdigest_ops.training.trainer.checkpoints import last_checkpoint
from smartdevdigest_ops.training.trainer.divergence import Divergence, steps_above
from smartdevdigest_ops.training.trainer.run import TrainingData, train

CALM = [4.0, 3.0] * 6  # median 3.5


def settings(**changes: Any) -> TrainingSettings:
    given = {"batch_size": 1, "learning_rate": 1e-4, "epochs": 1, "warmup_steps": 0, "gradient_accumulation": 1}
    return TrainingSettings(**(given | changes))


def history(losses: list[float]) -> list[dict[str, float]]:
    return [{"step": step, "loss": loss, "grad_norm": 1.0} for step, loss in enumerate(losses, start=1)]


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([*CALM, 7.0], 0),
        ([*CALM, 7.1], 1),
        ([*CALM, 9.0, 9.0, 9.0], 3),  # a median of the calm losses only
        ([*CALM, 9.0, 9.0, 3.0], 0),
        ([*CALM, 9.0, 3.0, 9.0], 1),
        ([1.0] * 9 + [99.0], 0),  # too few to know a median by
    ],
)
def test_steps_are_counted_that_lie_above_twice_the_running_median(losses: list[float], expected: int) -> None:
    assert steps_above(losses, 2.0) == expected


def test_so_many_steps_in_a_row_are_divergence_since_the_first_of_them() -> None:
    divergence = Divergence(settings(divergence_steps=3))
    assert divergence.found(history([*CALM, 9.0, 9.0])) is None
    assert divergence.is_above(history([*CALM, 9.0, 9.0]))
    found = divergence.found(history([*CALM, 9.0, 9.0, 9.5]))
    assert found is not None
    step, what = found
    assert step == 13
    assert what == "the loss has been above 2 times its running median for 3 steps (at last 9.500), since step 13"


def test_a_gradient_that_is_not_finite_is_divergence_at_once() -> None:
    log = [{"step": 1, "loss": 3.0, "grad_norm": float("inf")}]
    assert Divergence(settings()).found(log) == (1, "the gradient norm is inf at step 1")


class Documents:
    """32 sequences, learnable but for those from the 24th on, which hold one random token after another."""

    def __len__(self) -> int:
        return 32

    def __getitem__(self, index: int) -> dict[str, Any]:
        import torch

        if index < 24:
            ids = torch.full((64,), 7)
        else:
            ids = torch.randint(0, 1000, (64,), generator=torch.Generator().manual_seed(index))
        return {"input_ids": ids, "labels": ids}

    def documents_of(self, index: int) -> list[str]:
        return [f"https://example.org/{index}"]


def test_a_diverging_run_stops_keeps_the_checkpoint_from_before_and_names_the_documents(
    context: StageContext, training_settings: Callable[..., Settings], tiny_base_model: Path
) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_base_model)
    context = replace(context, settings=training_settings({"tracking": {"checkpoint_steps": 1}}))
    with pytest.raises(TrainingError, match=r"since step 25 of 32: .*documents https://example\.org/24\. Lower"):
        train(
            model,
            TrainingData(train=Documents(), sequences_per_item=1, in_order=True),
            stage="m1_checkpoint",
            settings=settings(learning_rate=5e-3),
            context=context,
        )
    found = last_checkpoint(context.scratch / "checkpoints")
    assert found is not None
    assert found[1]["global_step"] == 24
