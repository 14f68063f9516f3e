"""The base tokenizer, continued on the corpus."""

import dagster as dg

from smartdevdigest_assets.project import declared
from smartdevdigest_assets.resources import StageRunner


@dg.asset(**declared("domain_tokenizer"), group_name="model", kinds={"huggingface"}, owners=["team:ml"])
def domain_tokenizer(context: dg.AssetExecutionContext, stages: StageRunner) -> dg.MaterializeResult:
    """One tokenizer: the base one with merges learned on the train split, and its fertility report."""
    return stages.materialize(context)
