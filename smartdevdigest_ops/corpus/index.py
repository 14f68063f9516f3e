"""What the corpus knows of every version of every page: an SQLite file beside the artifacts.

It is derived: lost or of other settings, it is built again from the cleaned drops. One transaction per drop, so a kill
leaves whole drops behind and the next run goes on from there. Memory is SQLite's page cache; looking up a document
costs a few B-tree descents, whether the corpus holds a thousand documents or millions.
"""

import hashlib
import sqlite3
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Raise it when the tables or the rules that fill them change: the file is then built again.
INDEX_VERSION = "1"

SURVIVOR = "survivor"

_SCHEMA = """
CREATE TABLE identity(value TEXT NOT NULL);
CREATE TABLE drops(
    position INTEGER PRIMARY KEY, key TEXT UNIQUE NOT NULL, version TEXT NOT NULL, name TEXT NOT NULL,
    first_id INTEGER NOT NULL, num_rows INTEGER NOT NULL, decisions TEXT, counts TEXT);
CREATE TABLE documents(
    id INTEGER PRIMARY KEY, url INTEGER NOT NULL, text INTEGER NOT NULL, num_characters INTEGER NOT NULL,
    line INTEGER NOT NULL, language TEXT NOT NULL, state TEXT NOT NULL, match INTEGER, similarity REAL, gold TEXT);
CREATE INDEX documents_by_text ON documents(text) WHERE state = 'survivor';
CREATE INDEX documents_by_match ON documents(match) WHERE match IS NOT NULL;
CREATE INDEX documents_taken_down ON documents(state) WHERE state = 'taken_down';
CREATE UNIQUE INDEX documents_by_url ON documents(url) WHERE state = 'survivor';
CREATE TABLE urls(id INTEGER PRIMARY KEY, url TEXT NOT NULL, newest INTEGER NOT NULL, cluster INTEGER);
CREATE INDEX urls_by_cluster ON urls(cluster);
CREATE TABLE clusters(id INTEGER PRIMARY KEY, first_url TEXT NOT NULL, split TEXT NOT NULL, pinned INTEGER NOT NULL);
CREATE TABLE bands(hash INTEGER, document INTEGER, PRIMARY KEY(hash, document)) WITHOUT ROWID;
CREATE TABLE translations(key INTEGER, language TEXT, url INTEGER NOT NULL, PRIMARY KEY(key, language)) WITHOUT ROWID;
CREATE TABLE moves(position INTEGER NOT NULL, url TEXT NOT NULL, before TEXT NOT NULL, after TEXT NOT NULL);
"""
"""`documents.id` counts the rows of all drops in the order they were applied; `decisions` is the SHA-256 of a drop's
decisions file once it was written (`counts` sums it up), and null from the moment that one of them changed. URLs and
texts are known by 64 bits of their SHA-256: among 100 million, two collide with probability 0.0003. Only survivors
(and pages taken down) stand in `bands`, so a page with a thousand copies makes no bucket of a thousand."""


@dataclass(frozen=True)
class AppliedDrop:
    """A drop that the index holds."""

    position: int
    key: str
    version: str
    """Of its cleaned_documents."""
    name: str
    first_id: int
    num_rows: int
    decisions: str | None
    """SHA-256 of its decisions file, where they did not change since it was written."""
    counts: str | None
    """What that file holds, summed up (JSON)."""

    @property
    def last_id(self) -> int:
        """Of its last row."""
        return self.first_id + self.num_rows - 1


@dataclass(frozen=True)
class Version:
    """One version of a page, as the index holds it."""

    id: int
    url: int
    text: int
    num_characters: int
    state: str
    match: int | None


def is_damage(error: sqlite3.DatabaseError) -> bool:
    """Whether the file itself is broken: it is derived, and can be built again."""
    return getattr(error, "sqlite_errorcode", None) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def hash64(text: str) -> int:
    """First 64 bits of the SHA-256, as SQLite's signed integer."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], signed=True)


class CorpusIndex:
    """The tables, and what is asked of them. Everything between `drop()` enter and exit is one transaction."""

    def __init__(self, path: Path, identity: str, memory_mib: int) -> None:
        """Open the index, or begin it anew where its `identity` (settings, held-out files, code) is another."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._changed_since: dict[int, tuple[str, set[int]]] = {}
        self._identity = f"{INDEX_VERSION}.{identity}"
        self._memory_mib = memory_mib
        try:
            self._open()
            is_sound = self.execute("SELECT value FROM identity").fetchone() == (self._identity,)
            if is_sound:
                self._load_drops()
        except sqlite3.DatabaseError as error:
            if not is_damage(error) and "no such table" not in str(error):
                raise  # locked, say: what is there may be sound
            is_sound = False
        if not is_sound:
            self.reset()

    def _open(self) -> None:
        self._connection = sqlite3.connect(self.path, isolation_level=None)
        self.execute = self._connection.execute
        self.execute("PRAGMA journal_mode = WAL")
        self.execute("PRAGMA synchronous = NORMAL")
        # Half of the memory; the rest is the reader's. Mapped, a page costs no call and no copy: looking up the bands
        # of a drop touches some 20,000 pages anywhere in the file, and each process begins with none of them.
        self.execute(f"PRAGMA mmap_size = {self._memory_mib << 19}")
        self.execute(f"PRAGMA cache_size = -{self._memory_mib * 64}")  # pages that a transaction changes

    def reset(self) -> None:
        """Begin anew, with no drop."""
        self._changed_since.clear()
        self._connection.close()
        for suffix in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        self._open()
        self._connection.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
        self.execute("INSERT INTO identity VALUES (?)", (self._identity,))
        self._load_drops()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _load_drops(self) -> None:
        rows = self.execute(
            "SELECT position, key, version, name, first_id, num_rows, decisions, counts FROM drops ORDER BY position"
        )
        self.drops = [AppliedDrop(*row) for row in rows]
        self._first_ids = [drop.first_id for drop in self.drops]

    @contextmanager
    def drop(self, key: str, version: str, name: str, num_rows: int) -> Iterator[AppliedDrop]:
        """A new drop at the end; what is done inside is kept whole or not at all."""
        last = self.drops[-1] if self.drops else None
        first_id = last.first_id + last.num_rows if last else 0
        applied = AppliedDrop(len(self.drops), key, version, name, first_id, num_rows, None, None)
        self.execute("BEGIN IMMEDIATE")
        try:
            self.execute(
                "INSERT INTO drops VALUES (?, ?, ?, ?, ?, ?, NULL, NULL)",
                (applied.position, key, version, name, first_id, num_rows),
            )
            self.drops.append(applied)
            self._first_ids.append(first_id)
            self._changed: set[int] = set()
            self.superseded_urls: set[int] = set()
            yield applied
            self._connection.executemany(
                "UPDATE drops SET decisions = NULL WHERE position = ?", [(position,) for position in self._changed]
            )
            self.execute("COMMIT")
        except BaseException:
            self.execute("ROLLBACK")
            self._load_drops()
            raise
        self._load_drops()

    def drop_of(self, document: int) -> AppliedDrop:
        """The drop that a version came with."""
        return self.drops[bisect_right(self._first_ids, document) - 1]

    def order_of(self, document: int) -> tuple[str, str, int]:
        """What makes one version of a page newer than another: the name of its drop (it begins with the date)."""
        drop = self.drop_of(document)
        return drop.name, drop.key, document

    def add(
        self, document: int, address: str, *, folded_hash: str, num_characters: int, line: int, language: str
    ) -> None:
        """A new version, not placed yet."""
        url, text = hash64(address), int.from_bytes(bytes.fromhex(folded_hash), signed=True)
        self.execute(
            "INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, 'new', NULL, NULL, NULL)",
            (document, url, text, num_characters, line, language),
        )
        self.execute("INSERT OR IGNORE INTO urls VALUES (?, ?, ?, NULL)", (url, address, document))

    def version(self, document: int) -> Version:
        """A version by its id."""
        row = self.execute(
            "SELECT id, url, text, num_characters, state, match FROM documents WHERE id = ?", (document,)
        ).fetchone()
        return Version(*row)

    def newest(self, url: int) -> int:
        """The newest version of a page."""
        return int(self.execute("SELECT newest FROM urls WHERE id = ?", (url,)).fetchone()[0])

    def set_newest(self, url: int, document: int) -> None:
        """Make a version the newest of its page."""
        self.execute("UPDATE urls SET newest = ? WHERE id = ?", (document, url))

    def survivor_with_text(self, text: int) -> int | None:
        """The survivor that has this very text."""
        row = self.execute("SELECT id FROM documents WHERE text = ? AND state = 'survivor'", (text,)).fetchone()
        return row[0] if row else None

    def found_in(self, bands: Sequence[int]) -> list[int]:
        """Survivors and pages taken down that share one of these bands, oldest first."""
        marks = ",".join("?" * len(bands))
        rows = self.execute(f"SELECT DISTINCT document FROM bands WHERE hash IN ({marks}) ORDER BY document", bands)
        return [row[0] for row in rows]

    def behind(self, document: int) -> list[int]:
        """Duplicates that stand behind a version, oldest first."""
        rows = self.execute(
            "SELECT id FROM documents WHERE match = ? AND state IN ('exact_duplicate', 'near_duplicate') ORDER BY id",
            (document,),
        )
        return [row[0] for row in rows]

    def decide(self, document: int, state: str, match: int | None = None, similarity: float | None = None) -> None:
        """Set what became of a version."""
        self.execute(
            "UPDATE documents SET state = ?, match = ?, similarity = ? WHERE id = ?",
            (state, match, similarity, document),
        )
        self.mark_changed(document)

    def mark_changed(self, document: int) -> None:
        """A decision about this version is no longer what was written."""
        drop = self.drop_of(document)
        self._changed.add(drop.position)
        if drop.decisions is not None:
            self._changed_since.setdefault(drop.position, (drop.decisions, set()))
        if drop.position in self._changed_since:
            self._changed_since[drop.position][1].add(document)

    def changed_since_written(self, drop: AppliedDrop) -> tuple[str, set[int]] | None:
        """SHA-256 of the decisions file that a drop had, and the versions whose decisions are others now.

        None where that is not known: what a process changed before it was killed is marked by drop only.
        """
        return self._changed_since.get(drop.position)

    def add_bands(self, document: int, bands: Sequence[int]) -> None:
        """Let a survivor be found."""
        self._connection.executemany("INSERT INTO bands VALUES (?, ?)", [(band, document) for band in bands])

    def remove_bands(self, document: int, bands: Sequence[int]) -> None:
        """Let a version be found no longer."""
        self._connection.executemany(
            "DELETE FROM bands WHERE hash = ? AND document = ?", [(band, document) for band in bands]
        )

    def decisions(self, first: int, last: int) -> Iterator[dict[str, Any]]:
        """What became of the versions `first` to `last`, both included, in their order."""
        cursor = self.execute(
            """SELECT d.state, d.line, d.similarity, d.match, d.gold, u.url, c.split, c.first_url, m.line, n.url
            FROM documents d JOIN urls u ON u.id = d.url JOIN clusters c ON c.id = u.cluster
            LEFT JOIN documents m ON m.id = d.match LEFT JOIN urls n ON n.id = m.url
            WHERE d.id BETWEEN ? AND ? ORDER BY d.id""",
            (first, last),
        )
        names = ("state", "line", "similarity", "match", "gold", "url", "split", "first_url", "match_line", "match_url")
        for row in cursor:
            yield dict(zip(names, row, strict=True))

    def set_decisions(self, drop: AppliedDrop, sha256: str, counts: str) -> None:
        """Remember the file that a drop's decisions were written to, and its sums."""
        self.execute("UPDATE drops SET decisions = ?, counts = ? WHERE position = ?", (sha256, counts, drop.position))
        self._changed_since.pop(drop.position, None)

    def moves(self) -> list[dict[str, Any]]:
        """Documents that had to change their split, with the drop that made them."""
        rows = self.execute("SELECT position, url, before, after FROM moves ORDER BY rowid")
        return [
            {"drop": self.drops[position].key, "url": url, "before": before, "after": after}
            for position, url, before, after in rows
        ]

    def refresh(self) -> None:
        """Read the drops again, after their decisions were written."""
        self._load_drops()

    def urls_taken_down(self) -> list[str]:
        """URLs that the takedown list takes out of the corpus, sorted."""
        rows = self.execute(
            "SELECT DISTINCT u.url FROM documents d JOIN urls u ON u.id = d.url WHERE d.state = 'taken_down' "
            "ORDER BY u.url"
        )
        return [row[0] for row in rows]

    def num_survivors_of(self, urls: Iterable[str]) -> int:
        """How many of these URLs have a survivor."""
        return sum(
            self.execute("SELECT 1 FROM documents WHERE url = ? AND state = 'survivor'", (hash64(url),)).fetchone()
            is not None
            for url in urls
        )

    def copies_of_taken_down(self) -> list[str]:
        """URLs of survivors that have the very text of a page taken down."""
        rows = self.execute(
            """SELECT DISTINCT u.url FROM documents d JOIN documents s ON s.text = d.text AND s.state = 'survivor'
            JOIN urls u ON u.id = s.url WHERE d.state = 'taken_down' ORDER BY u.url"""
        )
        return [row[0] for row in rows]
