"""Which stages there are."""

import importlib

from smartdevdigest_ops.artifacts import canonical_json, content_hash
from smartdevdigest_ops.settings import Settings
from smartdevdigest_ops.stage.declaration import Stage, StageError

# Where each stage is defined, each after its inputs: a module that holds `STAGE` (or `STAGES`). Importing one imports
# nothing heavy.
STAGE_MODULES: dict[str, str] = {
    "base_model": "smartdevdigest_ops.models.stage",
    "raw_crawl": "smartdevdigest_ops.drops.stage",
    "cleaned_documents": "smartdevdigest_ops.corpus.stage",
    "cleaned_corpus": "smartdevdigest_ops.corpus.stage",
    "corpus_snapshot": "smartdevdigest_ops.corpus.stage",
    "domain_tokenizer": "smartdevdigest_ops.tokenizer.stage",
    "m1_checkpoint": "smartdevdigest_ops.training.m1.stage",
    "labeled_pairs": "smartdevdigest_ops.labeling.stage",
    "m2_adapter": "smartdevdigest_ops.training.m2.stage",
    "quantized_model": "smartdevdigest_ops.quantization.stage",
    "evaluation_report": "smartdevdigest_ops.evaluation.stage",
    "release": "smartdevdigest_ops.release.stage",
    "digests": "smartdevdigest_ops.digesting.stage",
}


def get_stage(name: str) -> Stage:
    """The declaration of a stage, by its asset's name.

    Raises:
        StageError: there is no such stage.
    """
    if name not in STAGE_MODULES:
        raise StageError(f"There is no stage {name!r}. Stages: {', '.join(STAGE_MODULES)}.")
    module = importlib.import_module(STAGE_MODULES[name])
    stages: tuple[Stage, ...] = getattr(module, "STAGES", None) or (module.STAGE,)
    return next(stage for stage in stages if stage.name == name)


def code_version(name: str, settings: Settings) -> str:
    """Version of a stage's code and of the settings it reads: what Dagster compares to call an asset stale."""
    stage = get_stage(name)
    return f"{stage.code_version}-{content_hash(canonical_json(stage.tracked_settings(settings)))[:8]}"
