"""The records of a run become a drop: one `.jsonl.gz` that appears whole under its name, or not at all.

The file's bytes follow from the outbox alone and its name from the run, so that a delivery that was killed at any point
is simply done again: before the rename nobody saw it, after the rename it is there and is left as it is. Where somebody
took it away in between, the same bytes come again, and a drop is known by its bytes.
"""

import gzip
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smartdevdigest_ops.artifacts import file_sha256
from smartdevdigest_ops.crawl.state import unpacked
from smartdevdigest_ops.errors import UserError
from smartdevdigest_ops.settings import resolve_path


class DeliveryError(UserError):
    """The drop could not be put where drops are watched."""


@dataclass(frozen=True)
class Drop:
    """A delivered drop."""

    address: str
    """Path, or URL of a remote location."""
    sha256: str
    num_records: int
    num_bytes: int


def check_location(location: str) -> None:
    """See that a drop can be put into the location at all, before anything is fetched for it.

    Raises:
        DeliveryError: it is a pattern or a file, cannot be written, or is of a kind that no installed driver serves.
    """
    if any(mark in location for mark in "*[") or ("://" not in location and resolve_path(location).is_file()):
        raise DeliveryError(
            f"data.incoming_path = {location!r} names files, and a crawl's drop needs a directory. Nothing was "
            "fetched; set data.incoming_path to a directory."
        )
    try:
        if "://" in location:
            _find_drivers(location)
        else:
            _see_that_it_is_writable(resolve_path(location))
    except (OSError, ValueError, ImportError) as error:
        raise DeliveryError(
            f"data.incoming_path = {location!r}: no drop can be put there ({error}). Nothing was fetched; correct the "
            "path, make it writable, or install the driver for it."
        ) from None


def _find_drivers(url: str) -> None:
    """Without connecting: a remote location that is away for a moment may be back when the drop is delivered."""
    import fsspec

    for protocol in url.partition("://")[0].split("::"):
        fsspec.get_filesystem_class(protocol)


def _see_that_it_is_writable(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    if not os.access(directory, os.W_OK | os.X_OK):
        raise PermissionError(f"{directory} is not writable")


def deliver_drop(connection: sqlite3.Connection, name: str, location: str, scratch: Path) -> Drop | None:
    """Put the outbox's records into `location` (a directory, or any fsspec URL) as one drop; None without records.

    Readers that skip hidden files never see a part of it: `.NAME.part` is renamed to NAME when it is whole. In the
    directory `scratch` a drop for a remote location is written first.

    Raises:
        DeliveryError: the location cannot be written. The records stay in the outbox.
    """
    num_records = int(connection.execute("SELECT COUNT(*) FROM outbox").fetchone()[0])
    if not num_records:
        return None
    try:
        if "://" in location:
            return _deliver_remotely(connection, name, location, scratch, num_records)
        return _deliver_locally(connection, name, resolve_path(location), num_records)
    except sqlite3.Error:
        raise
    except Exception as error:  # noqa: BLE001 - drivers of remote filesystems raise their own
        raise DeliveryError(
            f"data.incoming_path = {location!r}: the drop {name} with {num_records} records cannot be put there "
            f"({error}). The records are kept in the crawl's state; mend the location and crawl again: they are "
            "delivered first."
        ) from None


def _deliver_locally(connection: sqlite3.Connection, name: str, directory: Path, num_records: int) -> Drop:
    final = directory / name
    directory.mkdir(parents=True, exist_ok=True)
    if not final.exists():
        part = directory / f".{name}.part"
        _write(part, _lines(connection))
        part.replace(final)
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    return Drop(str(final), file_sha256(final), num_records, final.stat().st_size)


def _deliver_remotely(
    connection: sqlite3.Connection, name: str, location: str, scratch: Path, num_records: int
) -> Drop:
    import fsspec

    filesystem, directory = fsspec.url_to_fs(location, skip_instance_cache=True)
    part = scratch / f".{name}.part"
    _write(part, _lines(connection))
    drop = Drop(f"{location.rstrip('/')}/{name}", file_sha256(part), num_records, part.stat().st_size)
    final, remote_part = f"{directory.rstrip('/')}/{name}", f"{directory.rstrip('/')}/.{name}.part"
    if not filesystem.exists(final):
        filesystem.makedirs(directory, exist_ok=True)
        filesystem.put_file(str(part), remote_part)
        filesystem.mv(remote_part, final)
    part.unlink()
    return drop


def _lines(connection: sqlite3.Connection) -> Iterator[bytes]:
    """The drop's lines in the order of fetching, one in memory at a time."""
    for row in connection.execute("SELECT record FROM outbox ORDER BY id"):
        yield unpacked(row["record"])


def _write(part: Path, lines: Iterator[bytes]) -> None:
    with part.open("wb") as raw:
        # No name and no time in the header: equal records give equal bytes.
        stream: Any = gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=6, mtime=0)
        with stream:
            for line in lines:
                stream.write(line + b"\n")
        raw.flush()
        os.fsync(raw.fileno())
