"""The whole graph without a UI or daemon: what `smartdevdigest run` does, on the same Dagster instance as the UI's.

Drops are taken in one by one, then every asset that is not up to date is materialised in one run, then the newest
drop is digested. What is up to date is decided by fingerprints in the artifact store, so a second run starts nothing.
"""

import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from smartdevdigest_assets.definitions import defs
from smartdevdigest_assets.failures import failure_of
from smartdevdigest_assets.in_progress import PROCESS_TAG, has_own_process_id, is_abandoned, process_tag
from smartdevdigest_assets.instance import prepare_dagster_home
from smartdevdigest_assets.partitions import add_drops, remove_drops, taking_in
from smartdevdigest_assets.refused import report_of_refused, set_aside
from smartdevdigest_ops.artifacts import ArtifactStore
from smartdevdigest_ops.drops.files import list_drops, register_drop
from smartdevdigest_ops.drops.refusals import INGEST_STAGES, forget_refusal, is_taken_in
from smartdevdigest_ops.errors import UserError
from smartdevdigest_ops.release.stage import GATE
from smartdevdigest_ops.settings import Settings, resolve_path
from smartdevdigest_ops.stage import get_stage, is_fresh

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class RunFailed(UserError):
    """An asset refused its input (exit code 2), or an asset or one of its blocking checks failed (1)."""

    def __init__(self, reasons: Sequence[str], run_id: str, exit_code: int) -> None:
        super().__init__(
            "The run stopped, and nothing downstream of the failure was made:\n  "
            + "\n  ".join(reasons)
            + f"\nWhat was finished stays in the store; the run is {run_id} in the UI (`smartdevdigest ui`)."
        )
        self.reasons = tuple(reasons)
        self.run_id = run_id
        self.exit_code = exit_code

    @property
    def is_gate_refusal(self) -> bool:
        """Whether nothing failed but the release gate."""
        refusals = tuple(f"check {name} of release:" for name in GATE)
        return all(reason.startswith(refusals) for reason in self.reasons)


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
    with ArtifactStore(store_dir).lock("dagster", None):  # two processes at once would both create its tables
        instance = dg.DagsterInstance.get()
    with instance:
        yield instance


def run_graph(
    settings: Settings, new_drops: Sequence[Path], held_out: Sequence[Path] = (), selection: str | None = None
) -> Outcome:
    """Bring the selected assets up to date, from the drops to the digests of the newest of `new_drops`.

    `held_out` are the files of `data.valid_path` and `data.test_path`: taken in too, never digested for themselves.

    Raises:
        RunFailed: an asset or a blocking check failed; what was finished stays and is found by the next run. A
            candidate that the release gate refused is told after the old release has digested the drop.
        UserError: digests were selected of drops that nobody has taken in.
    """
    started = time.perf_counter()
    refused: RunFailed | None = None
    drops = [*new_drops, *held_out]
    store = ArtifactStore(settings.store_dir)
    chosen = _resolve(selection)
    # Pipes warns at every stage of an attribute of its own that is in preview.
    warnings.filterwarnings("ignore", category=dg.PreviewWarning)
    if settings.execution.executor != "multiprocess":
        print("[run] stays on this machine; Ray takes what the UI and the daemon start", file=sys.stderr, flush=True)
    with dagster_instance(settings.store_dir) as instance:
        _end_abandoned_runs(instance)
        keys = [register_drop(store, path) for path in drops]
        # Also of drops of earlier runs: <store>/dagster may be newer than the store.
        add_drops(instance, store.partitions("cleaned_documents"))
        made: list[str] = []
        bad_drops: list[RunFailed] = []
        if "raw_crawl" in chosen:
            made, bad_drops = _take_in(instance, settings, store, dict(zip(keys, drops, strict=True)))
        good = [(path.name, key) for path, key in zip(new_drops, keys, strict=False) if is_taken_in(store, key)]
        if bad_drops and not good:
            raise bad_drops[0]
        if "digests" in chosen and not good:
            raise UserError(
                f"{', '.join(path.name for path in new_drops)} was never taken in, so there is nothing to digest. "
                "Select raw_crawl too: --select 'key:raw_crawl or key:digests'."
            )
        up_to_date = 0
        if "raw_crawl" in chosen:
            up_to_date = len(INGEST_STAGES) * (len(set(keys)) - len(bad_drops)) - len(made)
        if "cleaned_documents" in chosen:
            made += _clean_again(instance, settings, store)
        whole = [name for name in _topological_order() if name in chosen and not get_stage(name).partitioned]
        stale = _stale_or_below(whole, settings)
        up_to_date += len(whole) - len(stale)
        if stale:
            print(f"[run] to be brought up to date: {', '.join(stale)}", file=sys.stderr, flush=True)
            refused = _refresh(instance, stale, store)
            made += stale
        newest = max(good)[1] if good else keys[0]
        if "digests" in chosen:
            if is_fresh("digests", settings, newest):
                up_to_date += 1
            else:
                _execute_drop(instance, "digest_drop", ["digests"], newest)
                made.append(f"digests[{newest}]")
        if refused is not None:
            raise refused
        if bad_drops:
            raise bad_drops[0]
    return Outcome(tuple(made), up_to_date, newest, time.perf_counter() - started)


def drops_of(settings: Settings, given: Sequence[Path]) -> list[Path]:
    """The drops to take in: those given, or all of `data.train_path`.

    Raises:
        UserError: a file is not there, or nothing matches.
    """
    for path in given:
        if not path.is_file():
            raise UserError(f"{path} is not a file. Give a drop of crawl records (.jsonl, .jsonl.gz, .json, .parquet).")
    drops = list(given) or list_drops(settings.data.train_path)
    if not drops:
        raise UserError(
            f"data.train_path = {settings.data.train_path!r} matches no drop, so there is nothing to learn from. "
            "Put a file of crawl records there, set data.train_path, or give --drop FILE."
        )
    return drops


def held_out_of(settings: Settings) -> list[Path]:
    """The files of `data.valid_path` and `data.test_path`, where they are set.

    Raises:
        UserError: one of them is not there.
    """
    named = {"valid_path": settings.data.valid_path, "test_path": settings.data.test_path}
    files = {name: resolve_path(path) for name, path in named.items() if path}
    for name, file in files.items():
        if not file.is_file():
            raise UserError(f"data.{name} is {file}, which is not a file: nothing would be held out. Correct the path.")
    return list(files.values())


def _resolve(selection: str | None) -> set[str]:
    graph = defs.resolve_asset_graph()
    if selection is None:
        return {key.to_user_string() for key in graph.materializable_asset_keys}
    try:
        keys = dg.AssetSelection.from_string(selection).resolve(graph)
    except dg.DagsterError as error:
        raise UserError(
            f"--select {selection!r} is no asset selection: {error}. Example: --select 'key:m1_checkpoint+'."
        ) from None
    keys = keys & graph.materializable_asset_keys
    if not keys:
        raise UserError(f"--select {selection!r} matches no asset. Assets: {', '.join(_topological_order())}.")
    return {key.to_user_string() for key in keys}


def _topological_order() -> list[str]:
    graph = defs.resolve_asset_graph()
    ordered = (key for level in graph.toposorted_asset_keys_by_level for key in sorted(level))
    return [key.to_user_string() for key in ordered if key in graph.materializable_asset_keys]


def _stale_or_below(names: Sequence[str], settings: Settings) -> list[str]:
    """Those that are not up to date, and those that may not be once these are made again."""
    stale: list[str] = []
    for name in names:
        if any(upstream in stale for upstream in get_stage(name).inputs) or not is_fresh(name, settings):
            stale.append(name)
    return stale


def _take_in(
    instance: dg.DagsterInstance, settings: Settings, store: ArtifactStore, drops: Mapping[str, Path]
) -> tuple[list[str], list[RunFailed]]:
    """(partitions made, failures of drops that were refused). A refused drop costs the others nothing."""
    made, failures = [], []
    for key, path in drops.items():
        with taking_in(store, key):
            stale = [stage for stage in INGEST_STAGES if not is_fresh(stage, settings, key)]
            if not stale:
                continue
            print(f"[raw_crawl] drop {path.name} is partition {key}", file=sys.stderr, flush=True)
            try:
                _execute_drop(instance, "ingest_drop", INGEST_STAGES, key)
            except RunFailed as failure:
                set_aside(instance, store, settings, key, str(path), failure.run_id)
                remove_drops(instance, store, [key])
                print(f"[raw_crawl] {path.name} is left out: {failure.reasons[0]}", file=sys.stderr, flush=True)
                failures.append(failure)
            else:
                forget_refusal(store, key)
                made += [f"{stage}[{key}]" for stage in stale]
    for event in report_of_refused(instance, store):
        instance.report_runless_asset_event(event)
    return made, failures


def _clean_again(instance: dg.DagsterInstance, settings: Settings, store: ArtifactStore) -> list[str]:
    """Partitions made: drops of earlier runs that other code or settings would clean differently now."""
    made = []
    for key in store.partitions("cleaned_documents"):
        if not is_fresh("cleaned_documents", settings, key):
            _execute_drop(instance, "ingest_drop", ["cleaned_documents"], key)
            made.append(f"cleaned_documents[{key}]")
    return made


def _end_abandoned_runs(instance: dg.DagsterInstance) -> None:
    """End the runs of headless processes that were killed: they would hold their pool slot for ever."""
    unfinished = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.NOT_STARTED])
    for run in instance.get_runs(unfinished):
        # Of this process nothing runs yet: a run that names its ID is what a killed process of the same ID left.
        if is_abandoned(run) or has_own_process_id(run):
            instance.report_run_failed(run, "The process of this run was killed.")
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)


def _refresh(instance: dg.DagsterInstance, assets: Sequence[str], store: ArtifactStore) -> RunFailed | None:
    """Run the assets; a refusal by the release gate is returned where an older release goes on serving."""
    try:
        _execute(instance, "refresh", assets)
    except RunFailed as failure:
        if store.current("release") is not None and failure.is_gate_refusal:
            return failure
        raise
    return None


def _execute_drop(instance: dg.DagsterInstance, job: str, assets: Sequence[str], key: str) -> None:
    """Run the assets for one drop, whose partition is there afterwards.

    Nothing of ours deletes a partition under its run, but anybody may in the UI: one that goes before its run starts
    is added again, and one that goes during the run is added for the runs to come.
    """
    add_drops(instance, [key])
    try:
        _execute(instance, job, assets, key)
    except dg.DagsterUnknownPartitionError:
        add_drops(instance, [key])
        _execute(instance, job, assets, key)
    add_drops(instance, [key])


def _execute(instance: dg.DagsterInstance, job: str, assets: Sequence[str], partition: str | None = None) -> None:
    result = defs.resolve_job_def(job).execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey(name) for name in assets],
        partition_key=partition,
        run_config=_QUIET,
        raise_on_error=False,
        tags={PROCESS_TAG: process_tag()},
    )
    if result.success:
        return
    failure = failure_of(instance, result.run_id)
    exit_code = 2 if failure.refusals and not failure.failed_checks and not failure.crashes else 1
    raise RunFailed(failure.reasons, result.run_id, exit_code)
