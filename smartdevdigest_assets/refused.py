"""The drops that were not taken in, where the UI shows them: an asset beside `raw_crawl`, with a check that warns.

It is reported by whoever sets a drop aside or finds it mended: the sensor and `smartdevdigest run`.
"""

import time
from collections.abc import Iterable, Mapping

import dagster as dg

from smartdevdigest_assets.failures import failure_of
from smartdevdigest_assets.project import SETTINGS
from smartdevdigest_ops.artifacts import ArtifactStore, canonical_json, content_hash
from smartdevdigest_ops.drops.files import SUFFIXES
from smartdevdigest_ops.drops.incoming_state import FileState, IncomingState
from smartdevdigest_ops.drops.refusals import Refusal, refusals, refuse_drop
from smartdevdigest_ops.settings import Settings

_KEY = dg.AssetKey("refused_drops")
_VERSION_TAG = "dagster/data_version"
_MAX_ROWS = 50
_REASON_CHARACTERS = 600

refused_drops = dg.AssetSpec(
    _KEY,
    group_name="crawl",
    kinds={"table"},
    owners=["team:data"],
    description="One row per file that was not taken in: a drop that its run refused, or a file that cannot be read. "
    "A mended file is taken in by itself, under the same name or another.",
)


@dg.asset_check(asset=_KEY, description="No refused drop and no unreadable file lies there.")
def nothing_refused() -> dg.AssetCheckResult:
    """Whether all that lies there could be taken in."""
    found = _evaluation(*_unusable(ArtifactStore(SETTINGS.store_dir))[:2])
    return dg.AssetCheckResult(passed=found.passed, severity=found.severity, description=found.description)


def set_aside(
    instance: dg.DagsterInstance, store: ArtifactStore, settings: Settings, key: str, path: str, run_id: str
) -> Refusal:
    """Refuse a drop for the reasons that its failed run gives. Its partition must go: all below would wait for it."""
    failure = failure_of(instance, run_id)
    return refuse_drop(
        store, settings, key, path, failure.reasons, run_id, is_the_drops_fault=not failure.is_a_crash, now=time.time()
    )


def report_of_refused(
    instance: dg.DagsterInstance, store: ArtifactStore
) -> list[dg.AssetMaterialization | dg.AssetCheckEvaluation]:
    """The events that bring the asset and its check up to date; empty when they are."""
    refused, unreadable, unknown = _unusable(store)
    metadata = {
        "num_refused": dg.MetadataValue.int(len(refused)),
        "num_unreadable": dg.MetadataValue.int(len(unreadable)),
        "num_unknown_format": dg.MetadataValue.int(len(unknown)),
        "refused": dg.MetadataValue.md(_table(refused, unreadable, unknown)),
    }
    version = content_hash(canonical_json({name: value.value for name, value in metadata.items()}))
    last = instance.get_latest_materialization_event(_KEY)
    if last and last.asset_materialization and (last.asset_materialization.tags or {}).get(_VERSION_TAG) == version:
        return []
    materialization = dg.AssetMaterialization(_KEY, metadata=metadata, tags={_VERSION_TAG: version})
    return [materialization, _evaluation(refused, unreadable)]


def _unusable(store: ArtifactStore) -> tuple[list[Refusal], dict[str, FileState], list[str]]:
    """(refused drops whose file still lies there, files that cannot be read, names of files of no known format)."""
    with IncomingState(store) as state:
        files = state.unusable_files()
        refused = [refusal for key, refusal in refusals(store).items() if refusal.is_open() or state.holds(key)]
    unreadable = {file.path: file for file in files if file.problem}
    unknown = [file.path for file in files if not file.problem and not file.path.lower().endswith(SUFFIXES)]
    return refused, unreadable, unknown


def _evaluation(refused: list[Refusal], unreadable: Mapping[str, FileState]) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=_KEY,
        check_name="nothing_refused",
        passed=not refused and not unreadable,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"Refused drops: {len(refused)}. Unreadable files: {len(unreadable)}.",
    )


def _table(refused: list[Refusal], unreadable: Mapping[str, FileState], unknown: list[str]) -> str:
    rows = [
        *((r.path, r.key, "; ".join(r.reasons), r.refused_at, f"[{r.run_id[:8]}](/runs/{r.run_id})") for r in refused),
        *((path, "", file.problem or "", "", "") for path, file in unreadable.items()),
    ]
    lines = ["| file | drop | why it was not taken in | since | run |", "|---|---|---|---|---|"]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in rows[:_MAX_ROWS]]
    if len(rows) > _MAX_ROWS:
        lines.append(f"\n{len(rows) - _MAX_ROWS} more.")
    if not rows:
        lines = ["Every drop was taken in."]
    if unknown:
        names = ", ".join(f"`{path}`" for path in unknown[:_MAX_ROWS])
        lines.append(f"\nOf no known format, passed over: {len(unknown)} ({names}).")
    return "\n".join(lines)


def _cells(row: Iterable[str]) -> Iterable[str]:
    for text in row:
        yield " ".join(text[:_REASON_CHARACTERS].replace("|", "\\|").split())
