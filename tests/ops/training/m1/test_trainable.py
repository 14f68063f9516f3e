"""Which weights a run trains, phase by phase."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from smartdevdigest_ops.settings import LoraSettings, M1Settings
from smartdevdigest_ops.stage import StageContext
from smartdevdigest_ops.training.errors import TrainingError
from smartdevdigest_ops.training.m1.adaptation import Adaptation, Texts, adapt
from smartdevdigest_ops.training.m1.general import GeneralDocument, GeneralText
from smartdevdigest_ops.training.m1.trainable import (
    Phase,
    add_adapter_and_rows,
    choose_trainable,
    hold_in_four_bits,
    merge_adapter,
    plan_phases,
)

NEW_IDS = [1020, 1023]
CORPUS = [f"A pod holds container {number}. " * 20 for number in range(6)]
TEXTS = Texts(
    corpus=lambda: iter(CORPUS),
    name_of=lambda number: f"https://docs.example/{number}",
    general=GeneralText((GeneralDocument(id="g", language="en", split="replay", text="Soup needs salt. " * 30),)),
    held_out=[],
)


def settings_of(**changes: Any) -> M1Settings:
    given = {
        "batch_size": 2, "learning_rate": 2e-3, "epochs": 1, "warmup_steps": 1, "gradient_accumulation": 1,
        "sequence_length": 32, "max_steps": 6, "replay_share": 0.25,
    }  # fmt: skip
    return M1Settings(**(given | changes))


@pytest.fixture(scope="module")
def tokenizer(tiny_base_model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_base_model)


@pytest.fixture
def model(tiny_base_model: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_base_model)


def untied(model: Any) -> Any:
    """The model with an output matrix of its own."""
    from transformers import LlamaForCausalLM

    config = type(model.config).from_dict(model.config.to_dict() | {"tie_word_embeddings": False})
    torch.manual_seed(3)
    return LlamaForCausalLM(config)


def weights_of(model: Any) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.state_dict().items()}


def moved(before: dict[str, torch.Tensor], model: Any) -> set[str]:
    return {name for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])}


def test_embeddings_first_takes_its_steps_from_the_run() -> None:
    assert plan_phases(settings_of(), 12) == [Phase("full", 12)]
    first = settings_of(trainable="embeddings_first")
    assert plan_phases(first, 12) == [Phase("embeddings", 3, only_embeddings=True), Phase("all", 9)]
    five = first.model_copy(update={"embedding_steps": 5})
    assert [phase.num_steps for phase in plan_phases(five, 12)] == [5, 7]
    with pytest.raises(TrainingError, match="embedding_steps=5 is not below the run's 5"):
        plan_phases(five, 5)
    with pytest.raises(ValueError, match="embedding_steps=6 is not below max_steps=6"):
        settings_of(trainable="embeddings_first", embedding_steps=6)


def test_a_frozen_body_gets_no_gradient(model: Any) -> None:
    model = untied(model)
    matrices = {"model.embed_tokens.weight", "lm_head.weight"}
    size = model.get_input_embeddings().weight.numel()
    assert choose_trainable(model, Phase("embeddings", 1, only_embeddings=True)) == 2 * size
    ids = torch.arange(40)[None]
    model(input_ids=ids, labels=ids).loss.backward()
    assert {name for name, weight in model.named_parameters() if weight.grad is not None} == matrices

    assert choose_trainable(model, Phase("all", 1)) == model.num_parameters()
    model(input_ids=ids, labels=ids).loss.backward()
    assert all(weight.grad is not None for weight in model.parameters())


def test_the_first_phase_moves_the_embeddings_alone(model: Any, tokenizer: Any, context: StageContext) -> None:
    before = weights_of(model)
    settings = settings_of(trainable="embeddings_first", embedding_steps=2, max_steps=3)
    adapted = adapt(model, tokenizer, TEXTS, settings=settings, context=context)
    after_first = context.scratch / "embeddings" / "checkpoints" / "checkpoint-2" / "model.safetensors"
    from safetensors.torch import load_file

    first = load_file(after_first)
    body = {name: weight for name, weight in first.items() if "embed" not in name and "lm_head" not in name}
    assert all(torch.equal(weight, before[name]) for name, weight in body.items())
    assert not torch.equal(first["model.embed_tokens.weight"], before["model.embed_tokens.weight"])
    assert set(body) <= moved(before, adapted.model)
    assert [(row["step"], row["phase"]) for row in adapted.run.curve] == [(1, 0), (2, 0), (3, 1)]
    assert [row["tokens"] for row in adapted.run.curve] == [64, 128, 192]
    assert [row["text_bytes"] for row in adapted.curve()][-1] == adapted.text_bytes
    assert adapted.run.num_steps == 3


class Stopped(Exception):
    """Raised by a log line, in the place of a kill."""


@pytest.mark.parametrize("trainable", ["embeddings_first", "lora"])
def test_a_run_that_was_stopped_in_any_phase_ends_with_the_same_weights(
    trainable: str, model: Any, tokenizer: Any, context: StageContext, tiny_base_model: Path
) -> None:
    from transformers import AutoModelForCausalLM

    tracking = context.settings.tracking.model_copy(update={"checkpoint_steps": 1})
    settings = settings_of(trainable=trainable, objective="mlm", mask_token="<|im_start|>")
    settings = settings.model_copy(update={"lora": LoraSettings(rank=4, dropout=0.1)})

    def run(name: str, stop: str | None) -> Adaptation:
        def report_line(line: str) -> None:
            if stop is not None and stop in line:
                raise Stopped(line)

        scratch = context.scratch / name
        scratch.mkdir(exist_ok=True)
        of_run = dataclasses.replace(
            context,
            settings=context.settings.model_copy(update={"tracking": tracking}),
            scratch=scratch,
            report_line=report_line,
        )
        fresh = AutoModelForCausalLM.from_pretrained(tiny_base_model)
        return adapt(fresh, tokenizer, TEXTS, settings=settings, context=of_run, new_ids=NEW_IDS)

    whole = run("whole", None)
    for stop in ("step 1/1", "step 3/5") if trainable == "embeddings_first" else ("step 2/6", "step 4/6"):
        with pytest.raises(Stopped):
            run("stopped", stop)
    again = run("stopped", None)

    assert [row["loss"] for row in again.run.curve] == [row["loss"] for row in whole.run.curve]
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, again.model.state_dict()[name]), name


@pytest.mark.parametrize("tied", [True, False])
def test_an_adapter_with_rows_merges_into_a_plain_model_that_says_the_same(
    tied: bool, model: Any, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    model = model if tied else untied(model)
    before = weights_of(model)
    adapted = add_adapter_and_rows(model, LoraSettings(rank=4), NEW_IDS)
    ids = torch.tensor([[5, 1020, 7, 1023, 9, 11, 1020, 30]])
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=0.5)
    for _ in range(3):
        adapted(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.inference_mode():
        expected = adapted.eval()(input_ids=ids).logits
    merged = merge_adapter(adapted)
    merged.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()

    with torch.inference_mode():
        torch.testing.assert_close(loaded(input_ids=ids).logits, expected, atol=1e-5, rtol=1e-4)
    assert set(loaded.state_dict()) == set(before)
    assert (loaded.lm_head.weight is loaded.model.embed_tokens.weight) == tied
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        rows = (loaded.state_dict()[name] != before[name]).any(dim=1).nonzero().flatten().tolist()
        assert rows == NEW_IDS, name


def test_four_bits_without_cuda_are_refused_before_anything_is_written(model: Any, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(TrainingError, match=r"trainable=qlora .* no CUDA device"):
        hold_in_four_bits(model, tmp_path)
    assert not list(tmp_path.iterdir())
