"""M2: a LoRA adapter on M1 that answers a digest prompt with the digest JSON.

Only the answers carry loss. Embeddings and the output layer stay as M1 left them: the adapter is served by engines
that know no adapted vocabulary, and merges into tied embeddings without breaking them.

Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", section 4.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smartdevdigest_ops.corpus.read import read_split
from smartdevdigest_ops.digesting.prompt import PROMPT_VERSION
from smartdevdigest_ops.models.devices import choose_device, choose_dtype, use_threads
from smartdevdigest_ops.models.terms import carry_terms
from smartdevdigest_ops.settings import M2Settings
from smartdevdigest_ops.stage import Check, CheckResult, Stage, StageContext, StageReport
from smartdevdigest_ops.stage.distributed import num_processes
from smartdevdigest_ops.training.adapter import lora_config
from smartdevdigest_ops.training.errors import TrainingError
from smartdevdigest_ops.training.four_bits import load_in_four_bits, refuse_qlora_where_impossible
from smartdevdigest_ops.training.m1.checks import last_quarter
from smartdevdigest_ops.training.m2.answers import (
    IGNORED,
    AnswerBatches,
    Example,
    Examples,
    PackedAnswers,
    build_examples,
    only_batch,
)
from smartdevdigest_ops.training.plan.memory import Precision, StepShape
from smartdevdigest_ops.training.trainer.run import TrainingData, TrainingRun, train
from smartdevdigest_ops.training.trainer.sharding import choose_sharding, gather_trained, load_for_sharding, shard

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Shorter runs are plumbing tests.
MIN_STEPS_TO_JUDGE = 8
# Part names of modules that read or write the vocabulary, in the architectures of the base models tried.
_VOCABULARY_MODULES = ("embed_tokens", "lm_head", "wte", "embed_in", "embed_out")


def make_m2_adapter(context: StageContext) -> StageReport:
    """Train the adapter on the labelled train split and save it; the held-out split says which step is kept."""
    from peft import get_peft_model
    from transformers import AutoConfig, AutoTokenizer, set_seed

    settings = context.settings.training.m2
    _refuse_what_cannot_be(context)
    sequence_length = settings.sequence_length or context.settings.model.max_length
    use_threads(context.settings.model.threads)
    device = choose_device(context.settings.model.device)
    m1_dir = context.input("m1_checkpoint").path
    pairs_dir = context.input("labeled_pairs").path

    tokenizer = AutoTokenizer.from_pretrained(m1_dir)
    trained_on, held_out = (
        build_examples(tokenizer, rows, context.settings.digesting, sequence_length=sequence_length)
        for rows in (
            read_split(pairs_dir, "train"),
            _first_of_each_language(read_split(pairs_dir, "valid"), settings.evaluation_documents),
        )
    )
    _refuse_nothing_to_learn(trained_on, sequence_length)
    context.log(
        f"m2_adapter: {len(trained_on.examples)} examples to learn ({trained_on.num_left_out} left out: their answer "
        f"does not fit; {trained_on.num_cut} documents cut, on average {trained_on.mean_covered_share:.1%} is read), "
        f"{len(held_out.examples)} held out ({held_out.num_left_out} left out, {held_out.num_cut} cut)"
    )
    pad_id = _pad_id(tokenizer)
    data = _training_data(trained_on.examples, settings, sequence_length=sequence_length, pad_id=pad_id)
    dtype = choose_dtype(context.settings.model.precision, device)
    sharded = choose_sharding(context, AutoConfig.from_pretrained(m1_dir), _step_shape(context, sequence_length))
    whole = load_for_sharding(m1_dir, dtype) if sharded else _load_whole(m1_dir, dtype, context)
    set_seed(context.settings.seed)  # the adapter's first weights are drawn here
    model = get_peft_model(whole, lora_config(settings.lora))
    if sharded:
        model = shard(model, context)
    run = train(
        model,
        replace(
            data,
            held_out=AnswerBatches(held_out.examples, batch_size=1, pad_id=pad_id) if held_out.examples else None,
        ),
        stage="m2_adapter",
        settings=settings,
        context=context,
    )
    save_adapter(model, context.out, gather_trained(model) if sharded else None)
    run.write_curve(context.out)
    carry_terms(m1_dir, context.out, "an adapter was trained on digests.")
    metrics: dict[str, float] = {
        "train_loss": last_quarter(run.losses),
        "num_steps": run.num_steps,
        "tokens_seen": run.tokens_seen,
        "tokens_per_second": run.tokens_per_second,
        "num_train_examples": len(trained_on.examples),
        "num_valid_examples": len(held_out.examples),
        "num_left_out": trained_on.num_left_out + held_out.num_left_out,
        "num_train_documents_cut": trained_on.num_cut,
        "num_valid_documents_cut": held_out.num_cut,
        "train_covered_share": trained_on.mean_covered_share,
        "valid_covered_share": held_out.mean_covered_share,
        "num_trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
    }
    if run.held_out_loss_before is not None and run.held_out_loss_after is not None:
        metrics |= {"valid_loss_before": run.held_out_loss_before, "valid_loss_after": run.held_out_loss_after}
    if run.best_step is not None:
        metrics["best_step"] = run.best_step
    weights = adapter_weights(context.out)
    return StageReport(
        metrics=metrics,
        checks=(
            check_valid_loss(run),
            check_adapter_moved(weights),
            check_vocabulary_untouched(weights),
            check_loss_mask((data.train[index]["labels"] for index in range(len(data.train))), trained_on.examples),
        ),
        notes={"micro_batch": run.micro_batch, "kernels": run.kernels},
    )


def _training_data(
    examples: Sequence[Example], settings: M2Settings, *, sequence_length: int, pad_id: int
) -> TrainingData:
    """Batches of examples of like length, or full sequences of several each (`training.m2.packing`)."""
    if settings.packing:
        packed = PackedAnswers(examples, sequence_length=sequence_length, pad_id=pad_id)
        return TrainingData(train=packed, sequences_per_item=1)
    batches = AnswerBatches(examples, batch_size=settings.batch_size, pad_id=pad_id)
    return TrainingData(train=batches, sequences_per_item=settings.batch_size, collate=only_batch)


def _load_whole(m1_dir: Path, dtype: "torch.dtype", context: StageContext) -> "PreTrainedModel":
    """M1 on the device, in 4 bits for qlora."""
    from transformers import AutoModelForCausalLM

    if context.settings.training.m2.trainable == "qlora":
        return load_in_four_bits(m1_dir)
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(m1_dir, dtype=dtype)
    return model.to(choose_device(context.settings.model.device))


def _refuse_what_cannot_be(context: StageContext) -> None:
    settings = context.settings.training
    if settings.m2.trainable == "qlora":
        refuse_qlora_where_impossible("training.m2.trainable")
    if (
        settings.sharding == "full"
        and num_processes() > 1
        and (settings.m2.trainable == "qlora" or settings.m2.lora.dora)
    ):
        raise TrainingError(
            "training.sharding=full cuts up float weights, which training.m2.trainable=qlora and training.m2.lora.dora "
            "do without (4 bits) or need whole (norms). Set training.sharding to replicated, or train a plain adapter."
        )


def _step_shape(context: StageContext, sequence_length: int) -> StepShape:
    """What decides whether every process can hold the whole model."""
    precision: Precision = "float32" if context.settings.model.precision == "float32" else "bfloat16"
    return StepShape(
        trainable=context.settings.training.m2.trainable,
        batch_size=1,
        sequence_length=sequence_length,
        accumulates=True,
        precision=precision,
        base_precision=precision,
        lora_rank=context.settings.training.m2.lora.rank,
        num_devices=num_processes(),
    )


def _first_of_each_language(rows: Iterable[Mapping[str, Any]], max_documents: int) -> list[Mapping[str, Any]]:
    counts: dict[str, int] = {}
    kept = []
    for row in rows:
        counts[row["language"]] = counts.get(row["language"], 0) + 1
        if counts[row["language"]] <= max_documents:
            kept.append(row)
    return kept


def _refuse_nothing_to_learn(examples: Examples, sequence_length: int) -> None:
    if not examples.examples:
        raise TrainingError(
            f"labeled_pairs: no train example is left ({examples.num_left_out} answers are too long for sequences of "
            f"{sequence_length} tokens), so that M2 has nothing to learn. Add labels (data.label_paths, or "
            "labeling.teacher), or raise model.max_length and training.m2.sequence_length."
        )


def _pad_id(tokenizer: "PreTrainedTokenizerBase") -> int:
    """Any id will do: padding is neither attended to nor scored."""
    return int(tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id)


def save_adapter(model: "PeftModel", out: Path, weights: "Mapping[str, torch.Tensor] | None" = None) -> None:
    """Write `adapter_model.safetensors` and `adapter_config.json`, with nothing of this machine in them.

    `weights` are the adapter's, by the model's names for them, where the model holds parts; None: the model's own.
    """
    # False: the vocabulary is not trained, and peft would look the base model up by its path to find that out.
    model.save_pretrained(out, save_embedding_layers=False, state_dict=weights)
    (out / "README.md").unlink(missing_ok=True)  # peft's model card template, with the base model's path in it
    config_file = out / "adapter_config.json"
    config = json.loads(config_file.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = "m1_checkpoint"
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()  # peft writes a set, whose order changes from process to process
    config_file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def adapter_weights(directory: Path) -> dict[str, "torch.Tensor"]:
    """The tensors of a saved adapter, by name."""
    from safetensors.torch import load_file

    weights: dict[str, torch.Tensor] = load_file(directory / "adapter_model.safetensors")
    return weights


def check_valid_loss(run: TrainingRun) -> CheckResult:
    """The loss on held-out answers fell (runs of 8 steps and more; shorter ones must only be finite)."""
    name = "valid_loss_falls"
    before, after = run.held_out_loss_before, run.held_out_loss_after
    if before is None or after is None:
        return CheckResult(name, False, "no held-out labelled pair: what training gained is unknown")
    message = f"held-out loss {before:.3f} before, {after:.3f} after {run.num_steps} steps"
    if run.num_steps < MIN_STEPS_TO_JUDGE:
        return CheckResult(name, math.isfinite(after), f"{message}: too few to ask for a fall, only for finite")
    return CheckResult(name, after < before, message)


def check_adapter_moved(weights: Mapping[str, "torch.Tensor"]) -> CheckResult:
    """Every `lora_B` left zero, where it starts: the adapter changes what the model says."""
    second = {name: weight for name, weight in weights.items() if "lora_B" in name}
    still = [name for name, weight in second.items() if not weight.any() or not weight.isfinite().all()]
    message = f"{len(second)} lora_B matrices, {len(still)} of them zero or not finite {still[:3] or ''}".rstrip()
    return CheckResult("adapter_is_not_zero", bool(second) and not still, message)


def check_vocabulary_untouched(weights: Mapping[str, "torch.Tensor"]) -> CheckResult:
    """The adapter holds nothing for embeddings or the output layer."""
    touching = [name for name in weights if set(name.split(".")) & set(_VOCABULARY_MODULES)]
    message = f"adapts the vocabulary: {touching[:3]}" if touching else f"{len(weights)} matrices, none of a vocabulary"
    return CheckResult("adapter_touches_no_vocabulary", not touching, message)


def check_loss_mask(labels: Iterable["torch.Tensor"], examples: Iterable[Example]) -> CheckResult:
    """The tokens that carry loss in the batches are as many as the answers have."""
    scored = sum(int((batch != IGNORED).sum()) for batch in labels)
    answers = sum(len(example.answer_ids) for example in examples)
    return CheckResult(
        "loss_covers_answers_only", scored == answers, f"{scored} tokens carry loss, the answers have {answers}"
    )


STAGE = Stage(
    name="m2_adapter",
    make=make_m2_adapter,
    code_version=f"4.{PROMPT_VERSION}",
    inputs=("m1_checkpoint", "labeled_pairs"),
    settings=(
        "training.m2",
        "model.max_length",
        "model.precision",
        "digesting.max_summary_characters",
        "digesting.max_keywords",
        "digesting.max_prerequisites",
        "digesting.max_terms",
        "digesting.max_explanation_characters",
        "seed",
    ),
    checks=(
        Check("valid_loss_falls", "The loss on held-out answers is below the untrained adapter's.", blocking=False),
        Check("adapter_is_not_zero", "Every lora_B matrix has moved from zero."),
        Check("adapter_touches_no_vocabulary", "The adapter holds no embedding and no output layer."),
        Check("loss_covers_answers_only", "As many tokens carry loss as the answers have."),
    ),
    own_process=True,
    distributed=True,
)
