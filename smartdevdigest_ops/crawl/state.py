"""The crawl's memory: one SQLite file with what is known of every page, the run that is open, and the ledger.

Whatever belongs together (a page's outcome, its validators, its record, its line in the ledger) is one transaction, so
that a kill leaves each page either wholly done or not begun. A record waits in `outbox` until its drop is delivered.

    pages      one row per page ever fetched, by canonical URL      kept
    listings   feeds and sitemaps as last fetched                    kept
    ledger     what was fetched when under which terms              kept, only ever added to
    runs       one row per crawl                                     kept
    listed     what the sources of the open run list                 emptied when the run ends
    outbox     records of the open run                               emptied when their drop is delivered
"""

import fcntl
import os
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from smartdevdigest_ops.errors import UserError

_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    id TEXT PRIMARY KEY,            -- when it started, and 8 random hex digits
    started_at TEXT NOT NULL,
    sources_hash TEXT NOT NULL,     -- a run goes on with the sources that it began with
    is_planned INTEGER NOT NULL DEFAULT 0,
    finished_at TEXT,
    drop_name TEXT NOT NULL,
    drop_sha256 TEXT,
    num_records INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS run_sources (
    run TEXT NOT NULL, name TEXT NOT NULL, problem TEXT, note TEXT, PRIMARY KEY (run, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS listed (
    id INTEGER PRIMARY KEY,
    source TEXT NOT NULL,
    source_position INTEGER NOT NULL,   -- in the order of config/sources.yaml
    position INTEGER NOT NULL,          -- in the listing
    url TEXT NOT NULL,                  -- canonical
    address TEXT NOT NULL,              -- as listed: what is asked for
    host TEXT NOT NULL,
    entry TEXT NOT NULL,                -- JSON of what the listing says of the page
    updated TEXT,                       -- its time of change, as the listing says
    outcome TEXT NOT NULL DEFAULT 'new',
    reason TEXT,
    attempts INTEGER NOT NULL DEFAULT 0, -- how often the page was about to be taken apart
    visit_order INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS listed_by_host ON listed (outcome, host, visit_order, source_position);
CREATE INDEX IF NOT EXISTS listed_by_url ON listed (url, source_position, position);
CREATE TABLE IF NOT EXISTS outbox (id INTEGER PRIMARY KEY, url TEXT NOT NULL, record BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS pages (
    url TEXT PRIMARY KEY,           -- canonical
    leads_to TEXT,                  -- canonical URL after redirects, where it is another
    final_url TEXT,                 -- after redirects: what the next two were said of
    etag TEXT,
    last_modified TEXT,
    terms TEXT,                     -- what the source's configuration gave to the record
    entry TEXT,                     -- JSON of what listings said of the page
    updated TEXT,                   -- the listing's time of change that was last followed
    content_hash TEXT,              -- of the record last emitted
    emitted_run TEXT,
    checked_at TEXT,                -- last asked for
    outcome TEXT,
    reason TEXT,
    failures INTEGER NOT NULL DEFAULT 0,
    retry_at TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS listings (
    url TEXT PRIMARY KEY, final_url TEXT NOT NULL, etag TEXT, last_modified TEXT, content_type TEXT NOT NULL,
    charset TEXT, body BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS ledger (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    run TEXT NOT NULL, source TEXT NOT NULL, kind TEXT NOT NULL, url TEXT NOT NULL, final_url TEXT,
    fetched_at TEXT NOT NULL, outcome TEXT NOT NULL, reason TEXT, detail TEXT, http_status INTEGER,
    num_bytes INTEGER, content_hash TEXT, robots TEXT, licence TEXT NOT NULL, licence_url TEXT,
    drop_name TEXT
);
CREATE TRIGGER IF NOT EXISTS ledger_keeps_its_lines BEFORE DELETE ON ledger
    BEGIN SELECT RAISE(ABORT, 'the ledger is only ever added to'); END;
CREATE TRIGGER IF NOT EXISTS ledger_keeps_its_words BEFORE UPDATE ON ledger
    BEGIN SELECT RAISE(ABORT, 'the ledger is only ever added to'); END;
"""


class CrawlStateError(UserError):
    """The crawl's state cannot be used."""


class CrawlIsRunning(UserError):
    """Another crawl of this store is at work."""

    exit_code = 1


@contextmanager
def opened_state(path: Path) -> Iterator[sqlite3.Connection]:
    """The state file at `path`, made where there is none; changes go through `transaction`.

    Raises:
        CrawlStateError: the file is damaged, of another version, or cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as connection:
            connection.row_factory = sqlite3.Row
            # WAL: the ledger can be read while a crawl writes. FULL: what a drop holds is on disk before its rename.
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            _apply_schema(connection, path)
            yield connection
    except sqlite3.Error as error:
        raise CrawlStateError(
            f"{path}: the crawl's state cannot be used ({error}). Nothing fetched before is lost; free disk space or "
            "put a copy of the file back, and crawl again. Without the file every page counts as new."
        ) from None


def _apply_schema(connection: sqlite3.Connection, path: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version not in (0, _SCHEMA_VERSION):
        raise CrawlStateError(
            f"{path} was written in version {version} of the state's format, and version {_SCHEMA_VERSION} is needed. "
            "Crawl with the release that wrote it, or move the file away: then every page counts as new."
        )
    if version == 0:
        # IF NOT EXISTS: `crawl --ledger` may look at the state that a first crawl is just making.
        connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {_SCHEMA_VERSION}; COMMIT;")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All statements inside are kept, or none."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if connection.in_transaction:  # a full disk has ended it already
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


@contextmanager
def only_crawl(state_path: Path) -> Iterator[None]:
    """Held by the one crawl of this state.

    Raises:
        CrawlIsRunning: another process holds it.
    """
    path = state_path.with_name("lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)  # released when the process ends, however it ends
        except BlockingIOError:
            stream.seek(0)
            raise CrawlIsRunning(
                f"A crawl of this store is running already (process {stream.read().strip() or 'unknown'}; its lock is "
                f"{path}). Nothing was fetched; wait for it to end."
            ) from None
        stream.truncate(0)
        stream.write(f"{os.getpid()}\n")
        stream.flush()
        yield


def timestamp(moment: datetime) -> str:
    """ISO 8601 in UTC to the second: later moments are greater as text, too."""
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def packed(text: bytes) -> bytes:
    """Compressed for the state; records and listings shrink to a quarter."""
    return zlib.compress(text, 6)


def unpacked(data: bytes) -> bytes:
    """What `packed` was given."""
    return zlib.decompress(data)
