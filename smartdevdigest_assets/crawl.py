"""Drops of crawl records, checked against the contract."""

import dagster as dg

from smartdevdigest_assets.project import declared
from smartdevdigest_assets.resources import StageRunner


@dg.asset(**declared("raw_crawl"), group_name="crawl", kinds={"parquet"}, owners=["team:data"])
def raw_crawl(context: dg.AssetExecutionContext, stages: StageRunner) -> dg.MaterializeResult:
    """One row per record of the drop that keeps the contract; the others in the rejects, with line and reason."""
    return stages.materialize(context)
