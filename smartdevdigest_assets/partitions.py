"""Partitions: one per drop, never per document (Dagster's ceiling is near 100,000 partitions)."""

from collections.abc import Sequence

import dagster as dg
from sqlalchemy.exc import IntegrityError

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
