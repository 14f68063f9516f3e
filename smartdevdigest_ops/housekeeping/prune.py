"""`smartdevdigest prune`: remove what a store no longer needs.

A version goes in one rename, while nobody makes its asset, and is remembered: its record and manifest stay, so that
lineage still answers and `verify` knows that it was removed on purpose. A process that has its files open or mapped, as
a server has its model's, goes on reading them until it closes them. A kill at any moment leaves every version whole or
gone.
"""

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from smartdevdigest_ops.artifacts import INPUTS_FILE, Artifact, ArtifactStore
from smartdevdigest_ops.housekeeping.keep import versions_to_keep
from smartdevdigest_ops.lineage.document_index import DocumentIndex, document_files
from smartdevdigest_ops.lineage.impact import name_of
from smartdevdigest_ops.settings import Settings
from smartdevdigest_ops.stage.registry import STAGE_MODULES

_DAY_SECONDS = 86_400
_WHY = "pruned: neither current, nor among the newest, nor needed by what is kept"


@dataclass(frozen=True)
class Removal:
    """Something that is not needed."""

    name: str
    path: Path
    num_bytes: int
    """What its removal frees; files that what is kept shares are not counted."""
    artifact: Artifact | None = None


@dataclass(frozen=True)
class PruneReport:
    """What was removed, or would be."""

    removed: tuple[Removal, ...]
    busy: tuple[Removal, ...]
    """Left for the next time: its asset is being made."""
    num_forgotten_bytes: int = 0
    """Freed by the token ids of documents that no snapshot in the store holds."""

    @property
    def num_bytes(self) -> int:
        """Freed by all that was removed."""
        return sum(removal.num_bytes for removal in self.removed) + self.num_forgotten_bytes


def plan_prune(settings: Settings) -> list[Removal]:
    """What `prune` would remove now.

    Raises:
        ArtifactError: it cannot be told what is needed.
    """
    store = ArtifactStore(settings.store_dir)
    kept = versions_to_keep(store, settings.store)
    unneeded = [
        artifact
        for artifact in store.versions()
        if artifact.asset in STAGE_MODULES and (artifact.asset, artifact.partition, artifact.version) not in kept
    ]
    removals = [
        Removal(name_of((each.asset, each.partition, each.version)), each.path, num_bytes, each)
        for each, num_bytes in zip(unneeded, _freed([each.path for each in unneeded]), strict=True)
    ]
    return removals + _old_scratch(store, settings.store.keep_scratch_days) + _unnamed_entries(store)


def prune(settings: Settings, report_line: Callable[[str], None]) -> PruneReport:
    """Remove what `plan_prune` names, and tell each.

    Raises:
        ArtifactError: it cannot be told what is needed; nothing was removed.
    """
    store = ArtifactStore(settings.store_dir)
    removed: list[Removal] = []
    busy: list[Removal] = []
    # No release is decided meanwhile: what it would go back to could be on the list.
    with store.lock("prune", None), store.lock("release", None):
        store.empty_trash()
        for removal in plan_prune(settings):
            done = _remove(store, removal)
            (removed if done else busy).append(removal)
            report_line(
                f"{'removed' if done else 'busy, left for the next time:'} {removal.name}, {removal.num_bytes:,} B"
            )
        num_forgotten_bytes = _forget_token_ids(store, report_line)
    return PruneReport(tuple(removed), tuple(busy), num_forgotten_bytes)


def _forget_token_ids(store: ArtifactStore, report_line: Callable[[str], None]) -> int:
    """Rid the token id cache of documents that were removed: no snapshot in the store holds them."""
    cache_dir = store.root / ".token_ids"
    if not cache_dir.is_dir():
        return 0
    from smartdevdigest_ops.training.encoding import parquet_texts  # noqa: PLC0415 - not for a dry run
    from smartdevdigest_ops.training.segments import forget_documents, text_digest  # noqa: PLC0415

    snapshots = [artifact for artifact in store.versions() if artifact.asset == "corpus_snapshot"]
    kept = {
        text_digest(text.encode())
        for snapshot in snapshots
        for name, _ in document_files(snapshot)
        for text in parquet_texts(snapshot.path / name)
    }
    num_bytes = forget_documents(cache_dir, kept, report_line)
    if num_bytes:
        report_line(f"removed token ids of documents that no snapshot holds, {num_bytes:,} B")
    return num_bytes


def _remove(store: ArtifactStore, removal: Removal) -> bool:
    if removal.artifact is None and removal.path.is_file():
        removal.path.unlink()
        return True
    asset, partition = _home_of(removal)
    try:
        if asset == "release":  # held already
            _remove_held(store, removal)
        else:
            with store.lock(asset, partition, wait=False):
                current = store.current_making(asset, partition)
                if removal.artifact is not None and current and current.version == removal.artifact.version:
                    return False  # made again since the plan
                _remove_held(store, removal)
    except BlockingIOError:
        return False
    return True


def _remove_held(store: ArtifactStore, removal: Removal) -> None:
    if removal.artifact is not None:
        store.remove(removal.artifact, _WHY, removal.num_bytes)
    else:
        store.discard(removal.path)


def _home_of(removal: Removal) -> tuple[str, str | None]:
    if removal.artifact is not None:
        return removal.artifact.asset, removal.artifact.partition
    partition = None
    with suppress(OSError, ValueError, KeyError):
        partition = json.loads((removal.path / INPUTS_FILE).read_text(encoding="utf-8"))["partition"]
    return removal.path.parent.name, partition


def _freed(directories: Sequence[Path]) -> list[int]:
    """Bytes that go with each directory: of a file with several names, only where all of them go, with the last."""
    links: Counter[tuple[int, int]] = Counter()
    freed = []
    for directory in directories:
        num_bytes = 0
        for file, status in _statuses(directory):
            if file.is_file():
                links[status.st_dev, status.st_ino] += 1
                num_bytes += status.st_size if links[status.st_dev, status.st_ino] == status.st_nlink else 0
        freed.append(num_bytes)
    return freed


def _old_scratch(store: ArtifactStore, days: float) -> list[Removal]:
    """What interrupted makings left, and nobody went on from for so long."""
    directories = [path for path in sorted((store.root / ".scratch").glob("*/*")) if path.is_dir()]
    old = [path for path in directories if _last_change(path) < time.time() - days * _DAY_SECONDS]
    return [
        Removal(f"scratch of an interrupted {path.parent.name}", path, num_bytes)
        for path, num_bytes in zip(old, _freed(old), strict=True)
    ]


def _last_change(directory: Path) -> float:
    """Now, where something is being removed in it: a stage is at work there."""
    try:
        return max(os.lstat(path).st_mtime for path in (directory, *directory.rglob("*")))
    except FileNotFoundError:
        return time.time()


def _statuses(directory: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """What is below it, as long as it is there."""
    with suppress(FileNotFoundError):
        for path in directory.rglob("*"):
            with suppress(FileNotFoundError):
                yield path, path.lstat()


def _unnamed_entries(store: ArtifactStore) -> list[Removal]:
    """Entries of the document index that no version, in the store or remembered, has a file for."""
    index = DocumentIndex(store)
    named = {index.place(sha256).name for artifact in _all_versions(store) for _, sha256 in document_files(artifact)}
    entries = sorted(index.directory.glob("*.ids"))
    return [
        Removal(f"entry {path.stem} of the document index", path, path.stat().st_size)
        for path in entries
        if path.name not in named
    ]


def _all_versions(store: ArtifactStore) -> Iterable[Artifact]:
    yield from store.versions()
    for file in [*store.root.glob("*/pruned/*.json"), *store.root.glob("*/*/pruned/*.json")]:
        asset, *partition = file.parent.parent.relative_to(store.root).parts
        remembered = store.pruned(asset, file.stem, partition[0] if partition else None)
        if remembered is not None:
            yield Artifact(asset, partition[0] if partition else None, file.stem, file, remembered["files"])
