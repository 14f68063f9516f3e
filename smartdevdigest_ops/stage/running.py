"""Run one making in this process and publish what it made."""

import json
import platform
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import cast

from smartdevdigest_ops.artifacts import INPUTS_FILE, Artifact, ArtifactStore, Making, write_atomically
from smartdevdigest_ops.lineage.document_index import DocumentIndex
from smartdevdigest_ops.resources import ResourceMeter
from smartdevdigest_ops.settings import Settings
from smartdevdigest_ops.stage.declaration import (
    UNTRACKED_SETTINGS,
    DeclaredSettings,
    Stage,
    StageContext,
    StageError,
    StageReport,
)
from smartdevdigest_ops.stage.distributed import wait_for_all
from smartdevdigest_ops.stage.planning import StageSpec
from smartdevdigest_ops.stage.registry import get_stage


def run_stage(spec: StageSpec, report_line: Callable[[str], None] | None = None) -> tuple[Making, bool]:
    """Make what `spec` asks for and publish it; returns the making and whether it was made now (not found).

    Raises:
        UserError: the stage refused its input.
    """
    stage = get_stage(spec.stage)
    settings = Settings.model_validate(spec.settings)
    store = ArtifactStore(settings.store_dir)
    with store.lock(spec.stage, spec.partition):
        found = find_making(spec, store)
        if found is not None:
            store.make_current(found)
            return found, False
        return _make(stage, spec, settings, store, report_line or print_line), True


def find_making(spec: StageSpec, store: ArtifactStore) -> Making | None:
    """The making that `spec` asks for, if it was made before and may be taken again."""
    if not get_stage(spec.stage).memoized:
        return None
    return store.making(spec.stage, spec.fingerprint, spec.partition)


def _make(
    stage: Stage, spec: StageSpec, settings: Settings, store: ArtifactStore, report_line: Callable[[str], None]
) -> Making:
    meter = ResourceMeter(settings.model.device if stage.own_process else "cpu")
    with meter, store.staging(spec.stage) as out:
        context = _context(stage, spec, settings, store, out, report_line)
        # Who prunes the store meanwhile, or after a kill, keeps what this making reads.
        write_atomically(
            context.scratch / INPUTS_FILE, json.dumps({"partition": spec.partition, "inputs": spec.inputs})
        )
        report = stage.make(context)
        wait_for_all()  # the others may still read checkpoints, which go once the making is recorded
        _refuse_unreported_checks(stage, report)
        artifact = store.publish(out, spec.stage, spec.partition, known=context.reused)
        DocumentIndex(store).add(artifact)
    blocking = {check.name for check in stage.checks if check.blocking}
    making = Making(
        asset=spec.stage,
        partition=spec.partition,
        version=artifact.version,
        fingerprint=spec.fingerprint,
        inputs=spec.inputs | spec.outside,
        settings=stage.tracked_settings(settings),
        code_version=stage.code_version,
        environment=environment(),
        resources=meter.readings(),
        metrics={name: float(value) for name, value in report.metrics.items()},
        checks=[check.__dict__ | {"blocking": check.name in blocking} for check in report.checks],
        notes=dict(report.notes),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        documents={use: sorted(ids) for use, ids in report.documents.items()},
    )
    store.record(making)
    return making


def take_part(spec: StageSpec) -> None:
    """Run a stage beside the process that makes it (`run_stage` there): share its work, publish nothing.

    Raises:
        UserError: the stage refused its input.
    """
    stage = get_stage(spec.stage)
    settings = Settings.model_validate(spec.settings)
    store = ArtifactStore(settings.store_dir)
    if find_making(spec, store) is not None:
        return
    with store.staging(spec.stage) as out:
        stage.make(_context(stage, spec, settings, store, out, lambda line: None))
        wait_for_all()


def _context(
    stage: Stage,
    spec: StageSpec,
    settings: Settings,
    store: ArtifactStore,
    out: Path,
    report_line: Callable[[str], None],
) -> StageContext:
    return StageContext(
        settings=cast(Settings, DeclaredSettings(settings, (*stage.settings, *UNTRACKED_SETTINGS))),
        inputs=_open_inputs(store, spec, whole=stage.reads_inputs_whole),
        out=out,
        scratch=store.scratch(spec.stage, spec.fingerprint),
        store=store,
        partition=spec.partition,
        report_line=report_line,
    )


def _open_inputs(store: ArtifactStore, spec: StageSpec, *, whole: bool) -> dict[str, Artifact | Mapping[str, Artifact]]:
    opened: dict[str, Artifact | Mapping[str, Artifact]] = {}
    for name, versions in spec.inputs.items():
        if isinstance(versions, str):
            opened[name] = _open_sound(store, name, versions, whole=whole)
        else:
            opened[name] = {
                key: _open_sound(store, name, version, key, whole=whole) for key, version in sorted(versions.items())
            }
    return opened


def _open_sound(
    store: ArtifactStore, name: str, version: str, partition: str | None = None, *, whole: bool
) -> Artifact:
    """The artifact, every byte of it checked: hashing costs a second per gigabyte, a wrong model a training run."""
    artifact = store.open(name, version, partition)
    if whole or not artifact.is_complete():
        artifact.refuse_damage()
    return artifact


def _refuse_unreported_checks(stage: Stage, report: StageReport) -> None:
    declared = {check.name for check in stage.checks}
    reported = {check.name for check in report.checks}
    if declared != reported:
        raise StageError(f"{stage.name} declares the checks {sorted(declared)} but reported {sorted(reported)}.")


def environment() -> dict[str, str]:
    """What the making ran on: Python, platform and the versions of the packages that shape results."""
    return dict(_installed())


@cache
def _installed() -> dict[str, str]:
    # Parsing the metadata of eight packages takes 0.02 s, which each making would pay.
    versions = {"python": platform.python_version(), "platform": platform.platform()}
    for package in ("torch", "transformers", "tokenizers", "peft", "gptqmodel", "llguidance", "kiwipiepy", "numpy"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def print_line(message: str) -> None:
    """A log line for whoever watches the terminal."""
    print(message, file=sys.stderr, flush=True)
