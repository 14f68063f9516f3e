"""base_model: the pretrained model and tokenizer as one snapshot, the root of everything trained."""

import json
from pathlib import Path
from typing import Any

from smartdevdigest_ops.artifacts import ArtifactStore
from smartdevdigest_ops.models.devices import use_threads
from smartdevdigest_ops.models.resolve import resolve_base_model, source_files
from smartdevdigest_ops.settings import Settings
from smartdevdigest_ops.stage import Check, CheckResult, Stage, StageContext, StageReport
from smartdevdigest_ops.tokenizer.round_trip import PROBE_TEXTS, excerpt_of_difference, round_trip_failures


def make_base_model(context: StageContext) -> StageReport:
    """Resolve `model.base_model` into the artifact and look at what came."""
    settings = context.settings
    use_threads(settings.model.threads)
    model = settings.model
    source = resolve_base_model(model.base_model, context.out, seed=settings.seed, accept_terms=model.accept_terms)
    (context.out / "source.json").write_text(
        json.dumps(source.as_json(), ensure_ascii=False, indent=2) + "\n", encoding="utf-8"
    )
    context.log(
        f"base model {source.base_model}, revision {source.revision[:16]}, licence {source.license or 'unsaid'}"
    )
    shape = read_shape(context.out)
    checks = (check_tokenizer(context.out), check_weights(context.out), check_embedding(context.out, shape))
    return StageReport(
        metrics={
            "num_parameters": shape["num_parameters"],
            "vocabulary_size": shape["num_tokens"],
            "bytes": sum(file.stat().st_size for file in context.out.iterdir()),
        },
        checks=checks,
        notes=source.as_json(),
    )


def read_shape(snapshot: Path) -> dict[str, Any]:
    """num_parameters, num_tokens, embedding_rows and embedding_name of a snapshot, without loading its weights."""
    import torch
    from safetensors import safe_open
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(snapshot))
    embedding = model.get_input_embeddings()
    name = next(name for name, module in model.named_modules() if module is embedding) + ".weight"
    rows = 0
    for file in sorted(snapshot.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            if name in tensors.keys():  # noqa: SIM118 - not a dict
                rows = tensors.get_slice(name).get_shape()[0]
    return {
        "num_parameters": model.num_parameters(),
        "num_tokens": len(AutoTokenizer.from_pretrained(snapshot)),
        "embedding_rows": rows,
        "embedding_name": name,
    }


def check_tokenizer(snapshot: Path) -> CheckResult:
    """Probe texts in Korean, English, code and control characters survive encoding and decoding."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(snapshot)
    failures = round_trip_failures(tokenizer, PROBE_TEXTS)
    message = f"{len(PROBE_TEXTS) - len(failures)} of {len(PROBE_TEXTS)} probe texts round-trip; all must."
    if failures:
        message += f" In the first that does not, {excerpt_of_difference(tokenizer, failures[0])}."
    return CheckResult("tokenizer_round_trips", not failures, message)


def check_weights(snapshot: Path) -> CheckResult:
    """No weight is NaN or infinite. Reads one tensor at a time."""
    from safetensors import safe_open

    broken = []
    num_tensors = 0
    for file in sorted(snapshot.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a dict
                num_tensors += 1
                if not tensors.get_tensor(name).isfinite().all():
                    broken.append(name)
    message = f"{len(broken)} of {num_tensors} tensors hold NaN or infinity; none may."
    if broken:
        message += f" The first: {broken[0]}."
    return CheckResult("weights_are_finite", num_tensors > 0 and not broken, message)


def check_embedding(snapshot: Path, shape: dict[str, Any] | None = None) -> CheckResult:
    """The embedding has a row for every token of the tokenizer."""
    shape = shape or read_shape(snapshot)
    rows, num_tokens = shape["embedding_rows"], shape["num_tokens"]
    message = f"{shape['embedding_name']} has {rows} rows for {num_tokens} tokens; at least as many are needed."
    return CheckResult("embedding_covers_vocabulary", rows >= num_tokens, message)


def _outside_files(settings: Settings, _store: ArtifactStore, _partition: str | None) -> list[Path]:
    return source_files(settings.model.base_model, settings.model.accept_terms)


STAGE = Stage(
    name="base_model",
    make=make_base_model,
    code_version="2",
    settings=("model.base_model", "seed"),
    checks=(
        Check("tokenizer_round_trips", "Korean, English, code and control characters survive encode and decode."),
        Check("weights_are_finite", "No weight is NaN or infinite."),
        Check("embedding_covers_vocabulary", "Every token of the tokenizer has an embedding row."),
    ),
    outside_files=_outside_files,
    own_process=True,
)
