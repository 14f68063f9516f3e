"""Which model is served."""

import dagster as dg

from smartdevdigest_assets.project import declared
from smartdevdigest_assets.resources import StageRunner


@dg.asset(**declared("release"), group_name="serving", kinds={"json"}, owners=["team:ml"])
def release(context: dg.AssetExecutionContext, stages: StageRunner) -> dg.MaterializeResult:
    """One pointer: the quantized model that passed the gate last, and the report it passed with."""
    return stages.materialize(context)
