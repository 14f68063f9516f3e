"""Removing what the store no longer needs: a job of one op, and the schedule that starts it weekly, once switched on.

A version that a run is making or reading stays.
"""

import dagster as dg

from smartdevdigest_ops.errors import UserError
from smartdevdigest_ops.housekeeping.prune import prune
from smartdevdigest_ops.settings import load_settings


@dg.op(description="Remove old versions: see `store.keep_versions` and its neighbours.")
def prune_versions(context: dg.OpExecutionContext) -> dg.Output[int]:
    """Bytes that were freed.

    Raises:
        dg.Failure: it cannot be told what is needed; nothing was removed.
    """
    try:
        report = prune(load_settings(), context.log.info)
    except UserError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
    metadata = {
        "num_removed": dg.MetadataValue.int(len(report.removed)),
        "num_left_for_the_next_time": dg.MetadataValue.int(len(report.busy)),
        "freed_bytes": dg.MetadataValue.int(report.num_bytes),
        "removed": dg.MetadataValue.md("\n".join(f"- {each.name}" for each in report.removed) or "nothing"),
    }
    return dg.Output(report.num_bytes, metadata=metadata)


@dg.job(
    executor_def=dg.in_process_executor,  # it works on the disk, wherever the steps of assets run
    description="Remove what the store no longer needs once; `smartdevdigest prune --dry-run` says what that is.",
)
def prune_store() -> None:
    """One op."""
    prune_versions()


weekly_prune = dg.ScheduleDefinition(
    job=prune_store,
    cron_schedule="0 3 * * 0",
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Sundays at 03:00 UTC.",
)
