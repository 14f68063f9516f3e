"""`smartdevdigest verify`: whether a store is whole. Every byte that was published or recorded is read."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from smartdevdigest_ops.artifacts import (
    MANIFEST,
    Artifact,
    ArtifactError,
    ArtifactStore,
    Making,
    read_record,
    read_sealed,
    sealed_json,
    version_of,
)
from smartdevdigest_ops.lineage.document_index import DocumentIndex, document_files, read_ids
from smartdevdigest_ops.lineage.impact import Version, name_of
from smartdevdigest_ops.release import read_release


@dataclass(frozen=True)
class Verification:
    """What was read, and what is wrong."""

    num_artifacts: int
    num_files: int
    problems: tuple[str, ...]
    """One sentence each, with the path of what is damaged."""


def verify_store(store: ArtifactStore) -> Verification:
    """Read everything, and name what differs from what was written or does not fit together."""
    problems: list[str] = []
    sound: dict[Version, Artifact] = {}
    num_artifacts = num_files = 0
    for version in store.recorded_versions():
        asset, partition, number = version
        try:
            artifact = store.open(asset, number, partition)
        except ArtifactError as error:
            if not _was_pruned(store, version):
                num_artifacts += 1
                problems.append(str(error))
            continue
        found = [*artifact.problems(), *_manifest_problems(artifact)]
        if found and _was_pruned(store, version):  # while it was being read
            continue
        num_artifacts += 1
        num_files += len(artifact.files)
        problems += found
        if not found:
            sound[version] = artifact
    makings, broken = _read_records(store)
    problems += broken
    problems += _unrecorded(sound, makings)
    problems += _pointer_problems(store, makings)
    problems += _tombstone_problems(store, makings)
    problems += _broken_chains(store, makings)
    problems += _release_problems(store, sound.values())
    problems += _index_problems(store, sound.values())
    return Verification(num_artifacts, num_files, tuple(problems))


def _was_pruned(store: ArtifactStore, version: Version) -> bool:
    asset, partition, number = version
    return store.pruned(asset, number, partition) is not None and not _directory(store, version).exists()


def _directory(store: ArtifactStore, version: Version) -> Path:
    asset, partition, number = version
    return store.home(asset, partition) / number


def _manifest_problems(artifact: Artifact) -> Iterator[str]:
    path = artifact.path / MANIFEST
    expected = {"asset": artifact.asset, "partition": artifact.partition, "version": artifact.version}
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        yield f"{path}: missing"
        return
    if version_of(artifact.files) != artifact.version:
        yield f"{path}: names files that do not hash to this version"
    elif text != json.dumps(expected | {"files": artifact.files}, indent=2):
        yield f"{path}: is not the manifest that was written"


def _read_records(store: ArtifactStore) -> tuple[list[Making], list[str]]:
    makings, problems = [], []
    for path in [*sorted(store.root.glob("*/makings/*.json")), *sorted(store.root.glob("*/*/makings/*.json"))]:
        try:
            making = read_record(path)
        except ArtifactError as error:
            problems.append(str(error))
            continue
        if path.stem != making.fingerprint or path.parent.parent != store.home(making.asset, making.partition):
            problems.append(f"{path}: is the record of another making ({making.asset} {making.fingerprint})")
        makings.append(making)
    return makings, problems


def _unrecorded(sound: Iterable[Version], makings: Iterable[Making]) -> Iterator[str]:
    recorded = {(making.asset, making.partition, making.version) for making in makings}
    for version in sound:
        if version not in recorded:
            yield (
                f"{name_of(version)}: no record says what it was made from: it is lost or damaged, or a run was killed "
                "before it was written. Run again, or remove the version."
            )


def _pointer_problems(store: ArtifactStore, makings: Iterable[Making]) -> Iterator[str]:
    passed: dict[Path, dict[str, str]] = {}
    for making in makings:
        pointers = passed.setdefault(store.home(making.asset, making.partition) / "current.json", {})
        if making.passed_gates:
            pointers[making.fingerprint] = making.version
    found = {*store.root.glob("*/current.json"), *store.root.glob("*/*/current.json")}
    for path in sorted(found | {path for path, pointers in passed.items() if pointers}):
        if path not in found:
            yield f"{path}: missing, though versions passed their gates; the next run points it again"
            continue
        try:
            text = path.read_text(encoding="utf-8")
            pointer = json.loads(text)
            version, fingerprint = pointer["version"], pointer["fingerprint"]
        except (OSError, ValueError, KeyError, TypeError):
            yield f"{path}: is not the record it should be"
            continue
        recorded = passed.get(path, {}).get(fingerprint) or _recorded_meanwhile(path.parent, str(fingerprint))
        if recorded != version or text != json.dumps(pointer):
            yield f"{path}: names {version} by the making {fingerprint}, of which there is no such record"


def _recorded_meanwhile(home: Path, fingerprint: str) -> str | None:
    """Version of a making that passed its gates and was recorded after all records had been read."""
    try:
        making = read_record(home / "makings" / f"{fingerprint}.json")
    except ArtifactError:
        return None
    return making.version if making.passed_gates else None


def _tombstone_problems(store: ArtifactStore, makings: Iterable[Making]) -> Iterator[str]:
    recorded = {store.home(making.asset, making.partition) / making.version for making in makings}
    for path in [*sorted(store.root.glob("*/pruned/*.json")), *sorted(store.root.glob("*/*/pruned/*.json"))]:
        try:
            found = read_sealed(path)
            is_as_written = path.read_text(encoding="utf-8") == sealed_json(found)
            sound = is_as_written and version_of(found["files"]) == path.stem == found["version"]
        except (ArtifactError, KeyError, TypeError, AttributeError):
            sound = False
        if not sound:
            yield f"{path}: is not what was remembered of a pruned version"
        elif path.parent.parent / path.stem not in recorded:
            yield f"{path}: of this pruned version there is no record any more, so lineage cannot tell its inputs"


def _broken_chains(store: ArtifactStore, makings: Iterable[Making]) -> Iterator[str]:
    """Inputs, of what is still in the store, that are gone and were not pruned."""
    told: set[tuple[Version, Version]] = set()
    for making in makings:
        version = (making.asset, making.partition, making.version)
        if not (_directory(store, version) / MANIFEST).is_file():
            continue
        for source in making.sources():
            asset, partition, number = source
            is_there = (_directory(store, source) / MANIFEST).is_file() or store.pruned(asset, number, partition)
            if not is_there and (version, source) not in told:
                told.add((version, source))
                yield f"{_directory(store, version)}: was made from {name_of(source)}, which is gone and was not pruned"


def _release_problems(store: ArtifactStore, sound: Iterable[Artifact]) -> Iterator[str]:
    current = store.current("release")
    for artifact in sound:
        if artifact.asset != "release":
            continue
        release = read_release(artifact)
        named = {
            "quantized_model": release.get("quantized_model"),
            "evaluation_report": release.get("evaluation_report"),
        }
        for asset, version in (*named.items(), ("release", release.get("previous"))):
            if version is None or (store.home(asset, None) / version / MANIFEST).is_file():
                continue
            is_served = current is not None and current.version == artifact.version
            if store.pruned(asset, version) is None or (is_served and asset == "quantized_model"):
                yield f"{artifact.path}: the release names {asset}@{version}, which is gone"


def _index_problems(store: ArtifactStore, sound: Iterable[Artifact]) -> Iterator[str]:
    index = DocumentIndex(store)
    damaged = index.damaged()
    yield from (f"{path}: does not fit its sum; remove it, and it is made again" for path in damaged)
    seen: set[str] = set()
    for artifact in sound:
        for name, sha256 in document_files(artifact):
            entry = None if sha256 in seen else index.entry(sha256)
            seen.add(sha256)
            if entry is not None and entry.tolist() != read_ids(artifact, name).tolist():
                yield f"{index.place(sha256)}: holds other documents than {artifact.path / name}; remove it"
