"""Partitions: one per drop, never per document (Dagster's ceiling is near 100,000 partitions)."""

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager

import dagster as dg
from sqlalchemy.exc import IntegrityError

from smartdevdigest_assets.in_progress import assets_in_progress
from smartdevdigest_ops.artifacts import ArtifactStore
from smartdevdigest_ops.drops.refusals import INGEST_STAGES, is_taken_in

# Key: the first 16 hex digits of the SHA-256 of the drop file, so the same content is one partition under any name.
DROPS = dg.DynamicPartitionsDefinition(name="drops")


def add_drops(instance: dg.DagsterInstance, keys: Sequence[str]) -> None:
    """Add partitions; those that are there already stay as they are, also where another run adds them just now.

    Dagster looks which are missing, then inserts them all: where another process was quicker, nothing is inserted. The
    next look finds what that one added, so that every further try has at least one key less.
    """
    for _ in keys:
        try:
            instance.add_dynamic_partitions(str(DROPS.name), list(keys))
        except IntegrityError:
            continue
        return
    instance.add_dynamic_partitions(str(DROPS.name), list(keys))


def taking_in(store: ArtifactStore, key: str, *, wait: bool = True) -> AbstractContextManager[None]:
    """Held from adding a drop's partition until its run is over, and by whoever deletes the partition.

    Raises:
        BlockingIOError: another process holds it, and `wait` is false.
    """
    return store.lock("drop", key, wait=wait)


def remove_drops(instance: dg.DagsterInstance, store: ArtifactStore, keys: Collection[str]) -> list[str]:
    """Delete partitions of drops that were not taken in: all below would wait for them. Returns which went.

    Those that a run is making stay: Dagster fails a step whose partition is gone. The caller holds `taking_in`.
    """
    unmade = [key for key in keys if not is_taken_in(store, key)]
    if unmade:
        runs = assets_in_progress(instance)
        unmade = [key for key in unmade if not any(key in runs.get(stage, ()) for stage in INGEST_STAGES)]
    for key in unmade:
        instance.delete_dynamic_partition(str(DROPS.name), key)
    return unmade
