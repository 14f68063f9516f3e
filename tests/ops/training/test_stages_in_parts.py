"""Both training stages over two processes that hold parts of the model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from training_processes import exit_codes, run_stage_of, two_processes

from smartdevdigest_ops.artifacts import ArtifactStore, Making
from smartdevdigest_ops.settings import Settings
from smartdevdigest_ops.training.errors import TrainingError
from smartdevdigest_ops.training.m1.trainable import refuse_adapters_in_parts

STAGES = {
    "m1": {
        "trainable": "embeddings_first",
        "max_steps": 6,
        "embedding_steps": 2,
        "gradient_accumulation": 2,
        "warmup_steps": 1,
        "sequence_length": 128,
        "learning_rate": 3e-3,
        "embedding_learning_rate": 5e-3,
        "evaluation_documents": 2,
        "evaluation_characters": 400,
        "max_general_increase": 1.0,
        "replay_share": 0.125,
        "new_rows": {"method": "mean"},
    },
    "m2": {"gradient_accumulation": 2, "max_steps": 3, "evaluation_documents": 2, "learning_rate": 1e-2},
}


@pytest.fixture
def settings(training_settings: Callable[..., Settings]) -> Callable[..., Settings]:
    """`settings(root, **of_training)`."""

    def build(root: str, **of_training: Any) -> Settings:
        model = {"precision": "float32", "device": "cpu", "threads": 1}
        return training_settings({"model": model, "training": STAGES | of_training}, root)

    return build


def run_in_parts(stage: str, settings: Settings, spec_file: Path) -> Making:
    """The making of two processes."""
    from conftest import spec_of  # the area's own

    spec = spec_of(stage, settings)
    spec.write(spec_file)
    calls = [((spec_file,), {"environment": environment}) for environment in two_processes()]
    assert exit_codes(*calls, target=run_stage_of) == [0, 0], spec_file.with_suffix(".error")
    store = ArtifactStore(settings.store_dir)
    making = store.making(stage, spec.fingerprint, None)
    assert making is not None
    assert not list((store.root / ".staging").iterdir())
    return making


def weights_of(settings: Settings, making: Making, name: str) -> dict[str, Any]:
    from safetensors.torch import load_file

    weights: dict[str, Any] = load_file(
        ArtifactStore(settings.store_dir).open(making.asset, making.version).path / name
    )
    return weights


def assert_as_alone(
    settings: tuple[Settings, Settings], makings: tuple[Making, Making], weights_file: str, tolerance: float
) -> None:
    """The second of the two published files and reported metrics like the first, to rounding."""
    import torch

    alone, together = makings
    directories = [
        ArtifactStore(of.store_dir).open(making.asset, making.version).path
        for of, making in zip(settings, makings, strict=True)
    ]
    assert sorted(path.name for path in directories[1].iterdir()) == sorted(
        path.name for path in directories[0].iterdir()
    )
    for name in ("config.json", "generation_config.json", "adapter_config.json"):
        if (directories[0] / name).exists():
            assert (directories[1] / name).read_text() == (directories[0] / name).read_text()
    expected, found = (weights_of(of, making, weights_file) for of, making in zip(settings, makings, strict=True))
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, atol=tolerance, rtol=0, msg=name)
    for name in alone.metrics.keys() - {"tokens_per_second"}:
        # Held-out answers of two processes are weighted by their tokens, of one alike.
        relative = 1e-3 if name.startswith("valid_loss") else 1e-5
        assert together.metrics[name] == pytest.approx(alone.metrics[name], rel=relative), name
    assert [check["passed"] for check in together.checks] == [check["passed"] for check in alone.checks]


def test_m1_and_m2_of_two_processes_publish_the_plain_models_that_one_process_makes(
    settings: Callable[..., Settings], run: Callable[..., Making], tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    alone, together = settings("alone"), settings("together", sharding="full", processes=2)
    m1 = run("m1_checkpoint", alone), run_in_parts("m1_checkpoint", together, tmp_path / "m1.json")
    assert_as_alone((alone, together), m1, "model.safetensors", 2e-6)
    directory = ArtifactStore(together.store_dir).open("m1_checkpoint", m1[1].version).path
    model = AutoModelForCausalLM.from_pretrained(directory)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert model.config.architectures == ["LlamaForCausalLM"]

    # With a first gradient of nearly 0 Adam's steps, of up to the rate of 0.01, follow its rounding.
    m2 = run("m2_adapter", alone), run_in_parts("m2_adapter", together, tmp_path / "m2.json")
    assert_as_alone((alone, together), m2, "adapter_model.safetensors", 1e-3)


def test_m1_refuses_an_adapter_over_a_model_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_adapters_in_parts("full", "lora")  # one process: nothing is in parts
    monkeypatch.setenv("WORLD_SIZE", "2")
    refuse_adapters_in_parts("auto", "lora")
    refuse_adapters_in_parts("full", "embeddings_first")
    with pytest.raises(TrainingError, match=r"merges its adapter.*Set training\.sharding to replicated"):
        refuse_adapters_in_parts("full", "lora")
