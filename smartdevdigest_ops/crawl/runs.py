"""Crawls, one at a time: begun, taken up again where a kill left them, ended."""

import secrets
import sqlite3
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from smartdevdigest_ops.crawl.delivery import Drop
from smartdevdigest_ops.crawl.report import SourceCounts
from smartdevdigest_ops.crawl.state import timestamp, transaction

# Beyond it the listings are too old to go on with; what was fetched is delivered, and a new crawl begins.
_RESUMED_WITHIN = timedelta(hours=12)
_REFUSED_AS_LISTED = ("excluded", "no_url", "not_http", "url")


@dataclass(frozen=True)
class Run:
    """A crawl that is under way."""

    id: str
    drop_name: str
    """Begins with the date and time of the start, so that later drops come later by name."""
    is_planned: bool
    """Whether it is settled which pages are asked for."""
    was_resumed: bool


def unfinished_run(connection: sqlite3.Connection) -> Run | None:
    """The crawl that was killed before its end, if the last one was."""
    row = connection.execute("SELECT * FROM runs WHERE finished_at IS NULL").fetchone()
    return Run(row["id"], row["drop_name"], bool(row["is_planned"]), was_resumed=True) if row else None


def can_go_on(connection: sqlite3.Connection, run: Run, sources_hash: str, now: datetime) -> bool:
    """Whether the run began lately and with the same sources."""
    row = connection.execute("SELECT started_at, sources_hash FROM runs WHERE id = ?", (run.id,)).fetchone()
    age = now - datetime.fromisoformat(row["started_at"])
    return row["sources_hash"] == sources_hash and age < _RESUMED_WITHIN


def begin_run(connection: sqlite3.Connection, sources_hash: str, now: datetime) -> Run:
    """A new crawl."""
    latest = connection.execute("SELECT MAX(started_at) FROM runs").fetchone()[0]
    # A clock that was set back must not put this drop before the last one: the later version of a page counts.
    started = max(now, datetime.fromisoformat(latest) + timedelta(seconds=1)) if latest else now
    token, stamp = secrets.token_hex(4), started.astimezone(UTC).strftime("%Y-%m-%dT%H%M%SZ")
    run = Run(f"{stamp}_{token}", f"{stamp}_crawl_{token}.jsonl.gz", is_planned=False, was_resumed=False)
    with transaction(connection):
        connection.execute(
            "INSERT INTO runs (id, started_at, sources_hash, drop_name) VALUES (?, ?, ?, ?)",
            (run.id, timestamp(started), sources_hash, run.drop_name),
        )
    return run


def is_source_listed(connection: sqlite3.Connection, run: Run, source: str) -> bool:
    """Whether the source's pages are all noted; where not, those noted so far are forgotten."""
    row = connection.execute("SELECT 1 FROM run_sources WHERE run = ? AND name = ?", (run.id, source)).fetchone()
    if row is None:
        with transaction(connection):
            connection.execute("DELETE FROM listed WHERE source = ?", (source,))
    return row is not None


def note_source_listed(
    connection: sqlite3.Connection, run: Run, source: str, problem: str | None, note: str | None
) -> None:
    """The source's pages are all noted; `problem` is why it counts as failed."""
    with transaction(connection):
        connection.execute("INSERT INTO run_sources VALUES (?, ?, ?, ?)", (run.id, source, problem, note))


def note_planned(connection: sqlite3.Connection, run: Run) -> None:
    """It is settled which pages are asked for; in the transaction that settles it."""
    connection.execute("UPDATE runs SET is_planned = 1 WHERE id = ?", (run.id,))


def finish_run(connection: sqlite3.Connection, run: Run, drop: Drop | None, now: datetime) -> None:
    """The run is over and its drop delivered."""
    with transaction(connection):
        connection.execute(
            "UPDATE runs SET finished_at = ?, drop_sha256 = ?, num_records = ? WHERE id = ?",
            (timestamp(now), drop.sha256 if drop else None, drop.num_records if drop else 0, run.id),
        )
        connection.execute("DELETE FROM outbox")
        connection.execute("DELETE FROM listed")


def counts_by_source(connection: sqlite3.Connection, run: Run, sources: list[str]) -> dict[str, SourceCounts]:
    """What became of each source's pages; to be asked before the run is finished."""
    counts = {name: SourceCounts() for name in sources}
    for row in connection.execute("SELECT name, problem, note FROM run_sources WHERE run = ?", (run.id,)):
        counts[row["name"]].problem, counts[row["name"]].note = row["problem"], row["note"]
    rows = connection.execute(
        "SELECT source, outcome, reason, COUNT(*) AS number FROM listed GROUP BY source, outcome, reason"
    )
    for row in rows:
        found: Any = getattr(counts[row["source"]], row["outcome"])
        if isinstance(found, Counter):
            found[row["reason"]] += row["number"]
        else:
            setattr(counts[row["source"]], row["outcome"], found + row["number"])
    for source in counts.values():
        source.problem = source.problem or _no_page(source)
    return counts


def _no_page(counts: SourceCounts) -> str | None:
    """A site that refuses every page is down, or has changed, or does not want this crawl: somebody should know."""
    unanswered = {reason: n for reason, n in counts.refused.items() if reason not in _REFUSED_AS_LISTED}
    unanswered |= {reason: n for reason, n in counts.waiting.items() if reason in ("host_unavailable", "rate_limited")}
    if not unanswered or counts.num_had:
        return None
    told = ", ".join(f"{number} {reason}" for reason, number in sorted(unanswered.items()))
    return f"none of its pages could be had ({told}); `smartdevdigest crawl --ledger` tells why"
