"""Memory of a training step, part by part, from the shapes of its tensors.

What is held at once changes within a step; the peak is one of three moments, and the parts are those of that moment:

- loss: the backward pass begins. All activations, and the logits thrice (log-probabilities, their gradient, the
  logits' gradient); no gradient yet, unless micro-steps accumulate.
- output layer: its gradient and the logits' gradient, with all activations.
- end of backward: all gradients; the input embedding's, when tied, beside the output layer's until they are added.

Logits are counted at every position: for M2, which computes the answer's only (trainer/scored_positions.py), that is
the most there can be.

In between, a layer's activations go as its gradients come, so that memory moves evenly from one moment to the next.

What a layer of a gated decoder (Llama, Qwen, Mistral, Gemma) keeps for the backward pass, per token, with SDPA as
transformers writes it: D hidden, F intermediate, A = heads x head size.

    norm, twice           input (D), normalised (D; for the gradient of the norm's weight only), output (D)
    attention             queries, keys, values (A each: grouped heads are repeated), output (A)
    feed-forward          gate (F), its activation (F), up (F), their product (F)

In bfloat16 by autocast over float32 weights the residual stream and the norms stay float32, and each linear layer
keeps a bfloat16 copy of its own of its input. By the policy of FSDP, over several processes that hold parts of the
weights, all is bfloat16 but what a norm computes with (its input, D). The mask of packed documents, (B, T, T), is kept
by every layer. Attention weights are never whole: SDPA recomputes them (Dao et al. 2022, "FlashAttention", section
3.1).

In parts, weights, gradients and moments are divided by the processes. Beside them stand what is gathered (two layers,
one of them ahead of its use, and one matrix of the vocabulary) and what is not yet summed up: the gradients of one
layer or matrix, in the precision of computing and once more in float32 to be summed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from smartdevdigest_ops.training.errors import TrainingError

if TYPE_CHECKING:
    from transformers import PretrainedConfig

Trainable = Literal["full", "embeddings_first", "lora", "qlora"]
Precision = Literal["float32", "bfloat16"]
Sharding = Literal["replicated", "full"]

PARTS = ("weights", "gradients", "optimizer", "activations", "logits", "temporary")

RESERVED_BYTES = 3 * 2**29
"""Of each GPU: the CUDA context, NCCL's buffers, gaps between blocks. A rule of thumb, not measured here."""

_FLOAT32 = 4
_BFLOAT16 = 2
_INT64 = 8
_ADAM = 8
"""Bytes of both moments of a weight."""
_NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Bytes of a weight in 4 bits, with its share of the block's scale, itself in 8 bits (Dettmers et al. 2023, section 3).
"""


class PlanError(TrainingError):
    """What a plan needs to know is not there, or is of no shape that it knows."""


@dataclass(frozen=True)
class ModelShape:
    """What of a model decides the memory and the work of its training."""

    name: str
    num_layers: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_key_value_heads: int
    head_size: int
    vocab_size: int
    """Rows of the embeddings."""
    is_tied: bool
    linear_layers: tuple[tuple[int, int], ...]
    """(in, out) of every linear layer but the output layer."""
    num_other_parameters: int
    """Norms and biases."""

    @property
    def num_embedding_parameters(self) -> int:
        """Input embedding and output layer; one matrix where they are tied."""
        return self.vocab_size * self.hidden_size * (1 if self.is_tied else 2)

    @property
    def num_linear_parameters(self) -> int:
        """Of the linear layers but the output layer."""
        return sum(rows * columns for rows, columns in self.linear_layers)

    @property
    def num_parameters(self) -> int:
        """All of them."""
        return self.num_embedding_parameters + self.num_linear_parameters + self.num_other_parameters

    def num_lora_parameters(self, rank: int) -> int:
        """Of adapters on every linear layer but the output layer."""
        return sum(rank * (rows + columns) for rows, columns in self.linear_layers)


def shape_of(config: "PretrainedConfig", name: str) -> ModelShape:
    """The shape of the model that `config` describes, counted on a model without storage.

    Raises:
        PlanError: transformers has no causal language model for it, or it is no decoder with a gated feed-forward.
    """
    import torch
    from transformers import AutoModelForCausalLM

    config = config.get_text_config()
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        heads = config.num_attention_heads
        sizes = {
            "num_layers": config.num_hidden_layers,
            "hidden_size": config.hidden_size,
            "intermediate_size": config.intermediate_size,
            "num_heads": heads,
            "num_key_value_heads": getattr(config, "num_key_value_heads", None) or heads,
            "head_size": getattr(config, "head_dim", None) or config.hidden_size // heads,
        }
    except (AttributeError, ValueError, TypeError) as error:
        raise PlanError(
            f"{name}: a model of type {getattr(config, 'model_type', 'unknown')!r} cannot be planned ({error}), needed "
            "a causal decoder whose config.json has hidden_size, intermediate_size, num_hidden_layers and "
            "num_attention_heads (Llama, Qwen, Mistral, Gemma). Its memory must be measured on a short run instead."
        ) from None
    output = model.get_output_embeddings()
    linear = [
        (module.in_features, module.out_features)
        for module in model.modules()
        if isinstance(module, torch.nn.Linear) and module is not output
    ]
    rows, columns = model.get_input_embeddings().weight.shape
    is_tied = bool(getattr(config, "tie_word_embeddings", False))
    counted = sum(a * b for a, b in linear) + rows * columns * (1 if is_tied else 2)
    total = sum({id(weight): weight.numel() for weight in model.parameters()}.values())
    if is_tied and output is not None and output.weight is not model.get_input_embeddings().weight:
        total -= output.weight.numel()  # ties are made when weights are loaded
    return ModelShape(
        name=name,
        vocab_size=rows,
        is_tied=is_tied,
        linear_layers=tuple(linear),
        num_other_parameters=total - counted,
        **sizes,
    )


@dataclass(frozen=True)
class StepShape:
    """How one step is trained."""

    trainable: Trainable
    batch_size: int
    """B: sequences of a micro-step on one device."""
    sequence_length: int
    """T: tokens of a sequence."""
    accumulates: bool
    """Gradients are kept from one micro-step to the next."""
    precision: Precision
    base_precision: Precision = "float32"
    """Of frozen weights that are not held in 4 bits."""
    lora_rank: int = 16
    num_new_rows: int = 0
    """Embedding rows that are trained beside adapters."""
    is_packed: bool = False
    """Documents share sequences and a mask keeps them apart."""
    recomputes: bool = False
    """Gradient checkpointing: each layer keeps its input only, and is computed again on the way back."""
    fused_loss: bool = False
    """liger-kernel: the logits of a part of the tokens at a time, about as many bytes as the hidden states."""
    num_devices: int = 1
    sharding: Sharding = "replicated"

    @property
    def is_in_parts(self) -> bool:
        """Each device holds a part of the weights."""
        return self.sharding == "full" and self.num_devices > 1

    @property
    def bytes_of_computing(self) -> int:
        """Of a number in the precision of computing."""
        return _FLOAT32 if self.precision == "float32" else _BFLOAT16

    @property
    def trains_adapters(self) -> bool:
        """The model's own weights are frozen."""
        return self.trainable in ("lora", "qlora")


def num_trained(model: ModelShape, step: StepShape) -> int:
    """Weights that have gradients."""
    if not step.trains_adapters:
        return model.num_parameters
    matrices = 1 if model.is_tied else 2
    return model.num_lora_parameters(step.lora_rank) + step.num_new_rows * model.hidden_size * matrices


def step_memory(model: ModelShape, step: StepShape) -> tuple[str, dict[str, int]]:
    """The moment of the step's peak, and bytes per device by part (see PARTS) at that moment."""
    shards = step.num_devices if step.is_in_parts else 1
    trained = num_trained(model, step)
    matrix = model.vocab_size * model.hidden_size
    always = {"weights": _weight_bytes(model, step) / shards, "optimizer": _ADAM * trained / shards}
    gradients = _FLOAT32 * trained / shards
    activations = activation_bytes(model, step)
    width = model.hidden_size if step.fused_loss else model.vocab_size
    logits = step.batch_size * step.sequence_length * width * _FLOAT32
    standing = _standing_bytes(model, step, trained)
    held = gradients if step.accumulates else 0
    # Of a whole matrix: computed in bfloat16 where a part of it is held, as the weights are gathered so.
    of_gradient = step.bytes_of_computing if step.is_in_parts else _FLOAT32
    output_gradient = 0 if step.trains_adapters else of_gradient * matrix
    if step.is_in_parts and not model.is_tied:
        output_gradient += 0 if step.trains_adapters else _FLOAT32 * matrix  # to be summed
    twice = of_gradient * matrix if model.is_tied and not step.trains_adapters else 0
    last = layer_bytes(model, step) if step.recomputes else 0
    moments = {
        "loss": {"gradients": held, "activations": activations, "logits": 3 * logits, "temporary": standing},
        "output layer": {
            "gradients": held,
            "activations": activations,
            "logits": logits,
            "temporary": standing + output_gradient,
        },
        "end of backward": {
            "gradients": gradients,
            "activations": last,
            "logits": 0,
            "temporary": standing + twice + _unsharded_gradient_bytes(model, step),
        },
    }
    peak = max(moments, key=lambda name: sum(moments[name].values()))
    found: Mapping[str, float] = always | moments[peak]
    return peak, {part: round(found[part]) for part in PARTS}


def layer_bytes(model: ModelShape, step: StepShape) -> int:
    """What one layer keeps for the backward pass of a micro-step."""
    hidden, intermediate = model.hidden_size, model.intermediate_size
    attention = model.num_heads * model.head_size
    keys = attention if step.is_packed else model.num_key_value_heads * model.head_size
    heads = 2 * attention + 2 * keys
    per_token: float
    if step.precision == "float32":
        norms = (4 if step.trains_adapters else 6) * hidden
        per_token = _FLOAT32 * (norms + heads + 4 * intermediate)
        mask = _FLOAT32
    elif step.is_in_parts:
        # The norm's input in float32; what its weight multiplies, and its output, which linear layers share.
        norms = 2 * (_FLOAT32 + _BFLOAT16 * (1 if step.trains_adapters else 2)) * hidden
        per_token = norms + _BFLOAT16 * (heads + 4 * intermediate)
        mask = _BFLOAT16
    else:
        kept = 1 if step.trains_adapters else 2  # the norm's input, and what its weight multiplies
        copies = 5 * hidden  # for queries, keys, values, gate and up
        if step.trains_adapters:
            copies += attention + intermediate  # for the adapters of the attention's output and of down
        per_token = 2 * kept * _FLOAT32 * hidden + _BFLOAT16 * (copies + heads + 4 * intermediate)
        mask = _BFLOAT16
    if step.trains_adapters:
        of_adapter = step.bytes_of_computing if step.is_in_parts else _FLOAT32
        per_token += of_adapter * step.lora_rank * len(model.linear_layers) / model.num_layers
    per_token += _FLOAT32 * (model.num_heads + 2)  # log-sum-exp of the attention, and the norms' scales
    masked = mask * step.batch_size * step.sequence_length**2 if step.is_packed else 0
    return round(step.batch_size * step.sequence_length * per_token) + masked


def activation_bytes(model: ModelShape, step: StepShape) -> int:
    """What all layers and the last norm keep; with recomputation the layers' inputs, and one layer whole."""
    tokens = step.batch_size * step.sequence_length
    of_computing = step.bytes_of_computing if step.is_in_parts else _FLOAT32
    last_norm = _FLOAT32 * (model.hidden_size + 1) + 2 * of_computing * model.hidden_size
    if step.trains_adapters:  # without trained rows nothing before the first adapter or after the last has a gradient
        last_norm -= of_computing * model.hidden_size
        last_norm = last_norm if step.num_new_rows else 0
    rotation = 2 * of_computing * model.head_size
    shared = tokens * (last_norm + rotation + 2 * _INT64)  # ids and labels
    if not step.recomputes:
        return model.num_layers * layer_bytes(model, step) + shared
    is_bfloat16 = step.precision == "bfloat16" and (step.trains_adapters or step.is_in_parts)
    inputs = model.num_layers * tokens * model.hidden_size * (_BFLOAT16 if is_bfloat16 else _FLOAT32)
    return inputs + layer_bytes(model, step) + shared


def _weight_bytes(model: ModelShape, step: StepShape) -> float:
    """The weights as they are stored."""
    if not step.trains_adapters:
        return _FLOAT32 * model.num_parameters
    of_frozen = _FLOAT32 if step.base_precision == "float32" else _BFLOAT16
    of_linear = _NF4 if step.trainable == "qlora" else of_frozen
    frozen = of_linear * model.num_linear_parameters
    frozen += of_frozen * (model.num_embedding_parameters + model.num_other_parameters)
    return frozen + _FLOAT32 * num_trained(model, step)


def _standing_bytes(model: ModelShape, step: StepShape, trained: int) -> float:
    """Copies that are there from the forward pass to the end of the backward pass."""
    matrix = model.vocab_size * model.hidden_size
    if step.is_in_parts:
        return step.bytes_of_computing * (2 * model.num_linear_parameters / model.num_layers + matrix)
    # Replicas reduce their gradients in buckets beside them.
    buckets = _FLOAT32 * trained if step.num_devices > 1 else 0
    if step.trainable == "qlora":
        return buckets + _BFLOAT16 * max(rows * columns for rows, columns in model.linear_layers)  # one, unpacked
    # Autocast's copies of float32 weights: saved with the layers that they multiply in.
    casts = step.precision == "bfloat16" and (not step.trains_adapters or step.base_precision == "float32")
    return buckets + (_BFLOAT16 * (model.num_linear_parameters + matrix) if casts else 0)


def _unsharded_gradient_bytes(model: ModelShape, step: StepShape) -> float:
    """In parts: the input embedding's gradient, and the same to be summed; a layer's are fewer as a rule."""
    if not step.is_in_parts or step.trains_adapters:
        return 0
    largest = max(model.vocab_size * model.hidden_size, model.num_linear_parameters / model.num_layers)
    return (step.bytes_of_computing + _FLOAT32) * largest


def smallest_step(step: StepShape) -> StepShape:
    """Where the trainer ends that shrinks its micro-batch whenever memory runs out."""
    return replace(step, batch_size=1, accumulates=step.accumulates or step.batch_size > 1, recomputes=True)


def fits_replicated(model: ModelShape, step: StepShape, device_bytes: float, reserved: float = RESERVED_BYTES) -> bool:
    """Whether a device can hold the whole model with its gradients and moments, be it with the smallest step.

    As long as shrinking the step is enough, replicas are faster than parts: they gather nothing.
    """
    _, parts = step_memory(model, replace(smallest_step(step), sharding="replicated"))
    return sum(parts.values()) + reserved <= device_bytes
