"""What a sequence asks of the model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from smartdevdigest_ops.settings import M1Settings
from smartdevdigest_ops.training.errors import TrainingError
from smartdevdigest_ops.training.m1.objectives import (
    IGNORED,
    NEXT_TOKEN,
    Objective,
    build_objective,
    choose_mask_id,
    is_encoder,
    refuse_encoder,
    share_at,
)

BOUNDARY, MASK = 0, 1
EVERY_SEQUENCE = ((0.0, 1.0),)


def item_of(token_ids: list[int]) -> dict[str, torch.Tensor]:
    ids = torch.tensor(token_ids)
    return {"input_ids": ids, "position_ids": torch.arange(len(ids)), "labels": ids.clone()}


@pytest.fixture
def item() -> dict[str, torch.Tensor]:
    return item_of([BOUNDARY, *range(10, 60), BOUNDARY, *range(60, 110)])


def masked_inputs(**changes: Any) -> Objective:
    given = {"masked_share": EVERY_SEQUENCE, "ratio": 0.15, "mask_id": MASK, "kept_ids": frozenset({BOUNDARY})}
    return Objective(**(given | changes))


def settings_of(**changes: Any) -> M1Settings:
    given = {"batch_size": 2, "learning_rate": 1e-3, "epochs": 1, "warmup_steps": 0, "gradient_accumulation": 1}
    return M1Settings(**(given | changes))


@pytest.fixture(scope="module")
def tokenizer(tiny_base_model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_base_model)


def test_masked_inputs_hide_the_share_asked_for_and_leave_every_target_as_it_was(item) -> None:
    prepared = masked_inputs().prepare(item, 0.5, np.random.default_rng(1))
    masked = prepared["input_ids"] == MASK

    assert int(masked.sum()) == 15  # of 100 that are no boundary
    assert torch.equal(prepared["input_ids"][~masked], item["input_ids"][~masked])
    assert torch.equal(prepared["labels"], item["labels"])
    assert not (prepared["labels"] == MASK).any()
    assert (prepared["input_ids"] == BOUNDARY).sum() == 2
    assert not (item["input_ids"] == MASK).any()  # the dataset's own item is not changed


def test_a_models_loss_cannot_see_the_tokens_that_were_masked(tiny_base_model: Path) -> None:
    """Two texts that differ only where they are masked give the same predictions everywhere."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_base_model).eval()
    objective = masked_inputs(ratio=0.3)
    original = item_of([BOUNDARY, *range(100, 163)])
    masked = (objective.prepare(original, 0.0, np.random.default_rng(5))["input_ids"] == MASK).nonzero().flatten()
    other = {name: tensor.clone() for name, tensor in original.items()}
    other["input_ids"][masked] = other["labels"][masked] = 900
    logits = []
    with torch.inference_mode():
        for each in (original, other):
            prepared = objective.prepare(each, 0.0, np.random.default_rng(5))
            logits.append(model(input_ids=prepared["input_ids"][None], use_cache=False).logits)
    assert len(masked) == 19
    assert torch.equal(logits[0], logits[1])


def test_encoders_are_asked_for_the_chosen_tokens_alone_at_their_own_places(item) -> None:
    long = item_of([BOUNDARY, *([10, 20, 30, 40] * 2500)])
    prepared = masked_inputs(random_ids=50).prepare(long, 0.0, np.random.default_rng(2))
    inputs, labels = prepared["input_ids"], prepared["labels"]
    asked = labels != IGNORED

    assert int(asked.sum()) == 1500
    assert torch.equal(labels[asked], long["input_ids"][asked])
    assert torch.equal(inputs[~asked], long["input_ids"][~asked])
    assert not asked[0]
    shares = [(inputs[asked] == MASK), (inputs[asked] == labels[asked])]
    assert [round(float(share.float().mean()), 1) for share in shares] == [0.8, 0.1]
    assert int(inputs[asked].max()) < 50


def test_an_encoders_loss_is_that_of_the_chosen_tokens_at_their_own_places(item) -> None:
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(1)
    model = BertForMaskedLM(
        BertConfig(vocab_size=128, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    ).eval()
    prepared = masked_inputs(random_ids=128).prepare(item, 0.0, np.random.default_rng(3))
    with torch.inference_mode():
        output = model(input_ids=prepared["input_ids"][None], labels=prepared["labels"][None])
    places = (prepared["labels"] != IGNORED).nonzero().flatten()
    surprisals = [-output.logits[0, place].log_softmax(-1)[item["input_ids"][place]] for place in places]

    assert len(places) == 15
    assert float(output.loss) == pytest.approx(float(sum(surprisals)) / 15, rel=1e-5)


def test_a_schedule_moves_along_straight_lines_between_its_points() -> None:
    points = ((0.0, 1.0), (0.5, 1.0), (1.0, 0.0))
    assert [share_at(points, done) for done in (0.0, 0.25, 0.5, 0.75, 1.0)] == [1.0, 1.0, 1.0, 0.5, 0.0]


def test_mixed_masks_the_share_of_sequences_that_is_due(item) -> None:
    objective = masked_inputs(masked_share=((0.0, 1.0), (1.0, 0.0)))

    def num_masked(done: float) -> int:
        prepared = (objective.prepare(item, done, np.random.default_rng([9, n])) for n in range(400))
        return sum(bool((each["input_ids"] == MASK).any()) for each in prepared)

    assert num_masked(0.0) == 400
    assert num_masked(1.0) == 0
    assert 80 < num_masked(0.75) < 120


def test_next_token_prediction_changes_nothing(item) -> None:
    assert NEXT_TOKEN.prepare(item, 0.5, np.random.default_rng(1)) is item


@pytest.mark.parametrize(
    "points", [(), ((0.1, 1.0), (1.0, 0.0)), ((0.0, 1.0), (0.5, 0.0)), ((0.0, 1.0), (0.0, 0.5)), ((0.0, 1.5),)]
)
def test_a_schedule_that_leaves_a_part_of_the_run_undefined_is_refused(points) -> None:
    with pytest.raises(ValueError, match="masked_share="):
        settings_of(masked_share=points)


def test_a_token_without_a_use_masks(tokenizer) -> None:
    from transformers import AutoTokenizer

    with pytest.raises(TrainingError, match=r"no special token without a use.*training\.m1\.mask_token"):
        choose_mask_id(tokenizer)
    with pytest.raises(TrainingError, match=r"mask_token='<nothing>' is no token"):
        choose_mask_id(tokenizer, "<nothing>")
    assert choose_mask_id(tokenizer, "<|im_start|>") == tokenizer.bos_token_id
    other = AutoTokenizer.from_pretrained(tokenizer.name_or_path)
    other.add_tokens(["<repo_name>", "<empty_output>"], special_tokens=True)
    assert choose_mask_id(other) == len(other) - 1
    other.add_tokens(["<unused7>", "<unused8>"])
    assert choose_mask_id(other) == other.convert_tokens_to_ids("<unused7>")
    other.mask_token = "<repo_name>"
    assert choose_mask_id(other) == other.convert_tokens_to_ids("<repo_name>")


def test_the_settings_choose_the_objective_and_special_tokens_are_never_masked(tokenizer, tiny_base_model) -> None:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(tiny_base_model)
    asked = {"mask_token": "<|im_start|>", "mask_ratio": 0.3}
    assert build_objective(settings_of(), tokenizer, config) is NEXT_TOKEN
    always = build_objective(settings_of(objective="mlm", **asked), tokenizer, config)
    assert (always.masked_share, always.ratio, always.random_ids) == (EVERY_SEQUENCE, 0.3, None)
    assert set(tokenizer.all_special_ids) <= always.kept_ids
    mixed = build_objective(settings_of(objective="mixed", **asked), tokenizer, config)
    assert mixed.masked_share == ((0.0, 1.0), (1.0, 0.0))
    config.architectures = ["BertForMaskedLM"]
    assert build_objective(settings_of(objective="mlm", **asked), tokenizer, config).random_ids == len(tokenizer)


def test_an_encoder_is_no_base_model_for_digests(tiny_base_model: Path) -> None:
    from transformers import AutoConfig, BertConfig

    refuse_encoder(AutoConfig.from_pretrained(tiny_base_model))
    encoder = BertConfig(architectures=["BertForMaskedLM"])
    assert is_encoder(encoder)
    with pytest.raises(TrainingError, match="BertForMaskedLM, which fills in masked"):
        refuse_encoder(encoder)
