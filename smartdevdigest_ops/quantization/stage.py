"""quantized_model: the adapter merged into M1, in 4 bits, and what that cost."""

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smartdevdigest_ops.corpus.read import read_split
from smartdevdigest_ops.digesting.prompt import PROMPT_VERSION
from smartdevdigest_ops.lineage.document_index import document_id
from smartdevdigest_ops.models.devices import choose_device, choose_dtype, use_threads
from smartdevdigest_ops.models.terms import carry_terms
from smartdevdigest_ops.quantization.calibration import LANGUAGES, CalibrationSet, build_calibration
from smartdevdigest_ops.quantization.checks import (
    CHECKS,
    check_bits_per_byte,
    check_generation,
    check_layout,
    check_merge,
    check_no_nan,
    check_reload,
    check_rounding,
    check_tensors,
    measure_tensors,
)
from smartdevdigest_ops.quantization.compare import ComparisonTexts, ModelReading, choose_texts, read_with
from smartdevdigest_ops.quantization.gptq import GptqReport, quantize_gptq
from smartdevdigest_ops.quantization.layer_formats import plan_layers
from smartdevdigest_ops.quantization.load import load_for_inference, packed_layers
from smartdevdigest_ops.quantization.merge import MergeReport, merge_adapter
from smartdevdigest_ops.quantization.recovery import RecoveryReport, recover
from smartdevdigest_ops.quantization.rounding import round_weights
from smartdevdigest_ops.stage import Stage, StageContext, StageReport

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Scored in windows of this many tokens: longer ones cost memory and change both models' figures alike.
_COMPARED_SEQUENCE_LENGTH = 512


def make_quantized_model(context: StageContext) -> StageReport:
    """Merge, quantize, compare with the unquantized model."""
    from transformers import AutoTokenizer

    settings = context.settings
    m1 = context.input("m1_checkpoint").path
    device = choose_device(settings.model.device)
    threads = use_threads(settings.model.threads)
    if settings.model.use_gptq:
        plan_layers(m1, settings.quantization)  # refuses before anything is merged
    metrics: dict[str, float] = {}
    calibrated: set[str] = set()

    merged = context.scratch / "merged"
    merge_report = _merge_once(context, merged, device, metrics)
    tokenizer = AutoTokenizer.from_pretrained(merged, local_files_only=True)
    if settings.model.use_gptq:
        quantized = context.scratch / "quantized"
        calibration = _draw_calibration(context, tokenizer, metrics)
        calibrated |= set(calibration.document_ids)
        gptq_report = _quantize_once(context, merged, quantized, calibration.sequences, device, threads, metrics)
        _say_what_gptq_did(context, gptq_report, metrics)
        if settings.quantization.recovery.passes:
            quantized = _recover_once(context, merged, quantized, calibration.sequences, device, metrics)
        shutil.copytree(quantized, context.out, dirs_exist_ok=True)
    else:
        shutil.copytree(merged, context.out, dirs_exist_ok=True)
    packed = f", quantized to {settings.quantization.bits} bits" if settings.model.use_gptq else ""
    carry_terms(m1, context.out, f"merged with an adapter{packed}.")
    _write_digest_config(context)

    start = time.perf_counter()
    dtype = choose_dtype(settings.model.precision, device)
    texts = choose_texts(
        tokenizer,
        read_split(context.input("corpus_snapshot").path, "valid"),
        num_documents=settings.quantization.comparison_documents,
        prompt_tokens=_prompt_tokens(context),
    )
    # One model in memory at a time.
    model = load_for_inference(merged, device=device, dtype=dtype)
    before = _read(model, tokenizer, texts, context)
    rounded = _read_rounded(model, tokenizer, texts, context) if settings.model.use_gptq else None
    del model
    model = load_for_inference(context.out, device=device, dtype=dtype)
    after = _read(model, tokenizer, texts, context) if settings.model.use_gptq else before
    metrics |= _calibrate_difficulty(context, model, tokenizer, calibrated)
    probe = texts.prompts[0] if texts.prompts else tokenizer("def main():")["input_ids"]
    sizes = measure_tensors(merged, context.out)
    checks = (
        check_merge(merge_report),
        check_tensors(sizes, quantized=settings.model.use_gptq),
        check_layout(context.out, quantized=settings.model.use_gptq),
        check_no_nan(after),
        check_bits_per_byte(before, after, settings.quantization.max_bits_per_byte_increase),
        check_rounding(before.bits_per_byte, after.bits_per_byte, rounded),
        check_generation(before, after, [tokenizer.decode(answer) for answer in after.answers]),
        check_reload(context.out, model, probe, context.scratch / "reload.log"),
    )
    for result in checks:
        context.log(f"{result.name}: {'passed' if result.passed else 'FAILED'}: {result.message}")
    return StageReport(
        metrics=metrics
        | {
            "bytes": sum(file.stat().st_size for file in context.out.iterdir()),
            "bits_per_quantized_weight": sizes.bits_per_packed_weight,
            "embedding_share_of_bytes": sizes.embedding_bytes / sizes.total_bytes,
            "merge_max_logit_difference": merge_report.max_logit_difference,
            "comparison_seconds": time.perf_counter() - start,
        }
        | {f"bits_per_byte_{language}_unquantized": score for language, score in before.bits_per_byte.items()}
        | {f"bits_per_byte_{language}_quantized": score for language, score in after.bits_per_byte.items()}
        | {f"bits_per_byte_{language}_rounded": score for language, score in (rounded or {}).items()},
        checks=checks,
        notes={"answers_unquantized": [tokenizer.decode(answer) for answer in before.answers]},
        documents={"calibrated": sorted(calibrated)},
    )


def _read(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", texts: ComparisonTexts, context: StageContext
) -> ModelReading:
    length = min(_COMPARED_SEQUENCE_LENGTH, context.settings.model.max_length)
    return read_with(model, tokenizer, texts, sequence_length=length)


def _read_rounded(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", texts: ComparisonTexts, context: StageContext
) -> Mapping[str, float]:
    """Bits per byte by language with the layers that GPTQ packed rounded to nearest; `model` is changed."""
    round_weights(model, packed_layers(context.out), symmetric=context.settings.quantization.symmetric)
    return _read(model, tokenizer, ComparisonTexts(texts.texts, ()), context).bits_per_byte


def _prompt_tokens(context: StageContext) -> int:
    return context.settings.model.max_length - context.settings.digesting.max_new_tokens


def _write_digest_config(context: StageContext) -> None:
    from smartdevdigest_ops.digesting.model import write_digest_config  # noqa: PLC0415 - loads with the tokenizer

    write_digest_config(context.out, context.settings)


def _calibrate_difficulty(
    context: StageContext, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", calibrated: set[str]
) -> dict[str, float]:
    """Write the calibration of the difficulty score, fitted on documents of the validation split; metrics of it."""
    # These load with the tokenizer.
    from smartdevdigest_ops.digesting.calibrate import calibrate_difficulty, choose_labelled  # noqa: PLC0415
    from smartdevdigest_ops.digesting.calibration import write_calibration  # noqa: PLC0415
    from smartdevdigest_ops.digesting.model import digester_of, read_digest_config  # noqa: PLC0415

    settings = context.settings.digesting
    rows = read_split(context.input("labeled_pairs").path, "valid")
    documents = choose_labelled(rows, settings.calibration_documents, settings.factor_weights.model_dump())
    calibrated |= {document_id(document.url) for document in documents}
    digester = digester_of(model, tokenizer, read_digest_config(context.out))
    calibration = calibrate_difficulty(digester, documents, journal=context.scratch / "difficulty.jsonl")
    write_calibration(context.out, calibration)
    metrics: dict[str, float] = {}
    for language, found in calibration.languages.items():
        context.log(f"difficulty, {language}: {found.method}; {found.reason}")
        metrics[f"num_difficulty_documents_{language}"] = found.num_documents
        metrics[f"difficulty_mae_{language}_uncalibrated"] = found.mae_identity
        metrics[f"difficulty_mae_{language}_calibrated"] = found.mae
    return metrics


def _merge_once(context: StageContext, merged: Path, device: str, metrics: dict[str, float]) -> MergeReport:
    """Merge into scratch, or take what an interrupted try of this making merged."""
    done = context.scratch / "merged.json"
    if not done.is_file():
        shutil.rmtree(merged, ignore_errors=True)
        start = time.perf_counter()
        report = merge_adapter(
            context.input("m1_checkpoint").path, context.input("m2_adapter").path, merged, device=device
        )
        metrics["merge_seconds"] = time.perf_counter() - start
        context.log(
            f"merged {report.num_merged_layers} layers in {metrics['merge_seconds']:.0f} s, largest logit difference "
            f"{report.max_logit_difference:.1e}"
        )
        _write_json(done, report.as_json())
    return MergeReport(**json.loads(done.read_text(encoding="utf-8")))


def _draw_calibration(
    context: StageContext, tokenizer: "PreTrainedTokenizerBase", metrics: dict[str, float]
) -> CalibrationSet:
    """Sequences that GPTQ calibrates on, and after them those that only recovery training reads."""
    settings = context.settings.quantization
    num_recovery = settings.recovery.documents if settings.recovery.passes else 0
    calibration = build_calibration(
        tokenizer,
        read_split(context.input("labeled_pairs").path, "train"),
        num_documents=max(settings.calibration_documents, num_recovery),
        num_tokens=settings.calibration_tokens,
        prompt_tokens=_prompt_tokens(context),
        seed=context.settings.seed,
    )
    gptq = slice(settings.calibration_documents)
    metrics |= {
        "num_calibration_documents": len(calibration.sequences[gptq]),
        "num_calibration_tokens": sum(map(len, calibration.sequences[gptq])),
    }
    for language in LANGUAGES:
        metrics[f"num_calibration_documents_{language}"] = calibration.languages[gptq].count(language)
    return calibration


def _quantize_once(
    context: StageContext,
    merged: Path,
    quantized: Path,
    sequences: Sequence[Sequence[int]],
    device: str,
    threads: int,
    metrics: dict[str, float],
) -> GptqReport:
    """Quantize into scratch, or take what an interrupted try of this making quantized."""
    settings = context.settings.quantization
    done = context.scratch / "quantized.json"
    if not done.is_file():
        shutil.rmtree(quantized, ignore_errors=True)
        start = time.perf_counter()
        log_file = context.scratch / "gptq.log"
        chosen = sequences[: settings.calibration_documents]
        context.log(f"GPTQ on {len(chosen)} sequences, {sum(map(len, chosen))} tokens; log: {log_file}")
        report = quantize_gptq(merged, quantized, chosen, settings, device=device, threads=threads, log_file=log_file)
        metrics["gptq_seconds"] = time.perf_counter() - start
        _write_json(done, report.as_json())
    return GptqReport(**json.loads(done.read_text(encoding="utf-8")))


def _recover_once(
    context: StageContext,
    merged: Path,
    quantized: Path,
    sequences: Sequence[Sequence[int]],
    device: str,
    metrics: dict[str, float],
) -> Path:
    """Directory with trained scales and norms; an interrupted try of it begins again."""
    recovered, done = context.scratch / "recovered", context.scratch / "recovered.json"
    settings = context.settings.quantization.recovery
    if not done.is_file():
        shutil.rmtree(recovered, ignore_errors=True)
        start = time.perf_counter()
        chosen = sequences[: settings.documents]
        report = recover(quantized, merged, recovered, chosen, settings, device=device, seed=context.settings.seed)
        metrics["recovery_seconds"] = time.perf_counter() - start
        _write_json(done, report.as_json())
    report = RecoveryReport(**json.loads(done.read_text(encoding="utf-8")))
    context.log(
        f"recovery training, {report.num_steps} steps: {report.divergence_before:.4f} -> {report.divergence_after:.4f} "
        f"bits per token from the unquantized model{'' if report.is_kept else '; no closer, left as it was'}"
    )
    metrics |= {
        "recovery_steps": report.num_steps,
        "recovery_trained_values": report.num_trained_values,
        "recovery_divergence_before": report.divergence_before,
        "recovery_divergence_after": report.divergence_after,
    }
    return recovered


def _say_what_gptq_did(context: StageContext, report: GptqReport, metrics: dict[str, float]) -> None:
    metrics |= {"num_quantized_layers": report.num_layers, "num_fallback_layers": report.num_fallback_layers}
    if report.mean_loss is not None:
        metrics["mean_layer_loss"] = report.mean_loss
    context.log(
        f"quantized {report.num_layers} layers, {report.num_fallback_layers} of them by rounding to nearest, in "
        f"{metrics.get('gptq_seconds', 0):.0f} s"
    )


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


STAGE = Stage(
    name="quantized_model",
    make=make_quantized_model,
    code_version=f"5.{PROMPT_VERSION}",
    inputs=("m1_checkpoint", "m2_adapter", "labeled_pairs", "corpus_snapshot"),
    settings=("quantization", "model.use_gptq", "model.max_length", "model.precision", "digesting", "seed"),
    checks=CHECKS,
    own_process=True,
)
