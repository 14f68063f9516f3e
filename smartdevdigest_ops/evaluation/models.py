"""The models that a report measures: which they are, what they answer, how well they predict text."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smartdevdigest_ops.artifacts import ArtifactStore
from smartdevdigest_ops.errors import UserError
from smartdevdigest_ops.evaluation.gold import TestDocument
from smartdevdigest_ops.evaluation.metrics.compression import bits_per_byte_by_language, choose_texts, document_bits
from smartdevdigest_ops.evaluation.report.page import STAGE_TITLES
from smartdevdigest_ops.evaluation.statistics.intervals import Bootstrap
from smartdevdigest_ops.evaluation.systems import (
    CANDIDATE,
    M1,
    RELEASE,
    ROUNDED,
    UNQUANTIZED,
    UNTUNED_BASE,
    Answer,
    answers_of_model,
    with_settings_of,
)
from smartdevdigest_ops.models.devices import choose_device
from smartdevdigest_ops.quantization.load import load_for_inference, packed_layers, read_config
from smartdevdigest_ops.quantization.merge import merge_adapter
from smartdevdigest_ops.quantization.rounding import round_weights
from smartdevdigest_ops.release import RELEASE_FILE, read_release, release_before
from smartdevdigest_ops.settings import Settings
from smartdevdigest_ops.stage import StageContext
from smartdevdigest_ops.stage.demand import making_behind


def model_answers(
    context: StageContext, documents: Sequence[TestDocument]
) -> tuple[dict[str, list[Answer]], dict[str, str]]:
    """System -> its answers to the documents, in their order, and why a system has none."""
    settings, candidate = context.settings.evaluation, context.input("quantized_model").path
    answers = {CANDIDATE: _generate(context, CANDIDATE, candidate, documents)}
    not_run: dict[str, str] = {}
    for system, found in ((UNQUANTIZED, unquantized_model(context)), (ROUNDED, rounded_model(context))):
        if isinstance(found, Path):
            model_dir = with_settings_of(candidate, found, context.scratch / system, calibrated=True)
            answers[system] = _generate(context, system, model_dir, documents)
        else:
            not_run[system] = found
    try:
        released = _released_model(context)
        if isinstance(released, Path):
            answers[RELEASE] = _generate(context, RELEASE, released, documents)
        else:
            not_run[RELEASE] = released
    except UserError as error:
        context.log(f"the previous release is left out: {error}")
        not_run[RELEASE] = "it is damaged, or was made for another version of the prompt; the log says which"
    for system, asset, wanted in (
        (M1, "m1_checkpoint", settings.m1_without_m2),
        (UNTUNED_BASE, "base_model", settings.untuned_base),
    ):
        if not wanted:
            not_run[system] = "switched off in the settings"
            continue
        model_dir = with_settings_of(candidate, context.input(asset).path, context.scratch / system)
        answers[system] = _generate(context, system, model_dir, documents)
    return answers, not_run


def unquantized_model(context: StageContext) -> Path | str:
    """Directory of M1 with the adapter merged, which quantized_model was made from, or why there is none."""
    settings = context.settings
    if not settings.model.use_gptq:
        return "the candidate is not quantized"
    if not settings.evaluation.unquantized:
        return "switched off in the settings"
    making = making_behind(context.store, "quantized_model", context.input("quantized_model").version)
    for asset in ("m1_checkpoint", "m2_adapter"):
        used, current = making.inputs.get(asset) if making else None, context.input(asset).version
        if used != current:  # a later one that did not come through quantization
            return f"the candidate was made from {asset} {used}, and {current} is the current one"
    merged, done = context.scratch / "merged", context.scratch / "merged.done"
    if not done.is_file():  # an interrupted try may have left a part
        shutil.rmtree(merged, ignore_errors=True)
        m1, adapter = context.input("m1_checkpoint").path, context.input("m2_adapter").path
        merge_adapter(m1, adapter, merged, device=choose_device(settings.model.device))
        done.touch()
    return merged


def rounded_model(context: StageContext) -> Path | str:
    """Directory of the unquantized candidate, its layers that GPTQ packed rounded to nearest, or why there is none."""
    import torch
    from transformers import AutoTokenizer

    if not context.settings.evaluation.rounded:
        return "switched off in the settings"
    unquantized, candidate = unquantized_model(context), context.input("quantized_model").path
    if isinstance(unquantized, str):
        return f"the candidate before quantization is needed: {unquantized}"
    quantization = read_config(candidate).get("quantization_config")
    if quantization is None:
        return "the candidate holds no packed layer"
    rounded, done = context.scratch / "rounded_model", context.scratch / "rounded_model.done"
    if not done.is_file():
        shutil.rmtree(rounded, ignore_errors=True)
        model = load_for_inference(unquantized, device="cpu", dtype=torch.float32)
        round_weights(model, packed_layers(candidate), symmetric=quantization["sym"])
        model.save_pretrained(rounded)
        AutoTokenizer.from_pretrained(unquantized, local_files_only=True).save_pretrained(rounded)
        done.touch()
    return rounded


def _released_model(context: StageContext) -> Path | str:
    """Directory of the newest released model that is not the candidate, or why there is none."""
    if not context.settings.evaluation.previous_release:
        return "switched off in the settings"
    release = release_before(context.store, context.input("quantized_model").version)
    if release is None:
        return "no other model was released before"
    model = context.store.open("quantized_model", read_release(release)["quantized_model"])
    model.refuse_damage()
    return model.path


def previous_release_file(settings: Settings, store: ArtifactStore) -> list[Path]:
    """What names the released model that the candidate is compared with.

    The release is made from this report, so it cannot be an input. It is looked up as a file from outside, whose
    content decides whether the report is up to date. That file is the newest release of *another* model: when the
    candidate is released itself, it stays the same file, and the report is not made again for its own success.
    """
    candidate = store.current_making("quantized_model")
    if candidate is None or not settings.evaluation.previous_release:
        return []
    release = release_before(store, candidate.version)
    return [release.path / RELEASE_FILE] if release else []


def _generate(context: StageContext, system: str, model_dir: Path, documents: Sequence[TestDocument]) -> list[Answer]:
    journal = context.scratch / f"digests-{system}.jsonl"
    return answers_of_model(system, model_dir, documents, journal=journal, model=context.settings.model)


def bits_per_byte_of_models(
    context: StageContext, test_rows: Sequence[Mapping[str, Any]], bootstrap: Bootstrap
) -> dict[str, dict[str, dict[str, float | int | None]]]:
    """Model on the way to the candidate -> language -> bits per byte of test documents."""
    texts = choose_texts(test_rows, context.settings.evaluation.bits_per_byte_documents)
    models = {stage: context.input(stage).path for stage in ("base_model", "m1_checkpoint", "quantized_model")}
    for system, found in ((UNQUANTIZED, unquantized_model(context)), (ROUNDED, rounded_model(context))):
        if isinstance(found, Path):
            models = models | {system: found}
    table = {}
    for stage in [stage for stage in STAGE_TITLES if stage in models] if texts else ():
        bits = document_bits(
            models[stage],
            [each.text for each in texts],
            model_settings=context.settings.model,
            name=stage,
            journal=context.scratch / f"bits-{stage}.json",
        )
        table[stage] = bits_per_byte_by_language(texts, bits, bootstrap)
    return table
