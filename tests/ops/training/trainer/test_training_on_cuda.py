"""What only a CUDA device can show: the tiny model trained in bfloat16, with the kernels that are installed."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from training_processes import Sequences

from smartdevdigest_ops.settings import Settings, TrainingSettings
from smartdevdigest_ops.stage import StageContext
from smartdevdigest_ops.training.packing import pack_documents
from smartdevdigest_ops.training.trainer.micro_batches import MicroBatch
from smartdevdigest_ops.training.trainer.run import TrainingData, TrainingRun, train


def has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not has_cuda(), reason="no CUDA device")]

SETTINGS = TrainingSettings(
    batch_size=4, gradient_accumulation=2, learning_rate=3e-3, epochs=99, warmup_steps=2, max_steps=12
)


@pytest.fixture
def cuda_context(context: StageContext, training_settings: Any) -> StageContext:
    settings: Settings = training_settings({"model": {"device": "cuda", "threads": 1}})
    return replace(context, settings=settings)


def run(base_model: Path, context: StageContext, data: Any) -> tuple[Any, TrainingRun]:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base_model).to("cuda")
    found = train(
        model,
        TrainingData(train=data, sequences_per_item=1, held_out=data),
        stage="m1_checkpoint",
        settings=SETTINGS,
        context=context,
    )
    return model, found


def test_the_tiny_model_learns_in_bfloat16_and_is_float32_again_afterwards(
    tiny_base_model: Path, cuda_context: StageContext
) -> None:
    import torch

    model, found = run(tiny_base_model, cuda_context, Sequences(21))

    assert "bfloat16 autocast" in found.kernels
    assert all(math.isfinite(loss) for loss in found.losses)
    assert found.losses[-1] < found.losses[0]
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    ids = torch.arange(16, device="cuda")[None]
    assert model(input_ids=ids).logits.dtype == torch.float32


def test_packed_documents_lose_on_this_device_what_they_lose_in_parts_of_one_sequence(
    tiny_base_model: Path, cuda_context: StageContext, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_base_model)
    packed = pack_documents(tokenizer, ["A pod holds containers. " * 9] * 20, sequence_length=64, seed=1)
    _, whole = run(tiny_base_model, cuda_context, packed)
    (tmp_path / "parts").mkdir()
    parts = replace(cuda_context, scratch=tmp_path / "parts")
    for _ in range(2):
        MicroBatch.open(4, parts.scratch / "micro_batch.json").shrink()
    _, found = run(tiny_base_model, parts, packed)

    assert found.micro_batch == "micro-batches of 1 sequence"
    # bfloat16 keeps 8 bits.
    assert found.losses == pytest.approx(whole.losses, rel=2e-2)
