"""A stage: how one asset is made, and `python -m smartdevdigest_ops.stage NAME SPEC.json` that makes it.

A stage is a function `make(context) -> StageReport` that reads its inputs' directories and writes into
`context.out`. What decides its result is declared: input assets, sections of the settings, files from outside and a
code version. Their hash is the making's fingerprint; a fingerprint that was made before is not made again.

The same spec runs in this process (light stages, notebooks), in a process of its own under Dagster Pipes, or on
another machine that sees the store: the stage does not know which.
"""

import argparse
import importlib
import json
import logging
import os
import platform
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, cast

from smartdevdigest_ops.artifacts import (
    Artifact,
    ArtifactError,
    ArtifactStore,
    Making,
    canonical_json,
    content_hash,
    file_sha256,
)
from smartdevdigest_ops.errors import UserError
from smartdevdigest_ops.resources import ResourceMeter
from smartdevdigest_ops.settings import Settings

# Where each stage is defined: a module that holds `STAGE` (or `STAGES`). Importing one imports nothing heavy.
STAGE_MODULES: dict[str, str] = {
    "base_model": "smartdevdigest_ops.models.stage",
    "raw_crawl": "smartdevdigest_ops.crawl.stage",
    "cleaned_corpus": "smartdevdigest_ops.corpus.stage",
    "corpus_snapshot": "smartdevdigest_ops.corpus.stage",
    "domain_tokenizer": "smartdevdigest_ops.tokenizer.stage",
    "m1_checkpoint": "smartdevdigest_ops.training.m1",
    "labeled_pairs": "smartdevdigest_ops.labeling.stage",
    "m2_adapter": "smartdevdigest_ops.training.m2",
    "quantized_model": "smartdevdigest_ops.quantization.stage",
    "evaluation_report": "smartdevdigest_ops.evaluation.stage",
    "release": "smartdevdigest_ops.release",
    "digests": "smartdevdigest_ops.digesting.stage",
}

# Process id of the parent that a stage process must not outlive. Given by the parent: read from here, it could be
# that of whoever inherited an orphan already.
PARENT_VARIABLE = "SMARTDEVDIGEST_PARENT_PID"

# Beside the spec: why the stage refused its input.
ERROR_SUFFIX = ".error"

# Settings that say where and how fast, not what: reading them never makes an artifact stale.
UNTRACKED_SETTINGS = ("profile", "store", "model.device", "model.precision", "model.threads", "tracking")


class StageError(UserError):
    """A stage cannot start, or broke its own declaration."""


@dataclass(frozen=True)
class Check:
    """A gate of an asset, run by its stage on what it just made."""

    name: str
    description: str
    blocking: bool = True


@dataclass(frozen=True)
class CheckResult:
    """What a check found. `message` says the number and the bound, passed or not."""

    name: str
    passed: bool
    message: str
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StageReport:
    """What a stage says of what it made."""

    metrics: Mapping[str, float]
    """Numbers that plot as series: counts, losses, bits per byte, bytes."""
    checks: tuple[CheckResult, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    """JSON for a reader: tables, `markdown`."""


@dataclass(frozen=True)
class StageContext:
    """What a stage function gets to work with."""

    settings: Settings
    """Only the declared sections can be read."""
    inputs: Mapping[str, Artifact | Mapping[str, Artifact]]
    out: Path
    """Directory to write the artifact into."""
    scratch: Path
    """Directory that survives a kill of this very making: checkpoints, finished answers."""
    store: ArtifactStore
    partition: str | None
    report_line: Callable[[str], None]

    def input(self, name: str) -> Artifact:
        """The one version of an unpartitioned input, or of this run's partition of a partitioned one."""
        artifact = self.inputs[name]
        if not isinstance(artifact, Artifact):
            raise StageError(f"{name} comes by partition; read it with partitions({name!r})")
        return artifact

    def partitions(self, name: str) -> Mapping[str, Artifact]:
        """All partitions of a partitioned input, by key, in key order."""
        artifacts = self.inputs[name]
        if isinstance(artifacts, Artifact):
            raise StageError(f"{name} is not partitioned; read it with input({name!r})")
        return artifacts

    def log(self, message: str) -> None:
        """One line for the log: the terminal, and the Dagster UI when it runs there."""
        self.report_line(message)


@dataclass(frozen=True)
class Stage:
    """The declaration of a stage."""

    name: str
    make: Callable[[StageContext], StageReport]
    code_version: str
    """Raise it when the code changes what comes out of the same inputs and settings."""
    inputs: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    """Dotted paths of the settings it reads, besides `UNTRACKED_SETTINGS`; `seed` where it draws."""
    checks: tuple[Check, ...] = ()
    partitioned: bool = False
    """One artifact per drop."""
    input_files: Mapping[str, str] = field(default_factory=dict)
    """Input -> the one file of it that counts (`{partition}` is replaced): other files of it may change freely."""
    outside_files: Callable[[Settings, ArtifactStore, str | None], list[Path]] | None = None
    """Files from outside the store that decide the result; their contents are hashed."""
    own_process: bool = False
    """Heavy: run as its own process, so that its memory goes when it ends."""
    memoized: bool = True
    """False: decided anew whenever it is not up to date, because it looks at its own current version too."""


@dataclass(frozen=True)
class StageSpec:
    """One making, ready to run anywhere that sees the store. Plain JSON."""

    stage: str
    settings: dict[str, Any]
    inputs: dict[str, Any]
    """Asset -> version, or {partition: version}."""
    outside: dict[str, str]
    """`file:NAME` -> sha256."""
    partition: str | None
    fingerprint: str

    def write(self, path: Path) -> None:
        """Save as JSON."""
        path.write_text(json.dumps(self.__dict__, ensure_ascii=False, indent=1), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "StageSpec":
        """Load what `write` saved.

        Raises:
            StageError: the file is no spec.
        """
        try:
            spec = cls(**json.loads(path.read_text(encoding="utf-8")))
            Settings.model_validate(spec.settings)
        except (OSError, ValueError, TypeError) as error:
            raise StageError(f"{path} is not a stage spec: {error}") from None
        if not re.fullmatch(r"[0-9a-f]{16}", spec.fingerprint):
            raise StageError(f"{path} is not a stage spec: fingerprint {spec.fingerprint!r} is not 16 hex digits.")
        return spec


def get_stage(name: str) -> Stage:
    """The declaration of a stage, by its asset's name.

    Raises:
        StageError: there is no such stage.
    """
    if name not in STAGE_MODULES:
        raise StageError(f"There is no stage {name!r}. Stages: {', '.join(STAGE_MODULES)}.")
    module = importlib.import_module(STAGE_MODULES[name])
    stages: tuple[Stage, ...] = getattr(module, "STAGES", None) or (module.STAGE,)
    return next(stage for stage in stages if stage.name == name)


def code_version(name: str, settings: Settings) -> str:
    """Version of a stage's code and of the settings it reads: what Dagster compares to call an asset stale."""
    stage = get_stage(name)
    return f"{stage.code_version}-{content_hash(canonical_json(settings.only(stage.settings)))[:8]}"


def plan_stage(name: str, settings: Settings, partition: str | None = None) -> StageSpec:
    """The making that the current inputs and settings ask for.

    Raises:
        StageError: an input has no version yet.
    """
    stage = get_stage(name)
    store = ArtifactStore(settings.store_dir)
    inputs: dict[str, Any] = {}
    deciding: dict[str, Any] = {}
    for upstream in stage.inputs:
        inputs[upstream] = _current_versions(store, name, upstream, partition if stage.partitioned else None)
        deciding[upstream] = inputs[upstream]
        if pattern := stage.input_files.get(upstream):
            artifact = store.open(upstream, inputs[upstream])
            entry = artifact.files.get(pattern.format(partition=partition))
            deciding[upstream] = entry["sha256"] if entry else None
    outside: dict[str, str] = {}
    if stage.outside_files is not None:
        for file in stage.outside_files(settings, store, partition):
            if not file.is_file():
                raise StageError(
                    f"{name} needs the file {file}, which is not there. Nothing was made; correct the path in the "
                    "settings, or bring the file back."
                )
            same_name = sum(name.partition("#")[0] == f"file:{file.name}" for name in outside)
            outside[f"file:{file.name}" + (f"#{same_name + 1}" if same_name else "")] = file_sha256(file)
    fingerprint = content_hash(
        canonical_json(
            {
                "stage": name,
                "code": stage.code_version,
                "settings": settings.only(stage.settings),
                "inputs": deciding,
                "outside": outside,
                "partition": partition,
            }
        )
    )
    return StageSpec(name, settings.model_dump(mode="json"), inputs, outside, partition, fingerprint)


def _current_versions(store: ArtifactStore, stage: str, upstream: str, partition: str | None) -> Any:
    if not get_stage(upstream).partitioned:
        making = store.current_making(upstream)
        if making is None:
            raise StageError(
                f"{stage} needs {upstream}, which has no version in {store.root}. Materialize {upstream} first."
            )
        return making.version
    keys = [partition] if partition else store.partitions(upstream)
    makings = {key: store.current_making(upstream, key) for key in keys}
    missing = [key for key, making in makings.items() if making is None]
    if missing or not makings:
        raise StageError(
            f"{stage} needs {upstream}, of which {', '.join(missing) or 'no partition'} has a version in {store.root}. "
            f"Materialize {upstream} first: drops are taken in by `smartdevdigest run --drop FILE`."
        )
    return {key: making.version for key, making in makings.items() if making}


def is_fresh(name: str, settings: Settings, partition: str | None = None) -> bool:
    """Whether the current version is the one that the current inputs and settings ask for."""
    try:
        spec = plan_stage(name, settings, partition)
    except UserError:
        return False  # an input or outside file is missing: the run says so
    making = ArtifactStore(settings.store_dir).current_making(name, partition)
    return making is not None and making.fingerprint == spec.fingerprint


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
        return _make(stage, spec, settings, store, report_line or _print_line), True


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
        context = StageContext(
            settings=cast(Settings, DeclaredSettings(settings, (*stage.settings, *UNTRACKED_SETTINGS))),
            inputs=_open_inputs(store, spec),
            out=out,
            scratch=store.scratch(spec.stage, spec.fingerprint),
            store=store,
            partition=spec.partition,
            report_line=report_line,
        )
        report = stage.make(context)
        _refuse_unreported_checks(stage, report)
        artifact = store.publish(out, spec.stage, spec.partition)
    blocking = {check.name for check in stage.checks if check.blocking}
    making = Making(
        asset=spec.stage,
        partition=spec.partition,
        version=artifact.version,
        fingerprint=spec.fingerprint,
        inputs=spec.inputs | spec.outside,
        settings=settings.only(stage.settings),
        code_version=stage.code_version,
        environment=environment(),
        resources=meter.readings(),
        metrics={name: float(value) for name, value in report.metrics.items()},
        checks=[check.__dict__ | {"blocking": check.name in blocking} for check in report.checks],
        notes=dict(report.notes),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    store.record(making)
    return making


def _open_inputs(store: ArtifactStore, spec: StageSpec) -> dict[str, Artifact | Mapping[str, Artifact]]:
    opened: dict[str, Artifact | Mapping[str, Artifact]] = {}
    for name, versions in spec.inputs.items():
        if isinstance(versions, str):
            opened[name] = _open_sound(store, name, versions)
        else:
            opened[name] = {key: _open_sound(store, name, version, key) for key, version in sorted(versions.items())}
    return opened


def _open_sound(store: ArtifactStore, name: str, version: str, partition: str | None = None) -> Artifact:
    """The artifact, every byte of it checked: hashing costs a second per gigabyte, a wrong model a training run."""
    artifact = store.open(name, version, partition)
    if problems := artifact.problems():
        raise ArtifactError(
            f"{name} {version} is damaged, and nothing was made from it: {'; '.join(problems[:3])}. Remove the "
            f"directory {artifact.path} and run again: it is made anew."
        )
    return artifact


def _refuse_unreported_checks(stage: Stage, report: StageReport) -> None:
    declared = {check.name for check in stage.checks}
    reported = {check.name for check in report.checks}
    if declared != reported:
        raise StageError(f"{stage.name} declares the checks {sorted(declared)} but reported {sorted(reported)}.")


def environment() -> dict[str, str]:
    """What the making ran on: Python, platform and the versions of the packages that shape results."""
    versions = {"python": platform.python_version(), "platform": platform.platform()}
    for package in ("torch", "transformers", "tokenizers", "peft", "gptqmodel", "llguidance", "kiwipiepy", "numpy"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


class DeclaredSettings:
    """Settings of which only the declared dotted paths can be read: an undeclared read would go stale unseen."""

    def __init__(self, settings: Any, paths: tuple[str, ...]) -> None:
        self._settings = settings
        self._paths = paths

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._settings, name)
        if name in self._paths or name.startswith("_") or name == "store_dir":
            return value
        below = tuple(path.removeprefix(f"{name}.") for path in self._paths if path.startswith(f"{name}."))
        if not below:
            raise StageError(
                f"A stage read the setting {name!r}, which it does not declare; add it to the stage's `settings`, "
                "or a change of it would not re-make the artifact."
            )
        return DeclaredSettings(value, below)


def _print_line(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _die_with(parent: int) -> None:
    """End this process when its parent ends, however that ends: no trainer is left behind."""
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415 - Linux only

        pr_set_pdeathsig = 1
        ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def quiet_libraries() -> None:
    """Keep libraries from filling the log with what is no news: missing CUDA kernels on a CPU, weight loading bars."""
    for name in ("torchao", "torch.utils._pytree", "tokenicer"):
        logging.getLogger(name).setLevel(logging.ERROR)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # or a fork after its first use warns at length


def main(arguments: list[str] | None = None) -> int:
    """Run one stage from its spec. Under Dagster Pipes it reports its log lines and the fingerprint made."""
    parser = argparse.ArgumentParser(prog="python -m smartdevdigest_ops.stage", description=main.__doc__)
    parser.add_argument("name", choices=sorted(STAGE_MODULES))
    parser.add_argument("spec", type=Path)
    options = parser.parse_args(arguments)
    if parent := os.environ.get(PARENT_VARIABLE):
        _die_with(int(parent))
    quiet_libraries()
    try:
        spec = StageSpec.read(options.spec)
        if spec.stage != options.name:
            raise StageError(f"{options.spec} is a spec of {spec.stage!r}, not of {options.name!r}.")
        if "DAGSTER_PIPES_CONTEXT" not in os.environ:
            run_stage(spec)
            return 0
        from dagster_pipes import open_dagster_pipes  # noqa: PLC0415 - only there under Dagster

        with open_dagster_pipes() as pipes:

            def report_line(message: str) -> None:
                _print_line(message)
                pipes.log.info(message)

            _, made = run_stage(spec, report_line)
            pipes.report_custom_message({"fingerprint": spec.fingerprint, "made": made})
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        # The parent process reads the reason here; an exit code alone would leave it to the logs.
        if options.spec.is_file():
            options.spec.with_suffix(ERROR_SUFFIX).write_text(str(error), encoding="utf-8")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
