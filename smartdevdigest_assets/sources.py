"""The crawl of the configured sources: a job of one op, and the schedule that starts it daily. Off until switched on.

It makes no asset: what it delivers is a drop, which `new_drops` takes in like any other.
"""

from typing import Any

import dagster as dg

from smartdevdigest_ops.crawl.crawl import crawl_configured_sources
from smartdevdigest_ops.errors import UserError
from smartdevdigest_ops.settings import load_settings

_UNFINISHED = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]


@dg.op(out=dg.Out(dict), description="Fetch what is new or changed at the sources of config/sources.yaml, as a drop.")
def crawl(context: dg.OpExecutionContext) -> dg.Output[dict[str, Any]]:
    """Counts by source, and the drop. A source that fails is told in the log and costs the others nothing.

    Raises:
        dg.Failure: the sources or settings are wrong, or sources failed and none gave a page: a crawl that brings
            nothing every night must not look like one that finds nothing new.
    """
    try:
        report = crawl_configured_sources(load_settings())
    except UserError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
    for line in report.lines():
        context.log.info(line)
    for name, counts in report.sources.items():
        if counts.problem is not None:
            context.log.warning(f"source {name} failed: {counts.problem}")
    drop = report.drop.address if report.drop else "none: nothing was new"
    numbers = {name: dg.MetadataValue.int(number) for name, number in report.totals().items()}
    if report.num_failed and not report.num_had:
        problems = "\n".join(f"{name}: {counts.problem}" for name, counts in report.sources.items() if counts.problem)
        raise dg.Failure(
            description=f"No source gave a page, and {report.num_failed} of {len(report.sources)} failed:\n{problems}",
            metadata={**numbers, "sources": dg.MetadataValue.md(report.markdown())},
            allow_retries=False,
        )
    return dg.Output(
        {"run": report.run, "drop": drop, **report.totals()},
        metadata={"drop": drop, **numbers, "sources": dg.MetadataValue.md(report.markdown())},
    )


@dg.job(
    executor_def=dg.in_process_executor,  # it waits for the network, wherever the steps of assets run
    description="Crawl the configured sources once; a crawl that was killed goes on where it was.",
)
def crawl_sources() -> None:
    """One op."""
    crawl()


@dg.schedule(
    job=crawl_sources,
    cron_schedule="0 0 * * *",
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Once a day at 00:00 UTC, unless the crawl of the day before is still under way.",
)
def daily_crawl(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """A crawl that takes longer than a day is not joined by a second one, which could only find it and end."""
    unfinished = context.instance.get_run_records(
        dg.RunsFilter(job_name=crawl_sources.name, statuses=_UNFINISHED), limit=1
    )
    if unfinished:
        return dg.SkipReason(f"Run {unfinished[0].dagster_run.run_id} is still crawling.")
    return dg.RunRequest()
