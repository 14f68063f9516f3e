"""What starts by itself: drops are taken in as they land, the graph below is refreshed nightly.

All of it is off until somebody switches it on in the UI: a fresh checkout trains nothing unasked.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg

from smartdevdigest_assets.partitions import DROPS
from smartdevdigest_assets.project import SETTINGS
from smartdevdigest_ops.artifacts import ArtifactStore
from smartdevdigest_ops.crawl.drops import list_drops, register_drop
from smartdevdigest_ops.errors import UserError
from smartdevdigest_ops.settings import resolve_path

_PARTITIONED = dg.AssetSelection.assets("raw_crawl", "digests")

ingest_drop = dg.define_asset_job(
    "ingest_drop", dg.AssetSelection.assets("raw_crawl"), description="Check one drop against the crawl contract."
)
refresh = dg.define_asset_job(
    "refresh",
    dg.AssetSelection.all() - _PARTITIONED,
    description="Everything between the drops and the release; what is up to date is found, not made again.",
)
digest_drop = dg.define_asset_job(
    "digest_drop", dg.AssetSelection.assets("digests"), description="Digest the documents of one drop."
)

# A file that was written to a moment ago may still be growing.
_SETTLED_SECONDS = 5.0
# Per tick; a sensor's tick times out after 60 s, and a slow disk reads some 100 MB/s.
_MAX_HASHED_BYTES = 2 * 1024**3


@dg.sensor(job=ingest_drop, minimum_interval_seconds=30, default_status=dg.DefaultSensorStatus.STOPPED)
def new_drops(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """One run per distinct content in `data.incoming_path`; a file counts once its size and time stand still.

    The cursor maps a file's name to [bytes, mtime_ns, key or null]. A file is hashed only when it is as it was at the
    last tick and some seconds old, so that a tick over known files costs one `stat` each.
    """
    seen: dict[str, list[int | str | None]] = json.loads(context.cursor or "{}")
    store = ArtifactStore(SETTINGS.store_dir)
    cursor: dict[str, list[int | str | None]] = {}
    keys: list[str] = []
    hashed_bytes = 0
    for path, size, mtime_ns in _files(resolve_path(SETTINGS.data.incoming_path)):
        before = seen.get(path.name)
        if before is None or before[:2] != [size, mtime_ns] or time.time() - mtime_ns / 1e9 < _SETTLED_SECONDS:
            cursor[path.name] = [size, mtime_ns, None]
            continue
        key = before[2]
        if not isinstance(key, str):
            if hashed_bytes > _MAX_HASHED_BYTES:
                cursor[path.name] = before
                continue  # the next tick goes on here; a tick that times out would keep nothing
            try:
                key = register_drop(store, path)
            except (OSError, UserError) as error:
                # One unreadable file holds nobody else up; it is tried again at every tick.
                context.log.warning(f"{path.name} is passed over: {error}")
                cursor[path.name] = before
                continue
            hashed_bytes += size
            keys.append(key)
        cursor[path.name] = [size, mtime_ns, key]
    return dg.SensorResult(
        run_requests=[dg.RunRequest(run_key=key, partition_key=key) for key in dict.fromkeys(keys)],
        dynamic_partitions_requests=[DROPS.build_add_request(keys)] if keys else [],
        cursor=json.dumps(cursor),
    )


def _files(directory: Path) -> Iterator[tuple[Path, int, int]]:
    if not directory.is_dir():
        return
    for path in list_drops(str(directory)):
        try:
            status = path.stat()
        except FileNotFoundError:
            continue  # taken away between listing and looking
        yield path, status.st_size, status.st_mtime_ns


nightly_refresh = dg.ScheduleDefinition(
    name="nightly_refresh",
    job=refresh,
    cron_schedule="0 2 * * *",
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Training starts at most once a night, however many drops came in by day.",
)
