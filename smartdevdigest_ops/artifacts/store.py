"""The store: makings and versions of assets below one local directory."""

import fcntl
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

from smartdevdigest_ops.artifacts.artifact import MANIFEST, Artifact
from smartdevdigest_ops.artifacts.content import file_sha256, version_of
from smartdevdigest_ops.artifacts.files import ArtifactError, read_sealed, sealed_json, sync, write_atomically
from smartdevdigest_ops.artifacts.making import Making, read_record

_HOST = socket.gethostname().replace(".", "-")


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
            sync(staged / name)  # before the rename: a power cut must not leave a version of empty files
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
        sync(final.parent)
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
