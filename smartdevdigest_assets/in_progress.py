"""What is being made right now, whoever started it: the daemon, the UI or `smartdevdigest run`."""

import socket
from collections.abc import Iterable

import dagster as dg
import psutil

# Tag of a headless run: host and process that executes it. No daemon watches over such a run.
PROCESS_TAG = "smartdevdigest/process"

_PARTITION_TAG = "dagster/partition"
# A run of several partitions at once: its events name them.
_RANGE_TAGS = frozenset({"dagster/asset_partition_range_start", "dagster/asset_partition_range_end"})
_NOT_BEGUN = (dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING)
_BEGUN = (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)
_PLANNED = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
_ENDED = (dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.STEP_SKIPPED)

Partition = str | None
"""None stands for the whole of an unpartitioned asset."""

InProgress = dict[str, set[Partition]]
"""Asset -> what of it a run is making or will make."""


def assets_in_progress(instance: dg.DagsterInstance) -> InProgress:
    """What queued and running runs have still to make.

    An asset is done when it was materialised, failed or was skipped, though its run goes on with others. Dagster's own
    `in_progress` looks at the newest run of an asset only, and calls a failed step in progress until its run ends.
    """
    found: InProgress = {}
    for run in instance.get_runs(dg.RunsFilter(statuses=[*_NOT_BEGUN, *_BEGUN])):
        if is_abandoned(run):
            continue
        for asset, partition in _left_to_make(instance, run):
            found.setdefault(asset, set()).add(partition)
    return found


def is_abandoned(run: dg.DagsterRun) -> bool:
    """Whether this is an unfinished headless run of this host whose process was killed: nothing will ever end it."""
    if run.is_finished:
        return False
    host, _, process = run.tags.get(PROCESS_TAG, "").rpartition(":")
    return host == socket.gethostname() and not psutil.pid_exists(int(process))


def _left_to_make(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Iterable[tuple[str, Partition]]:
    if run.status in _NOT_BEGUN and run.asset_selection and not _RANGE_TAGS & run.tags.keys():
        # Reading the events of a thousand queued runs would take seconds; these say what they will make.
        return [(key.to_user_string(), run.tags.get(_PARTITION_TAG)) for key in run.asset_selection]
    planned: set[tuple[str, Partition]] = set()
    for entry in instance.all_logs(run.run_id, of_type={_PLANNED, *_ENDED}):
        event = entry.get_dagster_event()
        if event.event_type == _PLANNED:
            planned.add((_asset_of(event), event.partition))
        elif event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION:
            planned.discard((_asset_of(event), event.partition))
        else:
            planned = {each for each in planned if each[0] != event.step_key}  # a step is named after its asset
    return planned


def _asset_of(event: dg.DagsterEvent) -> str:
    assert event.asset_key is not None
    return event.asset_key.to_user_string()
