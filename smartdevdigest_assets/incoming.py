"""New drops start their runs: one partition and one run per distinct content that lands in `data.incoming_path`.

The sensor's cursor holds nothing. What is known of each file is in the store (ops/drops/incoming_state.py), so a
restarted daemon, a lost cursor or a changed sensor name starts no run twice. What became of a run is read from
Dagster itself: a drop counts as taken in when the store has it, as refused when its run failed, and is requested
again when no run of it is to be found (under the same run key) or a killed headless run is all there is.

It is off until somebody switches it on in the UI: a fresh checkout takes in nothing unasked.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import dagster as dg

from smartdevdigest_assets.in_progress import is_abandoned
from smartdevdigest_assets.partitions import DROPS, remove_drops, taking_in
from smartdevdigest_assets.project import SETTINGS
from smartdevdigest_assets.refused import report_of_refused, set_aside
from smartdevdigest_ops.artifacts import ArtifactStore, content_hash
from smartdevdigest_ops.drops.identify import identify_in_run
from smartdevdigest_ops.drops.incoming import Look, look_at
from smartdevdigest_ops.drops.incoming_state import DropState, FileState, IncomingState
from smartdevdigest_ops.drops.intake import follow_files, not_partitions, waiting_drops
from smartdevdigest_ops.drops.location import Location, LocationError
from smartdevdigest_ops.drops.refusals import INGEST_STAGES, forget_refusal, is_taken_in

_PARTITION_TAG = "dagster/partition"
_NAME_TAG = "smartdevdigest/drop"
# A retry that Dagster itself has announced for a run that crashed.
_RETRY_TAG = "dagster/will_retry"
# Requested runs that are not over yet. More would make neither the runs nor the tick that follows them faster.
_MAX_REQUESTED = 200
# Partitions deleted per tick, each under a lock of its own, which is an open file.
_MAX_REMOVED = 200
# By then the daemon has started what a tick asked for, or it died in between.
_LOST_SECONDS = 600.0

ingest_drop = dg.define_asset_job(
    "ingest_drop",
    dg.AssetSelection.assets(*INGEST_STAGES),
    description="Take in one drop: its records checked, its documents cleaned.",
)


class LargeFile(dg.Config):
    """A file of the watched location."""

    path: str


@dg.op(description="Find out which drop a file is that takes longer to read than a sensor's tick may last.")
def identify_file(context: dg.OpExecutionContext, config: LargeFile) -> None:
    """Hash a file (and copy a remote one); the sensor requests the run of its drop."""
    try:
        key = identify_in_run(SETTINGS.data, ArtifactStore(SETTINGS.store_dir), config.path)
    except LocationError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
    context.log.info(f"{config.path} is drop {key}" if key else f"{config.path} changed while it was read")


@dg.job(executor_def=dg.in_process_executor)
def identify_drop() -> None:
    """Read one large file of the watched location."""
    identify_file()


@dg.sensor(
    jobs=[ingest_drop, identify_drop],
    minimum_interval_seconds=SETTINGS.data.incoming_seconds,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="Takes in what lands in data.incoming_path: one run per distinct content. A drop whose run failed is "
    "set aside: the asset refused_drops shows its reasons.",
)
def new_drops(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """One run per distinct content in `data.incoming_path`; drops whose run failed are set aside in `refused_drops`."""
    store, now = ArtifactStore(SETTINGS.store_dir), time.time()
    with IncomingState(store) as state:
        look, problem = _look(context, store, state, now)
        _follow_runs(context, store, state, now)
        removed = _remove_partitions(context.instance, store, state)
        requests = [
            *_requests(context, store, state, now),
            *(_identification(file) for file in (look.large if look else ())),
        ]
    events = report_of_refused(context.instance, store)
    if problem is not None:
        if not (requests or removed or events):
            raise problem  # the tick fails, which is what the UI shows in red
        context.log.error(str(problem))
    added = [request.partition_key for request in requests if request.partition_key]
    return dg.SensorResult(
        run_requests=requests,
        skip_reason=None if requests else dg.SkipReason(_summary(look)),
        dynamic_partitions_requests=[DROPS.build_add_request(added)] if added else [],
        asset_events=events,
    )


def _look(
    context: dg.SensorEvaluationContext, store: ArtifactStore, state: IncomingState, now: float
) -> tuple[Look | None, LocationError | None]:
    try:
        location = Location(SETTINGS.data.incoming_path)
        look = look_at(location, SETTINGS.data, store, state, now)
    except LocationError as error:
        return None, error
    follow_files(location, look, SETTINGS, store, state, now)
    if look.new_unknown:
        context.log.warning(
            f"{len(look.new_unknown)} files are passed over, since their names end in no known format: "
            f"{', '.join(look.new_unknown[:10])}"
        )
    for problem in look.new_unreadable:
        context.log.warning(f"{problem}. It is passed over and tried again later.")
    return look, None


def _follow_runs(context: dg.SensorEvaluationContext, store: ArtifactStore, state: IncomingState, now: float) -> None:
    """See what became of the requested runs."""
    requested = state.drops("requested")
    runs = _runs_of(context.instance, requested)
    changed: list[DropState] = []
    forgotten: list[str] = []
    for drop in requested.values():
        newest = runs[drop.key][0] if drop.key in runs else None
        if is_taken_in(store, drop.key):
            forget_refusal(store, drop.key)
            changed.append(drop._replace(status="taken", since=now))
        elif newest is None or is_abandoned(newest):
            if now - drop.since > _LOST_SECONDS:
                changed.append(drop._replace(status="waiting", since=now))
        elif not newest.is_finished or _is_retried(newest):
            continue
        elif not state.holds(drop.key, drop.path):
            context.log.warning(f"{drop.path} went or changed before drop {drop.key} was taken in.")
            changed.append(drop._replace(status="gone", since=now))
        else:
            refusal = set_aside(context.instance, store, SETTINGS, drop.key, drop.path, newest.run_id)
            context.log.warning(f"{drop.path} is set aside: {'; '.join(refusal.reasons)}")
            forgotten.append(drop.key)
    state.put_drops(changed)
    state.forget_drops(forgotten)


def _is_retried(run: dg.DagsterRun) -> bool:
    """Whether Dagster's daemon starts a failed run again; it announces that of headless ones too, and cannot."""
    return run.tags.get(_RETRY_TAG) == "true" and run.remote_job_origin is not None


def _requests(
    context: dg.SensorEvaluationContext, store: ArtifactStore, state: IncomingState, now: float
) -> list[dg.RunRequest]:
    """Requests for drops that wait; of those that have a run already (headless, say) that run is followed."""
    drops = waiting_drops(store, state, max(0, _MAX_REQUESTED - len(state.drops("requested"))))
    runs = _runs_of(context.instance, [drop.key for drop in drops])
    state.put_drops(drop._replace(status="requested", since=now) for drop in drops)
    requests = []
    for drop in drops:
        earlier = runs.get(drop.key, [])
        if earlier and not earlier[0].is_finished and not is_abandoned(earlier[0]):
            continue
        # Dagster starts one run per run key, ever; another try of the same content needs another.
        run_key = f"{drop.key}-{len(earlier) + 1}" if earlier else drop.key
        name = Path(drop.path).name
        context.log.info(f"{name} is drop {drop.key}")
        requests.append(
            dg.RunRequest(
                run_key=run_key, partition_key=drop.key, job_name=ingest_drop.name, tags={_NAME_TAG: name[:200]}
            )
        )
    return requests


def _remove_partitions(instance: dg.DagsterInstance, store: ArtifactStore, state: IncomingState) -> list[str]:
    """Delete partitions that nothing will make, so that nothing below waits for them; returns them.

    Deleted here, not by the daemon after the tick: a headless run may have begun to try the drop again by then.
    """
    unmade = not_partitions(store, state, set(instance.get_dynamic_partitions(str(DROPS.name))))
    with ExitStack() as locks:
        free = []
        for key in unmade[:_MAX_REMOVED]:
            with suppress(BlockingIOError):  # a headless run is taking it in
                locks.enter_context(taking_in(store, key, wait=False))
                free.append(key)
        return remove_drops(instance, store, free)


def _identification(file: FileState) -> dg.RunRequest:
    run_key = f"{content_hash(file.path + file.signature)}-{file.num_tries}"
    config = dg.RunConfig(ops={"identify_file": LargeFile(path=file.path)})
    return dg.RunRequest(
        run_key=run_key, run_config=config, job_name=identify_drop.name, tags={_NAME_TAG: Path(file.path).name[:200]}
    )


def _runs_of(instance: dg.DagsterInstance, keys: Collection[str]) -> Mapping[str, Sequence[dg.DagsterRun]]:
    """Runs that were to take in these drops, by key, the newest first."""
    runs: dict[str, list[dg.DagsterRun]] = {}
    if keys:
        wanted = dg.RunsFilter(job_name=ingest_drop.name, tags={_PARTITION_TAG: list(keys)})
        for run in instance.get_runs(wanted):
            runs.setdefault(run.tags[_PARTITION_TAG], []).append(run)
    return runs


def _summary(look: Look | None) -> str:
    if look is None:
        return "The location could not be listed."
    known = sum(file.key is not None for file in look.files.values())
    parts = {
        "files not ready": look.waiting,
        "that cannot be read": look.unreadable,
        "of no known format": look.unknown,
    }
    return ", ".join([f"{known} known drops", *(f"{len(names)} {what}" for what, names in parts.items() if names)])
