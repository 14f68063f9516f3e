"""The drop sensor on a real Dagster instance, ticked as Dagster's daemon does it."""

import json
import os
from pathlib import Path

import dagster as dg

from smartdevdigest_assets.definitions import defs
from smartdevdigest_assets.incoming import new_drops
from smartdevdigest_ops.artifacts import ArtifactStore
from smartdevdigest_ops.settings import Settings

RUN_KEY_TAG = "dagster/run_key"
# Above the largest process id that Linux gives.
NO_PROCESS = 2**22 + 1


def record(number: int = 1) -> str:
    return json.dumps(
        {"source_type": "blog", "url": f"https://a.example/{number}", "language": "en", "title": "T", "content": "text"}
    )


class Daemon:
    """Ticks the sensor and does what Dagster's daemon does with the answer: partitions, events, one run per run key."""

    def __init__(self, settings: Settings, instance: dg.DagsterInstance) -> None:
        self.settings = settings
        self.instance = instance
        self.cursor: str | None = None

    def tick(self) -> list[dg.RunRequest]:
        """Evaluate, without starting what was requested."""
        result = new_drops(dg.build_sensor_context(instance=self.instance, cursor=self.cursor))
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor
        self.skip_message = result.skip_reason.skip_message if result.skip_reason else None
        for request in result.dynamic_partitions_requests or []:
            assert isinstance(request, dg.AddDynamicPartitionsRequest)
            self.instance.add_dynamic_partitions("drops", list(request.partition_keys))
        for event in result.asset_events:
            self.instance.report_runless_asset_event(event)
        return list(result.run_requests or [])

    def run(self, requests: list[dg.RunRequest]) -> list[dg.ExecuteInProcessResult]:
        """Start the requested runs, really."""
        return [
            defs.resolve_job_def(request.job_name).execute_in_process(
                instance=self.instance,
                partition_key=request.partition_key,
                run_config=request.run_config,
                tags={**request.tags, RUN_KEY_TAG: request.run_key},
                raise_on_error=False,
            )
            for request in requests
            if not self.instance.get_runs(dg.RunsFilter(tags={RUN_KEY_TAG: request.run_key}))
        ]

    def tick_and_run(self) -> list[bool]:
        """Whether each run that was started succeeded."""
        return [result.success for result in self.run(self.tick())]

    @property
    def partitions(self) -> set[str]:
        return set(self.instance.get_dynamic_partitions("drops"))

    @property
    def table(self) -> str:
        """What the UI shows of the refused drops."""
        event = self.instance.get_latest_materialization_event(dg.AssetKey("refused_drops"))
        return event.asset_materialization.metadata["refused"].value

    @property
    def check_passes(self) -> bool:
        key = dg.AssetCheckKey(dg.AssetKey("refused_drops"), "nothing_refused")
        record = self.instance.event_log_storage.get_latest_asset_check_execution_by_key([key])[key]
        return record.event.dagster_event.event_specific_data.passed


def store_of(daemon: Daemon) -> ArtifactStore:
    return ArtifactStore(daemon.settings.store_dir)


def settle(path: Path) -> None:
    """Make the file look as if it was last written a minute ago."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns - 60 * 10**9))
