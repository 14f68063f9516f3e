"""The run that M1 and M2 share: determinism, resuming, divergence."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smartdevdigest_ops.artifacts import Making
from smartdevdigest_ops.settings import PROJECT_DIR, Settings, TrainingSettings
from smartdevdigest_ops.stage import StageContext, StageSpec, get_stage, run_stage
from smartdevdigest_ops.training.errors import TrainingError
from smartdevdigest_ops.training.packing import pack_documents
from smartdevdigest_ops.training.trainer.run import TrainingData, count_steps, parameter_groups, train

# An epoch of the fixture's corpus is a few optimizer steps, the last of them of fewer micro-steps: a resume falls into
# the middle of one order of the data and goes on into the next.
SEVERAL_EPOCHS: dict[str, Any] = {
    "tracking": {"checkpoint_steps": 3},
    "training": {
        "m1": {
            "max_steps": 8,
            "batch_size": 8,
            "gradient_accumulation": 5,
            "sequence_length": 128,
            "epochs": 9,
            "learning_rate": 2e-3,
            "evaluation_documents": 1,
            "evaluation_characters": 200,
        }
    },
}


def budget(**changes: Any) -> TrainingSettings:
    given = {"batch_size": 2, "learning_rate": 1e-3, "epochs": 1, "warmup_steps": 0, "gradient_accumulation": 1}
    return TrainingSettings(**(given | changes))


class Stopped(Exception):
    """Raised by a log line, in the place of a kill."""


def stop_at(part: str) -> Callable[[str], None]:
    def report_line(line: str) -> None:
        if part in line:
            raise Stopped(line)

    return report_line


@pytest.fixture
def spec(training_settings: Callable[..., Settings]) -> Callable[..., StageSpec]:
    """`spec(name, overrides, root)` plans a training stage on a store of its own."""
    from conftest import spec_of  # the area's own

    def plan(name: str, overrides: dict[str, Any], root: str) -> StageSpec:
        return spec_of(name, training_settings(overrides, root))

    return plan


@pytest.fixture
def tiny_model(tiny_base_model: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_base_model)


@pytest.fixture
def packed(tiny_base_model: Path) -> Any:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_base_model)
    return pack_documents(tokenizer, ["A pod holds containers. " * 60], sequence_length=64, seed=1)


def making_of(spec: StageSpec, report_line: Callable[[str], None] | None = None) -> Making:
    making, made = run_stage(spec, report_line)
    assert made
    return making


def test_a_run_that_was_stopped_and_made_again_ends_with_the_same_bytes(spec: Callable[..., StageSpec]) -> None:
    whole = making_of(spec("m1_checkpoint", SEVERAL_EPOCHS, "whole"))
    stopped = spec("m1_checkpoint", SEVERAL_EPOCHS, "stopped")
    for moment in ("step 5/8", "bits per byte, trained"):
        with pytest.raises(Stopped):
            run_stage(stopped, stop_at(moment))
    lines: list[str] = []
    again = making_of(stopped, lines.append)

    assert not any("resuming" in line for line in lines)  # the second try got to the end and was stopped after it
    assert again.version == whole.version


@pytest.mark.slow
def test_a_process_killed_at_a_step_is_resumed_with_the_same_bytes(
    spec: Callable[..., StageSpec], tmp_path: Path
) -> None:
    m2 = {"max_steps": 50, "epochs": 20, "evaluation_documents": 1, "lora": {"dropout": 0.1}}
    making_of(spec("m1_checkpoint", {}, "whole"))
    shutil.copytree(tmp_path / "whole", tmp_path / "killed")
    whole = making_of(spec("m2_adapter", {"training": {"m2": m2}}, "whole"))
    killed = spec("m2_adapter", {"training": {"m2": m2}}, "killed")
    killed.write(tmp_path / "spec.json")
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from smartdevdigest_ops.stage import StageSpec, run_stage\n"
        "def line(text):\n"
        "    if 'step 40/50' in text: os.kill(os.getpid(), signal.SIGKILL)\n"
        "run_stage(StageSpec.read(Path(sys.argv[1])), line)\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "spec.json")], cwd=PROJECT_DIR, capture_output=True, check=False
    )
    assert process.returncode == -signal.SIGKILL, process.stderr.decode()[-2000:]
    lines: list[str] = []
    again = making_of(killed, lines.append)

    assert any("resuming after step 25 of 50" in line for line in lines)
    assert again.version == whole.version


def test_a_run_whose_last_checkpoint_is_the_end_is_not_trained_further(
    context: StageContext, tiny_base_model: Path, packed: Any
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    weights, runs = [], []
    for _ in range(2):
        model = AutoModelForCausalLM.from_pretrained(tiny_base_model)
        data = TrainingData(train=packed, sequences_per_item=1, held_out=packed)
        runs.append(train(model, data, stage="m1_checkpoint", settings=budget(max_steps=3), context=context))
        weights.append(model.state_dict())

    assert runs[0].curve == runs[1].curve
    assert runs[0].held_out_loss_after == runs[1].held_out_loss_after
    for name, weight in weights[0].items():
        assert torch.equal(weight, weights[1][name]), name


def test_a_loss_that_is_not_finite_stops_the_run_at_its_step_and_names_the_setting(
    context: StageContext, tiny_model: Any, packed: Any
) -> None:
    import torch

    with torch.no_grad():
        tiny_model.model.norm.weight[0] = float("nan")
    with pytest.raises(TrainingError, match=r"loss is nan at step 1 of 3.*training\.m1\.learning_rate"):
        train(
            tiny_model,
            TrainingData(train=packed, sequences_per_item=1),
            stage="m1_checkpoint",
            settings=budget(max_steps=3),
            context=context,
        )
    assert not list((context.scratch / "checkpoints").glob("checkpoint-*"))


def test_the_curve_has_one_row_per_step_and_no_timing(context: StageContext, tiny_model: Any, packed: Any) -> None:
    run = train(
        tiny_model,
        TrainingData(train=packed, sequences_per_item=1, held_out=packed),
        stage="m1_checkpoint",
        settings=budget(max_steps=3),
        context=context,
    )
    run.write_curve(context.out)
    rows = [json.loads(line) for line in (context.out / "training_curve.jsonl").read_text().splitlines()]

    assert [row["step"] for row in rows] == [1, 2, 3]
    assert [row["tokens"] for row in rows] == [128, 256, 384]
    assert set(rows[0]) == {"step", "loss", "learning_rate", "tokens"}
    assert set(rows[-1]) == {"step", "loss", "learning_rate", "tokens", "held_out_loss"}
    assert run.held_out_loss_after is not None
    assert run.held_out_loss_before is not None
    assert run.held_out_loss_after < run.held_out_loss_before


def test_steps_are_the_epochs_unless_the_budget_is_smaller() -> None:
    # 40 sequences in steps of 2 x 3: the last step is filled from a fifth pass.
    settings = {"batch_size": 2, "gradient_accumulation": 3, "epochs": 4}
    assert count_steps(10, budget(**settings), "m1_checkpoint") == 7
    assert count_steps(10, budget(**settings, max_steps=3), "m1_checkpoint") == 3


def test_a_warm_up_as_long_as_the_run_is_refused() -> None:
    with pytest.raises(TrainingError, match=r"training\.m2: .*5 optimizer steps.*warmup_steps=5"):
        count_steps(10, budget(warmup_steps=5), "m2_adapter")


def test_the_embedding_matrix_has_its_own_rate_and_vectors_no_decay(tiny_model: Any) -> None:
    groups = parameter_groups(tiny_model, budget(weight_decay=0.1), 5e-3)

    matrices, vectors, embeddings = groups
    assert embeddings["lr"] == 5e-3
    assert [p.shape for p in embeddings["params"]] == [tiny_model.get_input_embeddings().weight.shape]
    assert {p.ndim for p in matrices["params"]} == {2}
    assert "lr" not in matrices
    assert {p.ndim for p in vectors["params"]} == {1}
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0, 0.0]
    assert sum(len(group["params"]) for group in groups) == len(list(tiny_model.parameters()))


def test_the_weights_of_the_lowest_held_out_loss_are_the_ones_that_come_out(
    context: StageContext, tiny_model: Any, packed: Any
) -> None:
    import torch

    # So high a rate that the loss soon rises again.
    settings = budget(max_steps=6, learning_rate=0.3, evaluation_steps=1, divergence_factor=100)
    data = TrainingData(train=packed, sequences_per_item=1, held_out=packed)
    run = train(tiny_model, data, stage="m1_checkpoint", settings=settings, context=context)

    losses = [row["held_out_loss"] for row in run.curve]
    assert run.best_step is not None
    assert run.best_step < 6
    assert run.held_out_loss_after == min(losses) == losses[run.best_step - 1]
    tiny_model.eval()
    with torch.inference_mode():
        found = [
            tiny_model(**{name: value[None] for name, value in packed[index].items()}, use_cache=False).loss.item()
            for index in range(len(packed))
        ]
    assert sum(found) / len(found) == pytest.approx(min(losses), rel=1e-4)


def test_a_run_that_no_longer_improves_ends_early_and_is_not_taken_up_again(
    context: StageContext, tiny_model: Any, packed: Any
) -> None:
    # So high a rate that the loss soon rises again, over more passes than it is given.
    settings = budget(
        max_steps=30,
        epochs=99,
        learning_rate=0.3,
        evaluation_steps=1,
        divergence_factor=100,
        early_stopping_evaluations=3,
    )
    data = TrainingData(train=packed, sequences_per_item=1, held_out=packed)
    first = train(tiny_model, data, stage="m1_checkpoint", settings=settings, context=context)
    again = train(tiny_model, data, stage="m1_checkpoint", settings=settings, context=context)

    assert first.best_step is not None
    assert first.num_steps == first.best_step + 3 < 30
    assert (again.num_steps, again.best_step, again.curve) == (first.num_steps, first.best_step, first.curve)


def test_a_model_evaluated_and_trained_before_is_trained_in_bfloat16_again_and_left_in_float32(
    context: StageContext, training_settings: Callable[..., Settings], tiny_model: Any, packed: Any, tmp_path: Path
) -> None:
    import torch

    types: list[tuple[bool, torch.dtype]] = []
    tiny_model.model.layers[0].mlp.down_proj.register_forward_hook(
        lambda layer, inputs, output: types.append((layer.training, output.dtype))
    )
    context = replace(context, settings=training_settings({"model": {"precision": "bfloat16", "device": "cpu"}}))
    data = TrainingData(train=packed, sequences_per_item=1, held_out=packed)
    for phase in ("first", "second"):
        (tmp_path / phase).mkdir()
        part = replace(context, scratch=tmp_path / phase)
        train(tiny_model, data, stage="m1_checkpoint", settings=budget(max_steps=1), context=part)
        assert set(types) == {(False, torch.bfloat16), (True, torch.bfloat16)}
        types.clear()
    tiny_model(packed[0]["input_ids"][None])
    assert types[-1][1] == torch.float32


def test_held_out_sequences_are_as_many_as_their_share_of_the_run_pays_for(
    context: StageContext, tiny_model: Any
) -> None:
    import torch

    drawn: set[int] = set()

    class Counted(list[Any]):
        def __getitem__(self, index: Any) -> Any:
            drawn.add(index)
            return super().__getitem__(index)

    ids = torch.arange(32) % 900
    train_on = [{"input_ids": ids, "labels": ids} for _ in range(40)]
    data = TrainingData(train=train_on, sequences_per_item=1, held_out=Counted(train_on), max_evaluation_share=0.1)
    train(tiny_model, data, stage="m1_checkpoint", settings=budget(max_steps=20), context=context)

    # 40 sequences trained cost as much as 120 evaluated; a tenth of that, for one evaluation before and one after.
    assert drawn == {0, 6, 13, 20, 26, 33}


def test_both_stages_run_in_a_process_of_their_own() -> None:
    assert get_stage("m1_checkpoint").own_process
    assert get_stage("m2_adapter").own_process
