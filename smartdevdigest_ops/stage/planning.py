"""Which making the current inputs and settings ask for, whether it is there already, and what sets the two apart."""

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from smartdevdigest_ops.artifacts import ArtifactStore, Making, canonical_json, content_hash, file_sha256
from smartdevdigest_ops.errors import UserError
from smartdevdigest_ops.settings import Settings
from smartdevdigest_ops.stage.declaration import StageError
from smartdevdigest_ops.stage.registry import get_stage


class InputMissing(StageError):
    """An input has no version yet: there is nothing to make the stage from."""


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


def plan_stage(name: str, settings: Settings, partition: str | None = None) -> StageSpec:
    """The making that the current inputs and settings ask for.

    Raises:
        InputMissing: an input has no version yet.
        StageError: a file from outside is not there.
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
            outside[f"file:{file.name}" + (f"#{same_name + 1}" if same_name else "")] = outside_sha256(file)
    fingerprint = content_hash(
        canonical_json(
            {
                "stage": name,
                "code": stage.code_version,
                "settings": stage.tracked_settings(settings),
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
            raise InputMissing(
                f"{stage} needs {upstream}, which has no version in {store.root}. Materialize {upstream} first."
            )
        return making.version
    keys = [partition] if partition else store.partitions(upstream)
    makings = {key: store.current_making(upstream, key) for key in keys}
    missing = [key for key, making in makings.items() if making is None]
    if missing or not makings:
        raise InputMissing(
            f"{stage} needs {upstream}, of which {', '.join(missing) or 'no partition'} has a version in {store.root}. "
            f"Materialize {upstream} first: drops are taken in by `smartdevdigest run --drop FILE`."
        )
    return {key: making.version for key, making in makings.items() if making}


def outside_sha256(path: Path) -> str:
    """SHA-256 of a file from outside, in hex; read once per process as long as it does not change."""
    status = path.stat()
    return _hashed_once(path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@lru_cache(maxsize=4096)
def _hashed_once(path: Path, *_status: int) -> str:
    # Automation plans every stage twice a minute: hashing a base model each time would keep a core busy. A content
    # cannot change without its ctime, which no program can set.
    return file_sha256(path)


def is_fresh(name: str, settings: Settings, partition: str | None = None) -> bool:
    """Whether the current version is the one that the current inputs and settings ask for."""
    try:
        spec = plan_stage(name, settings, partition)
    except UserError:
        return False  # an input or outside file is missing: the run says so
    making = ArtifactStore(settings.store_dir).current_making(name, partition)
    return making is not None and making.answers(spec.fingerprint)


@dataclass(frozen=True)
class Comparison:
    """The making that is asked for beside the current one."""

    spec: StageSpec
    current: Making | None
    inputs: frozenset[str]
    """Input assets whose version differs; all of them where nothing is current."""
    own: tuple[str, ...]
    """What else differs: `code`, dotted paths of settings, `file:NAME` of files from outside."""

    @property
    def is_fresh(self) -> bool:
        """Whether the current making is the one that is asked for."""
        return self.current is not None and self.current.answers(self.spec.fingerprint)

    def __str__(self) -> str:
        if self.current is None:
            return "never made"
        return f"changed: {', '.join([*sorted(self.inputs), *self.own])}" if not self.is_fresh else "up to date"


def compare_with_current(name: str, settings: Settings, partition: str | None = None) -> Comparison:
    """What sets the making that the current inputs and settings ask for apart from the current one.

    Raises:
        InputMissing: an input has no version yet.
        StageError: a file from outside is not there.
    """
    stage = get_stage(name)
    spec = plan_stage(name, settings, partition)
    current = ArtifactStore(settings.store_dir).current_making(name, partition)
    if current is None:
        return Comparison(spec, None, frozenset(stage.inputs), ())
    if current.answers(spec.fingerprint):
        return Comparison(spec, current, frozenset(), ())
    asked = stage.tracked_settings(settings)
    files = {key for key in current.inputs if key.startswith("file:")} | spec.outside.keys()
    own = [
        *(["code"] if current.code_version != stage.code_version else []),
        *(path for path in sorted(asked.keys() | current.settings) if asked.get(path) != current.settings.get(path)),
        *(name for name in sorted(files) if current.inputs.get(name) != spec.outside.get(name)),
    ]
    inputs = frozenset(asset for asset in stage.inputs if current.inputs.get(asset) != spec.inputs[asset])
    return Comparison(spec, current, inputs, tuple(own))
