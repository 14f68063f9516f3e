"""The corpus: cleaned document by document, then frozen for training."""

import dagster as dg

from smartdevdigest_assets.project import declared
from smartdevdigest_assets.resources import StageRunner


@dg.asset(**declared("cleaned_corpus"), group_name="corpus", kinds={"parquet"}, owners=["team:data"])
def cleaned_corpus(context: dg.AssetExecutionContext, stages: StageRunner) -> dg.MaterializeResult:
    """One row per kept document, with language and split; one row per dropped document, with its reason."""
    return stages.materialize(context)


@dg.asset(**declared("corpus_snapshot"), group_name="corpus", kinds={"parquet"}, owners=["team:data"])
def corpus_snapshot(context: dg.AssetExecutionContext, stages: StageRunner) -> dg.MaterializeResult:
    """One row per document of the corpus as it is trained on: train, valid and test, frozen."""
    return stages.materialize(context)
