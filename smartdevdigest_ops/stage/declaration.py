"""What a stage declares, what it is given, and what it reports."""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smartdevdigest_ops.artifacts import Artifact, ArtifactStore
from smartdevdigest_ops.errors import UserError
from smartdevdigest_ops.settings import Settings

# Settings that say where, how fast and with whose consent, not what: reading them never makes an artifact stale.
UNTRACKED_SETTINGS = (
    "profile",
    "store",
    "model.accept_terms",
    "model.device",
    "model.precision",
    "model.threads",
    "corpus.memory_mib",
    "training.processes",
    "training.sharding",
    "training.compile",
    "tracking",
    *(
        f"labeling.{teacher}.{name}"
        for teacher in ("openai", "agreement.openai")
        for name in ("api_key_environment", "requests", "batch", "price")
    ),
    *(f"evaluation.judge.{name}" for name in ("openai.api_key_environment", "openai.requests", "openai.price")),
    "evaluation.judge.local.batch_size",
)


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
    documents: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """How documents were used (`lineage.uses.Role`) -> ids of those that were drawn from the inputs."""


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
    reused: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """Files of `out` that are those of an earlier artifact: name -> its manifest entry."""

    def input(self, name: str) -> Artifact:
        """The one version of an unpartitioned input, or of this run's partition of a partitioned one."""
        artifact = self.inputs[name]
        if not isinstance(artifact, Artifact) and self.partition is not None and list(artifact) == [self.partition]:
            return artifact[self.partition]
        if not isinstance(artifact, Artifact):
            raise StageError(f"{name} comes by partition; read it with partitions({name!r})")
        return artifact

    def partitions(self, name: str) -> Mapping[str, Artifact]:
        """All partitions of a partitioned input, by key, in key order."""
        artifacts = self.inputs[name]
        if isinstance(artifacts, Artifact):
            raise StageError(f"{name} is not partitioned; read it with input({name!r})")
        return artifacts

    def reuse(self, artifact: Artifact, name: str) -> None:
        """Put a file of an earlier artifact into this one, unread: both share it on the disk."""
        target = self.out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(artifact.path / name, target)
        except OSError:  # a file system without hard links
            shutil.copyfile(artifact.path / name, target)
        self.reused[name] = artifact.files[name]

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
    reads_inputs_whole: bool = True
    """False: a part of each input is read, and the stage itself checks what it reads; only sizes are checked before."""
    own_process: bool = False
    """Heavy: run as its own process, so that its memory goes when it ends."""
    distributed: bool = False
    """`training.processes` processes may share its work: each runs it whole, and the first one publishes."""
    memoized: bool = True
    """False: decided anew whenever it is not up to date, because it looks at its own current version too."""

    def tracked_settings(self, settings: Settings) -> dict[str, Any]:
        """What it declares of the settings, without the untracked parts: another value is another making."""
        return settings.only(self.settings, without=tuple(set(UNTRACKED_SETTINGS) - set(self.settings)))


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
