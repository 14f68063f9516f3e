"""Fixtures that every area shares: a tiny model, the shipped sample, settings in a scratch store."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.pop("SMARTDEVDIGEST_STORE", None)
os.environ.pop("SMARTDEVDIGEST_PROFILE", None)

from smartdevdigest_ops.artifacts import Making
from smartdevdigest_ops.contracts import CrawlRecord, Label
from smartdevdigest_ops.settings import PROJECT_DIR, Settings, load_settings
from smartdevdigest_ops.stage import plan_stage, run_stage

SAMPLE_DIR = PROJECT_DIR / "data" / "sample"
# In the order in which they start: test_graph.py alone takes about 350 CPU seconds.
LONG_FILES = (
    *("test_graph.py", "test_execution.py", "test_graph_runs.py"),
    *("test_conditions.py", "test_conditions_failures.py", "test_conditions_in_progress.py"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the long files first where each of several processes takes whole files (`make test`).

    Last, as the order of the folders has it, they would be what one process still does while the others have ended. A
    plain `pytest` keeps that order: who broke something small learns it soon.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = {name: number for number, name in enumerate(LONG_FILES)}
        items.sort(key=lambda item: place.get(item.path.name, len(place)))


@pytest.fixture(scope="session")
def tiny_base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a tiny random Llama (vocabulary 1,024, hidden size 64, 2 layers) and its tokenizer."""
    from smartdevdigest_ops.models.tiny import build_tiny_llama

    directory = tmp_path_factory.mktemp("tiny_base_model")
    build_tiny_llama(directory)
    return directory


@pytest.fixture(scope="session")
def instruct_model(tmp_path_factory: pytest.TempPathFactory, tiny_base_model: Path) -> Path:
    """The tiny model with room for the instruction."""
    directory = tmp_path_factory.mktemp("instruct") / "model"
    shutil.copytree(tiny_base_model, directory)
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 8192}))
    return directory


@pytest.fixture(scope="session")
def tiny_adapter(tiny_base_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter on every linear layer of the tiny model, with random A and B."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    out = tmp_path_factory.mktemp("tiny_adapter")
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_pretrained(tiny_base_model)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter.data, std=0.05)
    adapted.peft_config["default"].base_model_name_or_path = "m1_checkpoint"
    adapted.save_pretrained(out)
    return out


@pytest.fixture(scope="session")
def sample_documents() -> list[CrawlRecord]:
    """The 80 documents of data/sample, in the order of their drops."""
    lines = [line for path in sorted((SAMPLE_DIR / "drops").glob("*.jsonl")) for line in path.open(encoding="utf-8")]
    return [CrawlRecord.model_validate(json.loads(line)) for line in lines]


@pytest.fixture(scope="session")
def sample_labels() -> dict[str, Label]:
    """The labels of data/sample, by URL."""
    lines = [line for path in sorted(SAMPLE_DIR.glob("labels.*.jsonl")) for line in path.open(encoding="utf-8")]
    labels = [Label.model_validate(json.loads(line)) for line in lines]
    return {label.url: label for label in labels}


@pytest.fixture
def ci_settings(tmp_path: Path) -> Settings:
    """The `ci` profile with its store in a scratch directory."""
    return load_settings("ci", overrides={"store": {"root": str(tmp_path / "store")}})


@pytest.fixture
def run() -> Callable[..., Making]:
    """`run(name, settings, partition=None)` plans and runs one stage in this process."""

    def run_one(name: str, settings: Settings, partition: str | None = None) -> Making:
        making, _ = run_stage(plan_stage(name, settings, partition))
        return making

    return run_one
