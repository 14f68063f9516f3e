"""The loss and its gradients are those of all logits."""

import pytest
import torch

from smartdevdigest_ops.training.trainer.scored_positions import at_scored_positions, takes_positions


@pytest.fixture(scope="module")
def model(tiny_base_model):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_base_model, dtype=torch.float32)


@pytest.fixture
def inputs():
    ids_BT = torch.randint(5, 1000, (2, 24), generator=torch.Generator().manual_seed(3))
    labels_BT = ids_BT.clone()
    labels_BT[0, :14] = labels_BT[1, :18] = -100
    return {"input_ids": ids_BT, "labels": labels_BT}


def loss_and_gradients(model, inputs):
    model.zero_grad()
    output = model(**inputs, num_items_in_batch=torch.tensor(16))
    output.loss.backward()
    return output, {name: weight.grad.clone() for name, weight in model.named_parameters()}


def test_the_loss_and_its_gradients_are_those_of_all_positions(model, inputs):
    all_positions, expected = loss_and_gradients(model, inputs)
    some, found = loss_and_gradients(model, at_scored_positions(inputs))
    # From the token before the first target of either sequence to the last but one.
    assert some.logits.shape == (2, 10, 1024)
    assert torch.equal(some.logits, all_positions.logits[:, 13:23])
    assert torch.allclose(some.loss, all_positions.loss, rtol=1e-6)
    for name, gradient in found.items():
        assert torch.allclose(gradient, expected[name], rtol=1e-4, atol=1e-7), name


@pytest.mark.parametrize("first", [0, 5, 24])
def test_where_most_or_none_is_scored_all_is_computed_as_ever(inputs, first):
    inputs["labels"] = inputs["input_ids"].clone()
    inputs["labels"][:, :first] = -100
    assert at_scored_positions(inputs) is inputs


def test_an_adapter_is_asked_for_what_it_adapts(model):
    from peft import LoraConfig, get_peft_model

    assert takes_positions(model)
    assert takes_positions(get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")))
    assert not takes_positions(torch.nn.Linear(2, 2))
