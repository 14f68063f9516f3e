"""The pretrained model that everything starts from."""

import dagster as dg

from smartdevdigest_assets.project import declared
from smartdevdigest_assets.resources import StageRunner


@dg.asset(**declared("base_model"), group_name="model", kinds={"huggingface", "safetensors"}, owners=["team:ml"])
def base_model(context: dg.AssetExecutionContext, stages: StageRunner) -> dg.MaterializeResult:
    """One pretrained model and tokenizer, resolved from `model.base_model` to a local snapshot of one revision."""
    return stages.materialize(context)
