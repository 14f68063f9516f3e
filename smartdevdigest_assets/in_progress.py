"""What is being made right now, whoever started it: the daemon, the UI or `smartdevdigest run`."""

import os
import re
import socket
from collections.abc import Iterable

import dagster as dg
import psutil

# Tag of a headless run: which process executes it (`process_tag`). No daemon watches over such a run.
PROCESS_TAG = "smartdevdigest/process"

# Runs of older versions do not say when their process started.
_PROCESS = re.compile(r"(?P<host>.+?):(?P<id>\d+)(:(?P<started>\d+(\.\d+)?))?")
# A start is read as the time of the boot, in whole seconds, plus what passed since: two readings may be 1 s apart.
_START_TOLERANCE_SECONDS = 1.5

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


def process_tag() -> str:
    """This process as `host:id:start`, the start in seconds since 1970: a process ID is given again after a reboot."""
    return f"{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time():.2f}"


def is_abandoned(run: dg.DagsterRun) -> bool:
    """Whether this is an unfinished headless run of this host whose process was killed: nothing will ever end it."""
    process = _process_here(run)
    return process is not None and not run.is_finished and not _is_alive(*process)


def has_own_process_id(run: dg.DagsterRun) -> bool:
    """Whether this is a headless run of this process, or of a dead one that had its ID."""
    process = _process_here(run)
    return process is not None and process[0] == os.getpid()


def _process_here(run: dg.DagsterRun) -> tuple[int, float | None] | None:
    """(ID, start) of the process of a headless run of this host."""
    found = _PROCESS.fullmatch(run.tags.get(PROCESS_TAG, ""))
    if found is None or found["host"] != socket.gethostname():
        return None
    return int(found["id"]), float(found["started"]) if found["started"] else None


def _is_alive(process_id: int, started: float | None) -> bool:
    try:
        process = psutil.Process(process_id)
        if process.status() == psutil.STATUS_ZOMBIE:  # in a container often nobody waits for a killed process
            return False
        return started is None or abs(process.create_time() - started) <= _START_TOLERANCE_SECONDS
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


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
