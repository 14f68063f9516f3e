"""The whole graph without a UI or daemon: what `smartdevdigest run` does, on the same Dagster instance as the UI's.

Drops are taken in one by one, then every asset that is not up to date is materialised in one run, then the newest
drop is digested. What is up to date is decided by fingerprints in the artifact store, so a second run starts nothing.
"""

import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from smartdevdigest_assets.definitions import defs
from smartdevdigest_assets.instance import prepare_dagster_home
from smartdevdigest_assets.partitions import DROPS
from smartdevdigest_ops.artifacts import ArtifactStore
from smartdevdigest_ops.crawl.drops import list_drops, register_drop
from smartdevdigest_ops.errors import UserError
from smartdevdigest_ops.settings import Settings
from smartdevdigest_ops.stage import get_stage, is_fresh

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class RunFailed(UserError):
    """An asset failed, or one of its blocking checks did."""


@dataclass(frozen=True)
class Outcome:
    """What a headless run did."""

    made: tuple[str, ...]
    """Assets (and `asset[partition]`) that were run."""
    up_to_date: int
    """Assets that needed nothing."""
    newest_drop: str
    seconds: float


@contextmanager
def dagster_instance(store_dir: Path) -> Iterator[dg.DagsterInstance]:
    """The instance that the UI of this store shows."""
    prepare_dagster_home(store_dir)
    with dg.DagsterInstance.get() as instance:
        yield instance


def run_graph(settings: Settings, drops: Sequence[Path], selection: str | None = None) -> Outcome:
    """Bring the selected assets up to date, from the drops to the digests of the newest one.

    Raises:
        RunFailed: an asset or a blocking check failed; what was finished stays and is found by the next run.
    """
    started = time.perf_counter()
    store = ArtifactStore(settings.store_dir)
    chosen = _resolve(selection)
    # Pipes warns at every stage of an attribute of its own that is in preview.
    warnings.filterwarnings("ignore", category=dg.PreviewWarning)
    with dagster_instance(settings.store_dir) as instance:
        keys = [register_drop(store, path) for path in drops]
        instance.add_dynamic_partitions(str(DROPS.name), keys)
        made: list[str] = []
        up_to_date = 0
        for key, path in zip(keys, drops, strict=True):
            if "raw_crawl" not in chosen:
                break
            if is_fresh("raw_crawl", settings, key):
                up_to_date += 1
                continue
            print(f"[raw_crawl] drop {path.name} is partition {key}", file=sys.stderr, flush=True)
            _execute(instance, "ingest_drop", ["raw_crawl"], key)
            made.append(f"raw_crawl[{key}]")
        whole = [name for name in _topological_order() if name in chosen and not get_stage(name).partitioned]
        stale = _stale_or_below(whole, settings)
        up_to_date += len(whole) - len(stale)
        if stale:
            print(f"[run] to be brought up to date: {', '.join(stale)}", file=sys.stderr, flush=True)
            _execute(instance, "refresh", stale)
            made += stale
        newest = max(zip(drops, keys, strict=True), key=lambda pair: pair[0].name)[1]
        if "digests" in chosen:
            if is_fresh("digests", settings, newest):
                up_to_date += 1
            else:
                _execute(instance, "digest_drop", ["digests"], newest)
                made.append(f"digests[{newest}]")
    return Outcome(tuple(made), up_to_date, newest, time.perf_counter() - started)


def drops_of(settings: Settings, given: Sequence[Path]) -> list[Path]:
    """The drops to take in: those given, or all of `data.train_path`; and the fixed held-out files either way.

    Raises:
        UserError: a file is not there, or nothing matches.
    """
    drops = list(given)
    for path in drops:
        if not path.is_file():
            raise UserError(f"{path} is not a file. Give a drop of crawl records (.jsonl, .jsonl.gz, .json, .parquet).")
    if not drops:
        drops = list_drops(settings.data.train_path)
        if not drops:
            raise UserError(
                f"data.train_path = {settings.data.train_path!r} matches no drop, so there is nothing to learn from. "
                "Put a file of crawl records there, set data.train_path, or give --drop FILE."
            )
    for pattern in (settings.data.valid_path, settings.data.test_path):
        drops += [path for path in list_drops(pattern) if path not in drops] if pattern else []
    return drops


def _resolve(selection: str | None) -> set[str]:
    graph = defs.resolve_asset_graph()
    if selection is None:
        return {key.to_user_string() for key in graph.get_all_asset_keys()}
    try:
        keys = dg.AssetSelection.from_string(selection).resolve(graph)
    except dg.DagsterError as error:
        raise UserError(
            f"--select {selection!r} is no asset selection: {error}. Example: --select 'm1_checkpoint+'."
        ) from None
    if not keys:
        raise UserError(f"--select {selection!r} matches no asset. Assets: {', '.join(_topological_order())}.")
    return {key.to_user_string() for key in keys}


def _topological_order() -> list[str]:
    graph = defs.resolve_asset_graph()
    return [key.to_user_string() for level in graph.toposorted_asset_keys_by_level for key in sorted(level)]


def _stale_or_below(names: Sequence[str], settings: Settings) -> list[str]:
    """Those that are not up to date, and those that may not be once these are made again."""
    stale: list[str] = []
    for name in names:
        if any(upstream in stale for upstream in get_stage(name).inputs) or not is_fresh(name, settings):
            stale.append(name)
    return stale


def _execute(instance: dg.DagsterInstance, job: str, assets: Sequence[str], partition: str | None = None) -> None:
    result = defs.resolve_job_def(job).execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey(name) for name in assets],
        partition_key=partition,
        run_config=_QUIET,
        raise_on_error=False,
    )
    if result.success:
        return
    reasons = [
        f"check {check.check_name} of {check.asset_key.to_user_string()}: {check.description}"
        for check in result.get_asset_check_evaluations()
        if not check.passed and check.blocking
    ]
    for event in result.get_step_failure_events():
        failure = event.step_failure_data
        if failure.user_failure_data is not None and failure.user_failure_data.description:
            reasons.append(f"{event.step_key}: {failure.user_failure_data.description}")
        elif not reasons and failure.error is not None:
            reasons.append(f"{event.step_key}: {failure.error.to_string()}")
    raise RunFailed(
        "The run stopped, and nothing downstream of the failure was made:\n  "
        + "\n  ".join(reasons)
        + f"\nWhat was finished stays in the store; the run is {result.run_id} in the UI (`smartdevdigest ui`)."
    )
