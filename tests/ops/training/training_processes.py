"""A small training run in a process of its own, which may be killed or be one of several."""

import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forked_processes import fork

from smartdevdigest_ops.artifacts import ArtifactStore
from smartdevdigest_ops.settings import TrainingSettings, load_settings
from smartdevdigest_ops.stage import StageContext, StageSpec, running
from smartdevdigest_ops.stage import process as stage_process
from smartdevdigest_ops.training.trainer.run import TrainingData, train
from smartdevdigest_ops.training.trainer.sharding import gather, load_for_sharding, shard

RESULT = "result.pt"


@dataclass
class Sequences:
    """A dataset of `number` sequences of 32 tokens, which kills the process at the draw of item number `killed_at`."""

    number: int
    killed_at: int | None = None
    drawn: int = field(default=0)

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, index: int) -> dict[str, Any]:
        import torch

        self.drawn += 1
        if self.drawn == self.killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        ids = torch.randint(0, 300, (32,), generator=torch.Generator().manual_seed(index))
        return {"input_ids": ids, "labels": ids.clone()}


def run_training(
    base_model: Path,
    directory: Path,
    settings: TrainingSettings,
    *,
    tracking: dict[str, Any] | None = None,
    killed_at_item: int | None = None,
    killed_in_save: int | None = None,
    most_sequences: int | None = None,
    environment: dict[str, str] | None = None,
    sharded: bool = False,
    precision: str = "auto",
) -> None:
    """Train the tiny model in `directory` and save losses and weights to `result.pt` there.

    Args:
        base_model: the tiny model.
        directory: of one making; another call with it resumes.
        settings: the budget.
        tracking: settings of that section.
        killed_at_item: SIGKILL when so many training sequences were drawn.
        killed_in_save: SIGKILL half-way through the so-many-th file that torch.save writes.
        most_sequences: memory runs out amid the backward pass of more than that.
        environment: variables of the process.
        precision: `model.precision`.
        sharded: the model is cut up; each process then saves beside it how much it held (`parts-RANK.json`).
    """
    os.environ.update(environment or {})
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    if killed_in_save is not None:
        torch.save = _killed_save(torch.save, killed_in_save)
    directory.mkdir(exist_ok=True)
    tree = {
        "store": {"root": str(directory / "store")},
        "tracking": tracking or {},
        "model": {"device": "cpu", "precision": precision},
    }
    context = StageContext(
        load_settings("ci", overrides=tree),
        {},
        directory,
        directory,
        ArtifactStore(directory / "store"),
        None,
        lambda line: None,
    )
    # Dropout, so that a resumed run needs the random state too.
    if sharded:
        model = shard(load_for_sharding(base_model, torch.float32), context)
        parts = {name: [weight.numel(), weight.to_local().numel()] for name, weight in model.named_parameters()}
        (directory / f"parts-{os.environ['RANK']}.json").write_text(json.dumps(parts))
    else:
        model = AutoModelForCausalLM.from_pretrained(base_model, attention_dropout=0.1 if environment is None else 0.0)
    if most_sequences is not None:
        limit_memory(model, most_sequences, fail_to_allocate)
    run = train(
        model,
        TrainingData(train=Sequences(21, killed_at_item), sequences_per_item=1, held_out=Sequences(4)),
        stage="m1_checkpoint",
        settings=settings,
        context=context,
    )
    if sharded:
        model = gather(model, torch.float32)
    if os.environ.get("RANK", "0") == "0":
        torch.save({"run": run.__dict__, "weights": model.state_dict()}, directory / RESULT)


def fail_to_allocate() -> None:
    """The CPU allocator's own error."""
    import torch

    torch.empty(2**60, dtype=torch.uint8)


def limit_memory(model: Any, most_sequences: int, fail: Callable[[], None]) -> None:
    """Let `fail` happen amid the backward pass of more sequences than that: half the gradients are there by then."""

    def check(module: Any, gradients_in: Any, gradients_out: Any) -> None:
        if gradients_out[0].shape[0] > most_sequences:
            fail()

    model.model.layers[0].register_full_backward_hook(check)


def _killed_save(save: Callable[..., None], at: int) -> Callable[..., None]:
    calls = 0

    def killed(value: Any, path: Any, *args: Any, **options: Any) -> None:
        nonlocal calls
        calls += 1
        save(value, path, *args, **options)
        if calls == at:
            os.truncate(path, os.path.getsize(path) // 2)  # noqa: PTH202
            os.kill(os.getpid(), signal.SIGKILL)

    return killed


def run_stage_of(spec: Path, *, environment: dict[str, str], killed_at_line: str | None = None) -> None:
    """Be one process of a stage, as torch's launcher starts it; SIGKILL at the line for the log that says so."""
    os.environ.update(environment)
    import torch

    torch.set_num_threads(1)
    if killed_at_line is not None:
        running.print_line = _killed_line(killed_at_line)
    sys.exit(stage_process.main([StageSpec.read(spec).stage, str(spec)]))


def _killed_line(part: str) -> Callable[[str], None]:
    def line(text: str) -> None:
        if part in text:
            os.kill(os.getpid(), signal.SIGKILL)
        print(text, file=sys.stderr, flush=True)

    return line


def two_processes() -> list[dict[str, str]]:
    """The environments of two processes that work together, as torch's launcher sets them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    together = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [together | {"RANK": rank, "LOCAL_RANK": rank} for rank in ("0", "1")]


def exit_codes(
    *calls: tuple[tuple[Any, ...], dict[str, Any]], target: Callable[..., None] = run_training
) -> list[int | None]:
    """How `target` ended for each of these arguments, run side by side."""
    processes = [fork(target, *args, **options) for args, options in calls]
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def result(directory: Path) -> dict[str, Any]:
    """What `run_training` saved."""
    import torch

    saved: dict[str, Any] = torch.load(directory / RESULT, weights_only=False)
    return saved
