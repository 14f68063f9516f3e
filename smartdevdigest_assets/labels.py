"""Labels of a teacher, joined with the documents they are about."""

import dagster as dg

from smartdevdigest_assets.project import declared
from smartdevdigest_assets.resources import StageRunner


@dg.asset(**declared("labeled_pairs"), group_name="labels", kinds={"parquet"}, owners=["team:ml"])
def labeled_pairs(context: dg.AssetExecutionContext, stages: StageRunner) -> dg.MaterializeResult:
    """One row per document that a teacher has labelled: text and label, in the split of the document."""
    return stages.materialize(context)
