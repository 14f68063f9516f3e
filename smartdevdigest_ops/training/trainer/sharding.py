"""One model cut up over several processes (FSDP2): each holds a part of every weight, its gradient and its moments.

    load      whole in the first process's host memory; shapes alone in the others
    shard     weight by weight to every process, which keeps its part; the unit is a block of the model
    compute   a block is gathered for as long as it computes, in the precision of computing; its gradients are summed in
              float32 and cut up again, in every micro-step, so that none is ever held whole
    gather    weight by weight back into the first process's host memory, as the plain model that is published

The model is cut up by accelerate (`fsdp2_prepare_model`) before it is first used, and the Trainer finds it so: what is
measured before and after training is measured in parts too. Every process takes part in every forward pass.

bfloat16 is a policy of FSDP2 here and not autocast: float32 parts are gathered as bfloat16, which halves what is
gathered, and activations between the blocks are bfloat16.

Host memory: 4 bytes a weight in the first process while it loads, and the published precision's while it publishes.

Source: Zhao et al. 2023, "PyTorch FSDP" (arXiv 2304.11277); Rajbhandari et al. 2020, "ZeRO", stage 3.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from smartdevdigest_ops.models.devices import choose_device
from smartdevdigest_ops.stage import StageContext
from smartdevdigest_ops.stage.distributed import is_first_process, num_processes
from smartdevdigest_ops.training.errors import TrainingError
from smartdevdigest_ops.training.plan.memory import PlanError, StepShape, fits_replicated, shape_of
from smartdevdigest_ops.training.trainer.kernels import choose_kernels

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator  # type: ignore[import-untyped]
    from accelerate.utils import FullyShardedDataParallelPlugin  # type: ignore[import-untyped]
    from transformers import PretrainedConfig, PreTrainedModel

# The Trainer's own plugin cuts up nothing: it gets a model that is. It writes and reads checkpoints in parts, by
# torch.distributed.checkpoint, so that no process ever holds a whole model with its optimizer.
TRAINER_CONFIG = {"version": 2, "auto_wrap_policy": "NO_WRAP", "state_dict_type": "SHARDED_STATE_DICT"}
_WEIGHTS_DIR = "pytorch_model_fsdp_0"


def choose_sharding(context: StageContext, config: "PretrainedConfig", step: StepShape) -> bool:
    """Whether the processes of this stage cut the model up, as `training.sharding` says; one process never does.

    auto: on GPUs, where the whole model does not fit on each with the smallest micro-batch of `step`.
    """
    wanted = context.settings.training.sharding
    if num_processes() == 1 or wanted == "replicated":
        return False
    if wanted == "full":
        return True
    if choose_device(context.settings.model.device) != "cuda":
        return False
    import torch

    try:
        shape = shape_of(config, context.settings.profile)
    except PlanError as error:
        context.log(f"training.sharding=auto: replicated, as the memory is not known ({error})")
        return False
    # Of all GPUs, so that every process chooses alike.
    sizes = [torch.cuda.get_device_properties(index).total_memory for index in range(torch.cuda.device_count())]
    return not fits_replicated(shape, step, min(sizes))


def is_sharded(model: Any) -> bool:
    """Whether `shard` has cut it up."""
    if num_processes() == 1:
        return False
    from torch.distributed.fsdp import FSDPModule

    return isinstance(model, FSDPModule)


def load_for_sharding(directory: Path, dtype: "torch.dtype") -> "PreTrainedModel":
    """The model of `directory` for `shard`: on the CPU in the first process, without storage in the others."""
    from transformers import AutoConfig, AutoModelForCausalLM

    model: PreTrainedModel
    if is_first_process():
        model = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype)
    else:
        model = _without_storage(AutoConfig.from_pretrained(directory), dtype)
    return model


def shard(model: Any, context: StageContext) -> Any:
    """`model` cut up, in place, in all processes; the first one's weights are what they all get.

    The weights that are to be trained may be chosen before or after.

    Raises:
        TrainingError: transformers names no blocks of this model, or a weight is too small for so many processes.
    """
    import torch
    from accelerate import Accelerator
    from accelerate.utils import FullyShardedDataParallelPlugin, InitProcessGroupKwargs
    from accelerate.utils.fsdp_utils import fsdp2_prepare_model  # type: ignore[import-untyped]
    from torch.distributed.fsdp import MixedPrecisionPolicy

    _refuse_what_cannot_be_cut(model)
    device = choose_device(context.settings.model.device)
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2, auto_wrap_policy="TRANSFORMER_BASED_WRAP", state_dict_type="SHARDED_STATE_DICT"
    )
    # Set here and not given: the plugin would have transformers leave weights out of every later from_pretrained.
    plugin.cpu_ram_efficient_loading = True
    backend = InitProcessGroupKwargs(backend="gloo" if device == "cpu" else "nccl")
    accelerator = Accelerator(cpu=device == "cpu", fsdp_plugin=plugin, kwargs_handlers=[backend])
    turn_on(accelerator, plugin)
    kernels = choose_kernels(device, context.settings.model.precision, context.scratch / "kernels.json")
    if kernels.autocast_bfloat16:
        plugin.mixed_precision_policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    wanted = {name for name, weight in model.named_parameters() if weight.requires_grad}
    sharded = fsdp2_prepare_model(accelerator, model)
    for name, weight in sharded.named_parameters():
        weight.requires_grad_(name in wanted)
    # FSDP2 takes the types of the gradients down at the first pass, from what is trainable then.
    with torch.no_grad():
        sharded(input_ids=torch.zeros(1, 1, dtype=torch.int64, device=accelerator.device), use_cache=False)
    reshard(sharded)
    return sharded


def reshard(model: Any) -> None:
    """Let go of what the last forward pass without a backward pass has gathered, and not cut up again.

    That is the last block, the output layer's: FSDP2 keeps it for the backward pass that comes next as a rule.
    Until then the model has other parameters than those that an optimizer may be given.
    """
    from torch.distributed.fsdp import FSDPModule

    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def turn_on(accelerator: "Accelerator", plugin: "FullyShardedDataParallelPlugin") -> None:
    """Let `accelerator` use FSDP on the CPU as well.

    accelerate 1.15 takes the plugin on GPU backends only (`AcceleratorState.__init__` has a list of them, without
    MULTI_CPU), though gloo has every collective that FSDP2 needs. On a GPU nothing is left to do here; all other code
    is the same for both, so that two processes on a CPU show what GPUs run.
    """
    from accelerate.utils import DistributedType

    if not accelerator.is_fsdp2:
        accelerator.state.distributed_type = DistributedType.FSDP
        accelerator.state.fsdp_plugin = plugin


def is_sharded_checkpoint(checkpoint: Path) -> bool:
    """Whether the Trainer wrote it in parts."""
    return (checkpoint / _WEIGHTS_DIR).is_dir()


def restore_parts(trainer: Any, checkpoint: Path) -> None:
    """Load the weights of a checkpoint that was written in parts, by as many processes or another number of them."""
    from accelerate.utils import load_fsdp_model
    from transformers.distributed.fsdp import get_fsdp_ckpt_kwargs

    plugin = trainer.accelerator.state.fsdp_plugin
    load_fsdp_model(plugin, trainer.accelerator, trainer.model, str(checkpoint), **get_fsdp_ckpt_kwargs())


def gather(model: "PreTrainedModel", dtype: "torch.dtype") -> "PreTrainedModel | None":
    """The plain model, on the CPU of the first process; None in the others, which must call it too.

    A GPU holds one weight whole at a time.
    """
    weights: dict[str, torch.Tensor] = {}
    reshard(model)
    for name, weight in model.named_parameters():
        whole_weight = weight.full_tensor()  # of a DTensor
        if is_first_process():
            weights[name] = whole_weight.detach().to(dtype).cpu()
    if not is_first_process():
        return None
    whole = _without_storage(model.config, dtype)
    whole.load_state_dict(weights, strict=False, assign=True)
    whole.tie_weights()
    whole.generation_config = model.generation_config
    return whole


def gather_trained(model: Any) -> "dict[str, torch.Tensor]":
    """The trainable weights by name, whole, on the CPU of every process: an adapter's are small."""
    reshard(model)
    trained = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    return {name: weight.full_tensor().detach().cpu() for name, weight in trained}


def is_finite(weight: "torch.Tensor") -> bool:
    """Whether no number of it is NaN or infinite; of a weight in parts every process must ask."""
    from torch.distributed.tensor import DTensor

    num_broken = (~weight.isfinite()).sum()
    return int(num_broken.full_tensor() if isinstance(num_broken, DTensor) else num_broken) == 0


def _without_storage(config: "PretrainedConfig", dtype: "torch.dtype") -> "PreTrainedModel":
    """The model's shapes; buffers that follow from the configuration (rotary frequencies) are there."""
    from accelerate import init_empty_weights
    from transformers import AutoModelForCausalLM

    with init_empty_weights():
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype)
    model.tie_weights()
    return model


def _refuse_what_cannot_be_cut(model: Any) -> None:
    if not getattr(model, "_no_split_modules", None):
        raise TrainingError(
            f"training.sharding: transformers names no blocks of {type(model).__name__} (_no_split_modules), so that "
            "it would be gathered whole at once. Set training.sharding to replicated."
        )
    processes = num_processes()
    for name, weight in model.named_parameters():
        rows = weight.shape[0] if weight.ndim else 0
        part = -(-rows // processes)
        # accelerate tells weights apart by their addresses, which empty parts have none of.
        if weight.requires_grad and part * (processes - 1) >= rows:
            raise TrainingError(
                f"training.sharding: {name} has {rows} rows, which {processes} processes cannot share so that each has "
                "some. Raise the rank of an adapter to the number of processes, lower training.processes, or set "
                "training.sharding to replicated."
            )
