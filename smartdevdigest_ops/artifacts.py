"""The artifact store: immutable directories named by their content, made whole or not at all.

    <root>/<asset>[/<partition>]/<version>/…          the files, and manifest.json
    <root>/<asset>[/<partition>]/makings/<fp>.json     what one making (fingerprint fp) produced, from what
    <root>/<asset>[/<partition>]/current.json          the last making whose blocking checks all passed
    <root>/<asset>[/<partition>]/pruned/<version>.json what is remembered of a version that was removed
    <root>/.staging/…  <root>/.scratch/…               being written; kept between tries of one making
    <root>/.trash/…                                    being removed

A stage writes into a staging directory; publishing hashes the files, writes the manifest and renames the directory
into place, so that nothing half-written is ever visible. `version` is a hash of the files alone: the same content
made again, from whatever inputs, is the same version, and what is downstream of it stays as it is.
A making's fingerprint is the hash of everything that decides it (code, settings, inputs); the same fingerprint is
never made twice.
"""

import fcntl
import hashlib
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from smartdevdigest_ops.errors import UserError

MANIFEST = "manifest.json"
INPUTS_FILE = "inputs.json"
"""In the scratch of a making that is not finished: what it reads."""
_ID_CHARACTERS = 16
_HOST = socket.gethostname().replace(".", "-")


class ArtifactError(UserError):
    """An artifact is missing, damaged or not what was asked for."""


def content_hash(data: bytes | str) -> str:
    """First 16 hex digits of the SHA-256 of `data`."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()[:_ID_CHARACTERS]


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no white space: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_atomically(path: Path, text: str) -> None:
    """Write `text` so that a reader sees the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    Path(temporary).replace(path)


@dataclass(frozen=True)
class Artifact:
    """One published version of an asset."""

    asset: str
    partition: str | None
    version: str
    path: Path
    files: Mapping[str, Mapping[str, Any]]
    """Relative path -> {"sha256", "bytes"}."""

    def is_complete(self) -> bool:
        """Whether every file is there in its size: what can be told without reading them (`problems` reads)."""
        try:
            return all((self.path / name).stat().st_size == entry["bytes"] for name, entry in self.files.items())
        except OSError:
            return False

    def problems(self) -> list[str]:
        """What differs from the manifest, file by file; empty when every byte is as published."""
        found = [problem for name in self.files if (problem := self._problem(name))]
        known = {*self.files, MANIFEST}
        extra = [f for f in self.path.rglob("*") if f.is_file() and str(f.relative_to(self.path)) not in known]
        return found + [f"{file}: not in the manifest" for file in sorted(extra)]

    def _problem(self, name: str) -> str | None:
        file, expected = self.path / name, self.files.get(name)
        if expected is None or not file.is_file():
            return f"{file}: missing"
        if file.stat().st_size != expected["bytes"]:
            return f"{file}: {file.stat().st_size} bytes, published with {expected['bytes']}"
        if file_sha256(file) != expected["sha256"]:
            return f"{file}: content differs from what was published (sha256)"
        return None

    def refuse_damage(self) -> None:
        """Read every byte.

        Raises:
            ArtifactError: one differs from what was published.
        """
        if problems := self.problems():
            raise ArtifactError(
                f"{self.asset} {self.version} is damaged, and nothing was made from it: {'; '.join(problems[:3])}. "
                f"Remove the directory {self.path} and run again: it is made anew."
            )

    def sound_file(self, name: str) -> Path:
        """Path of one file, every byte of it checked.

        Raises:
            ArtifactError: it is missing, or differs from what was published.
        """
        if problem := self._problem(name):
            raise ArtifactError(
                f"{self.asset} {self.version} is damaged, and nothing was read from it: {problem}. Remove the "
                f"directory {self.path} and run again: it is made anew."
            )
        return self.path / name


@dataclass(frozen=True)
class Making:
    """The record of one making: what it came from and what it measured."""

    asset: str
    partition: str | None
    version: str
    fingerprint: str
    inputs: dict[str, Any]
    """Asset -> version, or {partition: version}; `file:NAME` -> sha256 of a file from outside."""
    settings: dict[str, Any]
    code_version: str
    environment: dict[str, str]
    resources: dict[str, Any]
    """device, wall_seconds, peak_rss_bytes, peak_gpu_bytes (null without a GPU)."""
    metrics: dict[str, float]
    checks: list[dict[str, Any]]
    """{"name", "passed", "blocking", "message", "metadata"} of every check of the asset."""
    notes: dict[str, Any] = field(default_factory=dict)
    """Tables and Markdown for a reader; `markdown` and `report_html` are shown in the UI."""
    created: str = ""
    documents: dict[str, list[str]] = field(default_factory=dict)
    """How documents were used -> ids of those, where it was some of an input's and the inputs do not say which."""
    in_place_of: str = ""
    """Fingerprint of the making that this one stands for, because somebody decided so; empty of all others."""

    @property
    def passed_gates(self) -> bool:
        """Whether every blocking check passed, so that others may build on it."""
        return all(check["passed"] for check in self.checks if check["blocking"])

    def answers(self, fingerprint: str) -> bool:
        """Whether this is what the making with this fingerprint was to be."""
        return fingerprint in (self.fingerprint, self.in_place_of)

    def sources(self) -> Iterator[tuple[str, str | None, str]]:
        """(asset, partition, version) of every input."""
        for asset, versions in self.inputs.items():
            if isinstance(versions, dict):
                yield from ((asset, partition, version) for partition, version in versions.items())
            elif not asset.startswith("file:"):
                yield asset, None, versions


_SEAL = ',\n  "seal": "'


def sealed_json(value: Mapping[str, Any]) -> str:
    """JSON whose last entry is a hash of the text before it."""
    body = json.dumps(value, indent=2, ensure_ascii=False).removesuffix("\n}")
    return f'{body}{_SEAL}{content_hash(body)}"\n}}'


def read_sealed(path: Path) -> dict[str, Any]:
    """What `sealed_json` wrote into a file. One that was written before there were seals is taken as it is.

    Raises:
        ArtifactError: it cannot be read, or is not what was written.
    """
    try:
        text = path.read_text(encoding="utf-8")
        body, seal, rest = text.rpartition(_SEAL)
        if seal and rest != f'{content_hash(body)}"\n}}':
            raise ValueError("its seal does not fit its text")
        value: dict[str, Any] = json.loads(f"{body}\n}}" if seal else text)
    except (OSError, ValueError) as error:
        raise ArtifactError(
            f"{path}: is not what was written there ({error}), and nothing was taken from it."
        ) from None
    return value


def read_record(path: Path) -> Making:
    """The making that a record tells of.

    Raises:
        ArtifactError: it is no record, or not what was written.
    """
    try:
        return Making(**read_sealed(path))
    except (TypeError, ArtifactError) as error:
        raise ArtifactError(
            f"{path}: is not the record of a making that was written here ({error}). It counts as never made; run "
            "again, and the artifact is made and recorded anew."
        ) from None


class ArtifactStore:
    """Artifacts below one local directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def home(self, asset: str, partition: str | None) -> Path:
        """Directory of an asset, or of one of its partitions."""
        return self.root / asset / partition if partition else self.root / asset

    def partitions(self, asset: str) -> list[str]:
        """Partitions of `asset` that have a current version, in order of their keys."""
        return sorted(file.parent.name for file in (self.root / asset).glob("*/current.json"))

    def making(self, asset: str, fingerprint: str, partition: str | None = None) -> Making | None:
        """The making with this fingerprint, if it was ever finished and its artifact is still there."""
        path = self.home(asset, partition) / "makings" / f"{fingerprint}.json"
        if not path.is_file():
            return None
        try:
            making = read_record(path)
            artifact = self.open(asset, making.version, partition)
        except ArtifactError:
            return None  # damaged: it counts as never made, and is made again
        return making if artifact.is_complete() else None

    def makings(self, asset: str) -> list[Making]:
        """Every making on record of `asset`, of all partitions, whether its artifact is still there or not."""
        found = []
        for record in self.records(asset):
            try:
                found.append(read_record(record))
            except ArtifactError:
                continue  # `verify` names it
        return found

    def records(self, asset: str) -> list[Path]:
        """Files of the records of `asset`, of all partitions."""
        home = self.root / asset
        return sorted([*home.glob("makings/*.json"), *home.glob("*/makings/*.json")])

    def current_making(self, asset: str, partition: str | None = None) -> Making | None:
        """The last making that passed its gates, if any."""
        path = self.home(asset, partition) / "current.json"
        if not path.is_file():
            return None
        try:
            fingerprint = json.loads(path.read_text(encoding="utf-8"))["fingerprint"]
        except (ValueError, KeyError, TypeError):
            return None  # damaged: as if nothing were current; the next run points it again
        return self.making(asset, fingerprint, partition)

    def current(self, asset: str, partition: str | None = None) -> Artifact | None:
        """The current version, if any."""
        making = self.current_making(asset, partition)
        return self.open(asset, making.version, partition) if making else None

    def open(self, asset: str, version: str, partition: str | None = None) -> Artifact:
        """One version of an asset.

        Raises:
            ArtifactError: it is not in the store, or its manifest cannot be read.
        """
        path = self.home(asset, partition) / version
        try:
            files = json.loads((path / MANIFEST).read_text(encoding="utf-8"))["files"]
            if any((type(entry["sha256"]), type(entry["bytes"])) != (str, int) for entry in files.values()):
                raise ValueError("an entry is no hash and size")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(
                f"{path}: this version of {asset} cannot be opened ({error}). Nothing was loaded from it; "
                "materialize the asset again."
            ) from None
        return Artifact(asset, partition, version, path, files)

    def pruned(self, asset: str, version: str, partition: str | None = None) -> dict[str, Any] | None:
        """What is remembered of a version that was pruned: its manifest, `path`, `bytes` and `pruned` (when)."""
        try:
            found = read_sealed(self.home(asset, partition) / "pruned" / f"{version}.json")
        except ArtifactError:
            return None
        return found

    def remove(self, artifact: Artifact, why: str, num_bytes: int) -> None:
        """Remove a version whole, and remember what it was; who has its files open can go on reading them."""
        remembered = {
            "asset": artifact.asset,
            "partition": artifact.partition,
            "version": artifact.version,
            "files": dict(artifact.files),
            "path": str(artifact.path.relative_to(self.root)),
            "bytes": num_bytes,
            "why": why,
        }
        home = self.home(artifact.asset, artifact.partition)
        write_atomically(home / "pruned" / f"{artifact.version}.json", sealed_json(remembered))
        self.discard(artifact.path)

    def discard(self, path: Path) -> None:
        """Take a directory out of the store in one step, then delete it; `empty_trash` ends what a kill left."""
        trash = self.root / ".trash"
        trash.mkdir(exist_ok=True)
        path.rename(Path(tempfile.mkdtemp(dir=trash)) / path.name)
        self.empty_trash()

    def empty_trash(self) -> None:
        """Delete what was taken out of the store."""
        shutil.rmtree(self.root / ".trash", ignore_errors=True)

    def versions(self) -> list[Artifact]:
        """Every version that is in the store and can be opened."""
        found = []
        for asset, partition, version in self.recorded_versions():
            try:
                found.append(self.open(asset, version, partition))
            except ArtifactError:
                continue  # gone, or `verify` names it
        return found

    def recorded_versions(self) -> list[tuple[str, str | None, str]]:
        """(asset, partition, version) of every directory that is a version, by its manifest or by its making."""
        found = set()
        for manifest in [*self.root.glob(f"*/*/{MANIFEST}"), *self.root.glob(f"*/*/*/{MANIFEST}")]:
            *home, version = manifest.parent.relative_to(self.root).parts
            found.add((home[0], home[1] if len(home) == 2 else "", version))
        for record in [*self.root.glob("*/makings/*.json"), *self.root.glob("*/*/makings/*.json")]:
            home = list(record.parent.parent.relative_to(self.root).parts)
            try:
                version = json.loads(record.read_text(encoding="utf-8"))["version"]
            except (ValueError, KeyError, TypeError):
                continue  # `verify` names it
            found.add((home[0], home[1] if len(home) == 2 else "", version))
        return [
            (asset, partition or None, version)
            for asset, partition, version in sorted(found)
            if not asset.startswith(".")
        ]

    @contextmanager
    def lock(self, asset: str, partition: str | None, *, wait: bool = True) -> Iterator[None]:
        """Held by the one process that makes this asset (of this partition); others wait, and find what it made.

        Raises:
            BlockingIOError: another process holds it, and `wait` is false.
        """
        path = self.root / ".locks" / (f"{asset}.{partition}" if partition else asset)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as stream:
            # Released when the process ends, however it ends.
            fcntl.flock(stream, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield

    def scratch(self, asset: str, fingerprint: str) -> Path:
        """Directory that survives a kill: the next try of the same making finds what the last one left there."""
        path = self.root / ".scratch" / asset / fingerprint
        path.mkdir(parents=True, exist_ok=True)
        return path

    @contextmanager
    def staging(self, asset: str) -> Iterator[Path]:
        """A fresh directory to write into, removed afterwards unless it was published."""
        parent = self.root / ".staging"
        parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(parent)
        path = Path(tempfile.mkdtemp(dir=parent, prefix=f"{asset}.{_HOST}.{os.getpid()}."))
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def publish(
        self,
        staged: Path,
        asset: str,
        partition: str | None = None,
        known: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    ) -> Artifact:
        """Give a staged directory its version, manifest and place. The same content again is the same artifact.

        `known` are files that an earlier artifact holds too, with their manifest entries: they are not read again.
        """
        names = sorted(str(file.relative_to(staged)) for file in staged.rglob("*") if file.is_file())
        files = {
            name: known[name]
            if name in known
            else {"sha256": file_sha256(staged / name), "bytes": (staged / name).stat().st_size}
            for name in names
        }
        version = version_of(files)
        manifest = {"asset": asset, "partition": partition, "version": version, "files": files}
        (staged / MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")
        # mkdtemp and safetensors write for this user alone; an artifact is for everybody who may read the store.
        staged.chmod(0o755)
        for name in (*(files.keys() - known.keys()), MANIFEST):
            (staged / name).chmod(0o644)
            _sync(staged / name)  # before the rename: a power cut must not leave a version of empty files
        final = self.home(asset, partition) / version
        final.parent.mkdir(parents=True, exist_ok=True)
        if final.is_dir() and not self._is_sound(asset, version, partition):
            shutil.rmtree(final)  # damaged since: replaced by the sound copy just made
        if not final.is_dir():
            try:
                staged.rename(final)
            except OSError:
                # Another process published the same content in between.
                if not (final / MANIFEST).is_file():
                    raise
        _sync(final.parent)
        return self.open(asset, version, partition)

    def _is_sound(self, asset: str, version: str, partition: str | None) -> bool:
        try:
            return not self.open(asset, version, partition).problems()
        except ArtifactError:
            return False

    def record(self, making: Making) -> None:
        """Write a making down, and make it the current one if it passed its gates."""
        home = self.home(making.asset, making.partition)
        write_atomically(home / "makings" / f"{making.fingerprint}.json", sealed_json(asdict(making)))
        self.make_current(making)
        shutil.rmtree(self.root / ".scratch" / making.asset / making.fingerprint, ignore_errors=True)

    def make_current(self, making: Making) -> None:
        """Point the asset at this making, unless a blocking check failed: then the last good one stays current."""
        if not making.passed_gates:
            return
        pointer = {"version": making.version, "fingerprint": making.fingerprint}
        write_atomically(self.home(making.asset, making.partition) / "current.json", json.dumps(pointer))


def version_of(files: Mapping[str, Mapping[str, Any]]) -> str:
    """Version of these files: a hash of their names and contents."""
    return content_hash(canonical_json({name: entry["sha256"] for name, entry in files.items()}))


def _sync(path: Path) -> None:
    """Flush a file or directory to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_abandoned(staging: Path) -> None:
    """Remove staging directories of this host whose process is gone (it was killed before it could)."""
    for path in staging.iterdir():
        _, host, process_id, *_ = (*path.name.split("."), "", "", "")
        if host == _HOST and process_id.isdigit() and not _is_alive(int(process_id)):
            shutil.rmtree(path, ignore_errors=True)


def _is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
