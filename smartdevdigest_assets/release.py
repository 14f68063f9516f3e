"""Which model is served."""

import dagster as dg
from dagster._core.definitions.data_version import DATA_VERSION_TAG

from smartdevdigest_assets.project import declared
from smartdevdigest_assets.resources import StageRunner
from smartdevdigest_ops.artifacts import Making


@dg.asset(**declared("release"), group_name="serving", kinds={"json"}, owners=["team:ml"])
def release(context: dg.AssetExecutionContext, stages: StageRunner) -> dg.MaterializeResult:
    """One pointer: the quantized model that passed the gate last, and the report it passed with."""
    return stages.materialize(context)


def report_decision(instance: dg.DagsterInstance, making: Making) -> None:
    """Show a promotion or rollback that was decided outside of a run: a materialization of `release` without one."""
    decision = making.notes["decision"]
    metadata = {
        "decision": dg.MetadataValue.json(decision),
        "markdown": dg.MetadataValue.md(making.notes["markdown"]),
        **{name: dg.MetadataValue.float(value) for name, value in making.metrics.items()},
    }
    instance.report_runless_asset_event(
        dg.AssetMaterialization(
            "release",
            description=f"{decision['by']}: {decision['why']}",
            metadata=metadata,
            tags={DATA_VERSION_TAG: making.version},
        )
    )
