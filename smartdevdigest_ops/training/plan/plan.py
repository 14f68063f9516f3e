"""What a long training will need, before it starts: memory by part, what would fit, tokens, steps, hours, labels.

The model's shape comes from its config.json; no weights are read. Memory is `memory.step_memory`. Work is counted in
floating-point operations per token (Kaplan et al. 2020, section 2.1; Chowdhery et al. 2022, "PaLM", appendix B):

    full    6 N + 12 L A T    N: parameters that multiply (all but the input embedding and the norms)
    LoRA    4 N + 12 L A T    no gradient of frozen weights
    recomputing layers adds the forward pass once more, 2 N + 4 L A T
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from smartdevdigest_ops.artifacts import ArtifactStore
from smartdevdigest_ops.models.packages import PACKAGE_PREFIX, find_packaged_model
from smartdevdigest_ops.models.resolve import HUB_PREFIX, TINY, find_directory
from smartdevdigest_ops.settings import M1Settings, M2Settings, Settings
from smartdevdigest_ops.training.plan.amounts import corpus_tokens, count_labels, label_cost
from smartdevdigest_ops.training.plan.memory import (
    PARTS,
    RESERVED_BYTES,
    ModelShape,
    PlanError,
    Sharding,
    StepShape,
    Trainable,
    fits_replicated,
    num_trained,
    shape_of,
    smallest_step,
    step_memory,
)
from smartdevdigest_ops.training.trainer.kernels import bfloat16_instructions

GIB = 2**30
_FLOAT32 = 4


@dataclass(frozen=True)
class Machine:
    """What the run is planned for."""

    num_gpus: int = 1
    gpu_memory_gib: float | None = None
    """Of one of them; None: not known."""
    reserve_gib: float = RESERVED_BYTES / GIB
    """Of each, see RESERVED_BYTES."""
    sharding: Sharding | None = None
    """Over several of them; None: as `training.sharding` says."""
    throughput: float | None = None
    """Tokens per second of all together."""
    peak_tflops: float | None = None
    """Of one of them, dense, in the precision that is trained in."""
    mfu: float = 0.4
    """Share of peak_tflops that goes into the operations above."""


@dataclass(frozen=True)
class Work:
    """How much a stage trains."""

    num_tokens: int
    """Of all steps, padding not counted."""
    num_steps: int


def load_shape(settings: Settings, config_file: Path | None) -> ModelShape:
    """The shape of the base model: from `config_file`, else from where the base model comes from. No weights are read.

    Raises:
        PlanError: no config.json is to be had, or it describes no model that can be planned.
    """
    name, place, keywords = _find_config(settings) if config_file is None else _given_config(settings, config_file)
    from transformers import AutoConfig  # after the checks that need no heavy package

    try:
        config = AutoConfig.from_pretrained(place, **keywords)
    except (OSError, ValueError, KeyError) as error:
        raise PlanError(
            f"{name}: its configuration cannot be read ({str(error).splitlines()[0]}). Give the model's config.json "
            "with --config FILE."
        ) from None
    return shape_of(config, name)


def _given_config(settings: Settings, config_file: Path) -> tuple[str, str, dict[str, str]]:
    """The same of a file that the user gave."""
    if not config_file.is_file():
        raise PlanError(f"--config {config_file} is not a file; needed the config.json of the model.")
    return f"{settings.model.base_model} by {config_file.name}", str(config_file), {}


def _find_config(settings: Settings) -> tuple[str, str, dict[str, str]]:
    """Name of the base model, and where transformers finds its configuration."""
    base_model = settings.model.base_model
    made = ArtifactStore(settings.store_dir).current("base_model")
    if made is not None:
        source = json.loads(made.sound_file("source.json").read_text(encoding="utf-8"))
        if source["base_model"] in (base_model, base_model.partition("@")[0]):
            return base_model, str(made.sound_file("config.json").parent), {}
    if base_model == TINY:
        raise PlanError(
            f"model.base_model is {TINY}, whose size its tokenizer decides: `smartdevdigest run --select base_model "
            f"--profile {settings.profile}` makes it first, or give another configuration with --config FILE."
        )
    if base_model.startswith(PACKAGE_PREFIX):
        parts = find_packaged_model(base_model).parts
        if len(parts) > 1:
            raise PlanError(
                f"model.base_model is {base_model!r}, a GGUF file in {len(parts)} parts, which are joined when the "
                f"model is made: `smartdevdigest run --select base_model --profile {settings.profile}` makes it, or "
                "give the model's config.json with --config FILE."
            )
        return base_model, str(parts[0].parent), {"gguf_file": parts[0].name}
    if base_model.startswith(HUB_PREFIX):
        return base_model, _hub_config(base_model), {}
    return base_model, str(find_directory(base_model)), {}


def _hub_config(base_model: str) -> str:
    """Path of a Hub model's config.json, from the local cache or, some kilobytes, from the Hub."""
    from huggingface_hub import hf_hub_download  # noqa: PLC0415 - only for Hub models
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError  # noqa: PLC0415

    repository, _, revision = base_model.removeprefix(HUB_PREFIX).partition("@")
    try:
        return str(hf_hub_download(repository, "config.json", revision=revision or None))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        raise PlanError(
            f"model.base_model is {base_model!r}: its config.json is not in the local Hub cache and the Hub did not "
            f"give it ({str(error).splitlines()[0]}), so the model's size is not known. Give the file with --config "
            f"FILE (https://huggingface.co/{repository}/resolve/{revision or 'main'}/config.json)."
        ) from None


def step_shapes(settings: Settings, machine: Machine) -> dict[str, StepShape]:
    """The training steps of M1 and M2 as the settings say."""
    m1, m2 = settings.training.m1, settings.training.m2
    is_cuda = settings.model.device == "cuda" or (
        settings.model.device == "auto" and machine.gpu_memory_gib is not None
    )
    precision = settings.model.precision
    holds_bfloat16 = precision == "bfloat16" or (precision == "auto" and is_cuda)
    computes_bfloat16 = holds_bfloat16 or (precision == "auto" and bfloat16_instructions() is not None)
    new_rows = settings.tokenizer.num_new_tokens + 2 * len(settings.tokenizer.required_terms)

    def step(section: M1Settings | M2Settings, **changes: object) -> StepShape:
        batch_size, accumulation = share_of_step(section, machine.num_gpus)
        shape = StepShape(
            trainable="lora",
            batch_size=batch_size,
            sequence_length=section.sequence_length or settings.model.max_length,
            accumulates=accumulation > 1,
            precision="bfloat16" if computes_bfloat16 else "float32",
            base_precision="bfloat16" if holds_bfloat16 else "float32",
            lora_rank=section.lora.rank,
            num_devices=machine.num_gpus,
        )
        return replace(shape, **changes)  # type: ignore[arg-type]

    return {
        # m1.py loads float32 weights on every device; only m2.py loads the frozen ones in the computing precision.
        "M1": step(m1, trainable=m1.trainable, is_packed=True, num_new_rows=new_rows, base_precision="float32"),
        "M2": step(m2),
    }


def choose_sharding(settings: Settings, machine: Machine, model: ModelShape, step: StepShape) -> Sharding:
    """What the stage will choose on this machine; of GPUs of unknown size, that which needs less."""
    # Of M1's adapters, which are merged in the end: see `m1.trainable.refuse_adapters_in_parts`.
    if machine.num_gpus == 1 or (step.is_packed and step.trains_adapters):
        return "replicated"
    wanted = machine.sharding or settings.training.sharding
    if wanted != "auto":
        return wanted
    if machine.gpu_memory_gib is None:
        return "full"
    fits = fits_replicated(model, step, machine.gpu_memory_gib * GIB, machine.reserve_gib * GIB)
    return "replicated" if fits else "full"


def share_of_step(section: M1Settings | M2Settings, num_gpus: int) -> tuple[int, int]:
    """Sequences per micro-step and micro-steps per optimizer step of one GPU: the optimizer step stays the same.

    Raises:
        PlanError: it cannot be divided.
    """
    if section.gradient_accumulation % num_gpus == 0:
        return section.batch_size, section.gradient_accumulation // num_gpus
    # M2's batches of examples of like length are not cut up.
    is_cut_up = isinstance(section, M1Settings) or section.packing
    if is_cut_up and section.batch_size % num_gpus == 0:
        return section.batch_size // num_gpus, section.gradient_accumulation
    raise PlanError(
        f"{type(section).__name__.removesuffix('Settings')}: gradient_accumulation={section.gradient_accumulation} "
        f"micro-steps of batch_size={section.batch_size} cannot be shared by {num_gpus} GPUs alike. Make "
        f"gradient_accumulation a multiple of {num_gpus}."
    )


def alternatives(step: StepShape) -> list[tuple[str, StepShape]]:
    """The step as it is, and others that need less and less; the optimizer step can stay the same with all."""
    smaller = replace(smallest_step(step), recomputes=step.recomputes)
    found = [
        ("as set", step),
        ("gradient checkpointing", replace(step, recomputes=True)),
        ("fused loss (liger-kernel)", replace(step, fused_loss=True)),
        ("micro-batch 1", smaller),
    ]
    least = replace(smaller, recomputes=True, fused_loss=True)
    found.append(("all three", least))
    kinds: dict[Trainable, tuple[Trainable, ...]] = {
        "full": ("lora", "qlora"),
        "embeddings_first": ("lora", "qlora"),
        "lora": ("qlora",),
    }
    for kind in kinds.get(step.trainable, ()):
        # Neither M1's adapters nor weights in 4 bits are held in parts.
        found.append((kind, replace(step, trainable=kind, sharding="replicated")))
        found.append((f"{kind}, all three", replace(least, trainable=kind, sharding="replicated")))
    return found


def operations_per_token(model: ModelShape, step: StepShape) -> float:
    """Floating-point operations that training needs per token; see the module's head."""
    multiplying = model.num_linear_parameters + model.vocab_size * model.hidden_size
    attention = model.num_layers * model.num_heads * model.head_size * step.sequence_length
    passes = (4 if step.trains_adapters else 6) + (2 if step.recomputes else 0)
    return passes * multiplying + (16 if step.recomputes else 12) * attention


def work_of(section: M1Settings | M2Settings, num_tokens: int, num_sequences: int) -> Work:
    """Steps and tokens of a run over `num_sequences` sequences that hold `num_tokens`."""
    steps = max(1, math.ceil(num_sequences * section.epochs / (section.batch_size * section.gradient_accumulation)))
    planned = min(steps, section.max_steps or steps)
    return Work(round(num_tokens * section.epochs * planned / steps), planned)


def seconds_of(work: Work, model: ModelShape, step: StepShape, machine: Machine) -> float | None:
    """At the stated throughput, or the stated peak and share of it; None where neither is stated."""
    if machine.throughput is not None:
        return work.num_tokens / machine.throughput
    if machine.peak_tflops is None:
        return None
    useful = machine.peak_tflops * 1e12 * machine.mfu * machine.num_gpus
    return work.num_tokens * operations_per_token(model, step) / useful


def memory_table(model: ModelShape, step: StepShape, machine: Machine) -> list[str]:
    """Markdown: GiB per GPU by part, of the step as set and of what would need less."""
    limit = machine.gpu_memory_gib
    head = ["", *PARTS, "together", *([f"fits {limit:g} GiB"] if limit else [])]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name, changed in alternatives(step):
        _, parts = step_memory(model, changed)
        total = sum(parts.values()) / GIB
        cells = [name, *(_gib(parts[part]) for part in PARTS), f"{total:.1f}"]
        if limit:
            cells.append("yes" if total + machine.reserve_gib <= limit else f"no, {_excess(total, machine):.1f} over")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _gib(number: int) -> str:
    return f"{number / GIB:.2f}" if number < GIB else f"{number / GIB:.1f}"


def _excess(total_gib: float, machine: Machine) -> float:
    return total_gib + machine.reserve_gib - (machine.gpu_memory_gib or math.inf)


def fitting(model: ModelShape, step: StepShape, machine: Machine) -> tuple[str, StepShape] | None:
    """The step as set, or the first alternative that fits into the memory; None where none does or it is not known."""
    for name, changed in alternatives(step):
        total = sum(step_memory(model, changed)[1].values()) / GIB
        if total + machine.reserve_gib <= (machine.gpu_memory_gib or -math.inf):
            return name, changed
    return None


def verdict(found: tuple[str, StepShape] | None, machine: Machine) -> str:
    """One sentence: whether it fits, and what the first change is that makes it fit."""
    if machine.gpu_memory_gib is None:
        return "No --gpu-memory was given, so nothing is said about what fits."
    if found is not None:
        return (
            "Fits as set." if found[0] == "as set" else f"Does not fit as set; the least change that does: {found[0]}."
        )
    return (
        "Nothing listed fits. Sharding over more GPUs divides weights, gradients and optimizer; a shorter "
        "sequence_length lowers activations and logits."
    )


def plan_lines(
    settings: Settings,
    machine: Machine,
    *,
    config_file: Path | None = None,
    num_tokens: int | None = None,
    num_documents: int | None = None,
    label_price: Sequence[float] | None = None,
) -> list[str]:
    """The whole plan as Markdown lines.

    Raises:
        PlanError: the model's shape is not to be had, or the optimizer step cannot be shared by the GPUs.
    """
    steps = step_shapes(settings, machine)
    base = load_shape(settings, config_file)
    model = replace(base, vocab_size=base.vocab_size + steps["M1"].num_new_rows)
    steps = {
        name: replace(step, sharding=choose_sharding(settings, machine, model, step)) for name, step in steps.items()
    }
    lines = [
        f"# {settings.profile}: {model.name}, {model.num_parameters / 1e9:.2f} B parameters, "
        f"{model.num_layers} layers, vocabulary {model.vocab_size:,} (new tokens included)",
        f"{_devices(machine)}; {steps['M1'].precision}",
    ]
    corpus = corpus_tokens(settings, num_tokens, num_documents)
    num_labels, num_bought = count_labels(settings, num_documents)
    for name, step in steps.items():
        section: M1Settings | M2Settings = settings.training.m1 if name == "M1" else settings.training.m2
        moment, _ = step_memory(model, step)
        found = fitting(model, step, machine)
        lines += [
            "",
            f"## {name}: {step.trainable}, {num_trained(model, step) / 1e6:,.1f} M weights trained, micro-batch "
            f"{step.batch_size} x {step.sequence_length} tokens{_held(step)}",
            f"GiB per device at the step's peak ({moment}, as set):",
            "",
            *memory_table(model, step, machine),
            "",
            verdict(found, machine),
            *(_beside_the_step(settings, model, step, machine) if name == "M1" else ()),
        ]
        if name == "M2":
            # Prompts are cut to the length, so a labelled example is one sequence of at most that.
            work = work_of(section, num_labels * step.sequence_length, num_labels)
            lines.append(f"{num_labels:,} labelled examples of at most {step.sequence_length} tokens")
        elif corpus is None:
            lines.append("Tokens: no corpus_snapshot and domain_tokenizer are made yet; give --tokens N.")
            continue
        else:
            work = work_of(section, corpus[0], corpus[0] // step.sequence_length)
            lines.append(f"{corpus[0]:,} tokens in the train split ({corpus[1]})")
        lines.append(_time_line(work, model, found or ("as set", step), machine))
    return [*lines, "", label_cost(settings, num_bought, label_price)]


def _devices(machine: Machine) -> str:
    text = "1 device" if machine.num_gpus == 1 else f"{machine.num_gpus} devices"
    if machine.gpu_memory_gib is None:
        return text
    return f"{text}, {machine.gpu_memory_gib:g} GiB each, of which {machine.reserve_gib:g} are kept free"


def _held(step: StepShape) -> str:
    if step.num_devices == 1:
        return ""
    return ", the model in parts (training.sharding=full)" if step.is_in_parts else ", the whole model on each device"


def _beside_the_step(settings: Settings, model: ModelShape, step: StepShape, machine: Machine) -> list[str]:
    """What M1 needs before and after its steps, where the model is in parts."""
    if not step.is_in_parts:
        return []
    whole = _FLOAT32 * model.num_parameters / GIB
    lines = [
        f"Host memory of the first process: {whole:.1f} GiB while it loads. lora and qlora are replicated: their "
        "adapters are merged into whole weights."
    ]
    if step.num_new_rows and settings.training.m1.new_rows.method == "fitted":
        fits = machine.gpu_memory_gib is None or whole + machine.reserve_gib <= machine.gpu_memory_gib
        lines.append(
            f"Fitting new rows computes with the whole model: {whole:.1f} GiB of weights on each device and, while "
            f"they load, in the host memory of each process{'' if fits else ', which does not fit'}. "
            "training.m1.new_rows.method=mean needs neither."
        )
    return lines


def _time_line(work: Work, model: ModelShape, way: tuple[str, StepShape], machine: Machine) -> str:
    name, step = way
    seconds = seconds_of(work, model, step, machine)
    text = f"{work.num_steps:,} optimizer steps, {work.num_tokens:,} tokens"
    if seconds is None:
        return f"{text}; for hours give --throughput (tokens/s), or --peak-tflops and --mfu."
    stated = (
        f"{machine.throughput:,.0f} tokens/s"
        if machine.throughput is not None
        else f"{machine.mfu:.0%} of {machine.peak_tflops:g} TFLOP/s each, "
        f"{operations_per_token(model, step) / 1e9:.3g} GFLOP a token"
    )
    return f"{text}: {seconds / 3600:.2f} hours {name}, at {stated}"
