from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from smartdevdigest_ops.training.plan.memory import (
    PARTS,
    ModelShape,
    PlanError,
    StepShape,
    activation_bytes,
    num_trained,
    shape_of,
    step_memory,
)


@pytest.fixture(scope="module")
def tiny_shape(tiny_base_model: Path) -> ModelShape:
    from transformers import AutoConfig

    return shape_of(AutoConfig.from_pretrained(tiny_base_model), "tiny")


def llama(**changes: object):
    from transformers import LlamaConfig

    sizes = {
        "vocab_size": 320, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 4, "tie_word_embeddings": False,
    }  # fmt: skip
    return LlamaConfig(**(sizes | changes))


def configurations() -> Iterator[object]:
    from transformers import Gemma3TextConfig, Qwen2Config

    yield llama()
    yield llama(tie_word_embeddings=True, num_key_value_heads=2, head_dim=24)
    yield Qwen2Config(  # biases on queries, keys and values
        vocab_size=320, hidden_size=48, intermediate_size=80, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2,
    )  # fmt: skip
    yield Gemma3TextConfig(
        vocab_size=320, hidden_size=48, intermediate_size=80, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=1, head_dim=16,
    )  # fmt: skip


def test_parameters_are_counted_as_the_model_has_them():
    from transformers import AutoModelForCausalLM

    for config in configurations():
        model = AutoModelForCausalLM.from_config(config)
        assert shape_of(config, "it").num_parameters == sum(weight.numel() for weight in model.parameters())


@pytest.mark.parametrize("sharding", ["replicated", "full"])
@pytest.mark.parametrize("is_packed", [True, False])
@pytest.mark.parametrize("trainable", ["full", "lora"])
def test_activations_are_those_that_torch_saves_for_the_backward_pass(
    tiny_base_model: Path, tiny_shape: ModelShape, trainable: str, is_packed: bool, sharding: str
):
    """In parts, each layer computes as a model does whose weights are bfloat16."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    batch_size, length = 2, 192
    precision = "float32" if sharding == "replicated" else "bfloat16"
    model = AutoModelForCausalLM.from_pretrained(tiny_base_model, dtype=getattr(torch, precision))
    own = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    if trainable == "lora":
        model = get_peft_model(
            model,
            LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM"),
            autocast_adapter_dtype=sharding == "replicated",
        )
        own |= {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    ids_BT = torch.randint(0, tiny_shape.vocab_size, (batch_size, length))
    half = torch.arange(length // 2)
    positions_T = torch.cat([half, half]) if is_packed else torch.arange(length)
    saved: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(
            input_ids=ids_BT, position_ids=positions_T.repeat(batch_size, 1), labels=ids_BT, use_cache=False
        ).loss
    assert loss.requires_grad
    measured = sum(tensor.untyped_storage().nbytes() for place, tensor in saved.items() if place not in own)
    logits = 4 * ids_BT.numel() * tiny_shape.vocab_size
    step = StepShape(
        trainable, batch_size, length, False, precision, is_packed=is_packed, num_devices=2, sharding=sharding
    )
    # Scalars and the like are not counted.
    assert activation_bytes(tiny_shape, step) == pytest.approx(measured - logits, rel=0.005)


def test_full_training_in_float32_is_sixteen_bytes_a_weight_and_what_the_tokens_take(tiny_shape: ModelShape):
    weights = tiny_shape.num_parameters
    moment, parts = step_memory(tiny_shape, StepShape("full", 1, 8, False, "float32"))
    assert tuple(parts) == PARTS
    assert moment == "end of backward"  # with so few tokens the gradients are more than the activations
    assert [parts[name] for name in PARTS[:4]] == [4 * weights, 4 * weights, 8 * weights, 0]
    moment, parts = step_memory(tiny_shape, StepShape("full", 8, 512, False, "float32"))
    assert (moment, parts["gradients"]) == ("loss", 0)
    assert parts["logits"] == 3 * 8 * 512 * tiny_shape.vocab_size * 4
    _, accumulating = step_memory(tiny_shape, StepShape("full", 8, 512, True, "float32"))
    assert accumulating["gradients"] == 4 * weights


def test_adapters_leave_gradients_and_optimizer_to_what_is_trained(tiny_shape: ModelShape):
    step = StepShape("lora", 8, 512, True, "bfloat16", "bfloat16", lora_rank=4, num_new_rows=10)
    trained = sum(4 * (rows + columns) for rows, columns in tiny_shape.linear_layers) + 10 * tiny_shape.hidden_size
    assert num_trained(tiny_shape, step) == trained
    _, parts = step_memory(tiny_shape, step)
    assert parts["weights"] == 2 * tiny_shape.num_parameters + 4 * trained
    assert (parts["gradients"], parts["optimizer"], parts["temporary"]) == (4 * trained, 8 * trained, 0)
    _, of_float32 = step_memory(tiny_shape, replace(step, base_precision="float32"))
    assert of_float32["weights"] == 4 * tiny_shape.num_parameters + 4 * trained
    multiplying = tiny_shape.num_linear_parameters + tiny_shape.vocab_size * tiny_shape.hidden_size
    assert of_float32["temporary"] == 2 * multiplying


def test_four_bits_are_of_the_linear_layers_only(tiny_shape: ModelShape):
    step = StepShape("qlora", 8, 512, True, "bfloat16", "bfloat16", lora_rank=4)
    _, parts = step_memory(tiny_shape, step)
    others = tiny_shape.num_parameters - tiny_shape.num_linear_parameters
    expected = 0.516 * tiny_shape.num_linear_parameters + 2 * others + 4 * num_trained(tiny_shape, step)
    assert parts["weights"] == pytest.approx(expected, rel=0.001)


def test_sharding_divides_what_stands_and_not_what_the_tokens_take(tiny_shape: ModelShape):
    alone = StepShape("full", 8, 512, True, "float32")
    of_four = StepShape("full", 8, 512, True, "float32", num_devices=4, sharding="full")
    (_, whole), (_, shard) = step_memory(tiny_shape, alone), step_memory(tiny_shape, of_four)
    for part in ("weights", "gradients", "optimizer"):
        assert shard[part] == pytest.approx(whole[part] / 4, abs=1)
    assert (shard["activations"], shard["logits"]) == (whole["activations"], whole["logits"])
    assert shard["temporary"] > whole["temporary"]


def test_a_model_of_another_kind_is_refused():
    from transformers import GPT2Config

    with pytest.raises(PlanError, match=r"gpt2.*needed a causal decoder"):
        shape_of(GPT2Config(n_layer=1, n_embd=16, n_head=2, vocab_size=64), "gpt2")
