"""Answers that were paid for, kept: one SQLite file, shared by all makings of a store.

An answer's key is a hash of everything that decides it: the document as sent, the prompt's version, the teacher and its
parameters. A document is bought once, and again only when one of these changes.

SQLite rather than a file per answer, because what belongs together becomes true together: an answer, the tokens that it
cost, and the batch that it came in are one transaction, flushed to the disk before the next request of that document is
sent. A kill at any moment leaves each reply either wholly taken or not; a hundred thousand answers stay one file.

    answers     what a question came to: an answer, or the reason why there is none
    replies     every reply of a teacher, used or refused, with its tokens: what was paid for
    failures    documents whose requests failed until a run gave them up
    abilities   which kind of structured output an endpoint takes
    batches     batches of the Batch API and what became of them (labeling.batch)
"""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from smartdevdigest_ops.labeling.errors import LabelingError

CACHE_FILE = "answers.sqlite"
_SCHEMA_VERSION = 1
_KEYS_PER_STATEMENT = 500
_SCHEMA = """
CREATE TABLE answers (
    key TEXT PRIMARY KEY,
    answer TEXT,                    -- JSON
    reason TEXT,                    -- why there is no answer
    refusal_round INTEGER NOT NULL, -- of the settings: a reason of an earlier round counts no more
    content_hash TEXT NOT NULL,     -- of the document as sent
    prompt_version TEXT NOT NULL,
    teacher TEXT NOT NULL,          -- JSON
    parameters TEXT NOT NULL        -- JSON
) WITHOUT ROWID;
CREATE TABLE replies (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL,
    refusal_round INTEGER NOT NULL,
    teacher TEXT NOT NULL,
    making TEXT NOT NULL,           -- for which it was asked
    through_batch INTEGER NOT NULL,
    problem TEXT,                   -- null: used
    text TEXT,                      -- where it was refused: held up to the teacher when it is asked again
    prompt_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    answer_tokens INTEGER NOT NULL,
    is_estimated INTEGER NOT NULL   -- the endpoint did not say
);
CREATE INDEX replies_by_key ON replies (key);
CREATE INDEX replies_by_making ON replies (making);
CREATE TABLE failures (key TEXT PRIMARY KEY, refusal_round INTEGER NOT NULL, num_runs INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE abilities (teacher TEXT PRIMARY KEY, response_format TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE batches (
    token TEXT PRIMARY KEY,         -- ours, in the batch's metadata: by it a batch is found whose id was lost
    teacher TEXT NOT NULL,
    making TEXT NOT NULL,
    response_format TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL, -- estimated
    state TEXT NOT NULL,            -- planned, submitted; then collected, or dropped (the endpoint does not have it)
    id TEXT                         -- the endpoint's
) WITHOUT ROWID;
CREATE TABLE batch_lines (
    token TEXT NOT NULL,
    key TEXT NOT NULL,
    question TEXT NOT NULL,         -- JSON, without the document
    has_failed INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (token, key)
) WITHOUT ROWID;
"""

AnswerT = TypeVar("AnswerT", bound=BaseModel)


@dataclass(frozen=True)
class Usage:
    """Tokens of one reply or of many."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Those of prompt_tokens that the endpoint had cached."""
    answer_tokens: int = 0
    num_estimated: int = 0
    """Replies of which the endpoint did not say what they cost."""

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.cached_tokens + other.cached_tokens,
            self.answer_tokens + other.answer_tokens,
            self.num_estimated + other.num_estimated,
        )


@dataclass(frozen=True)
class Question:
    """What is put to a teacher, with all that decides the answer but the instruction."""

    key: str
    data: str
    """What the user's turn holds."""
    content_hash: str
    prompt_version: str
    teacher: str
    """Canonical JSON of the teacher's identity."""
    parameters: str
    """Canonical JSON."""
    refusal_round: int = 0
    """Refusals of an earlier round count no more. Not a part of the key: answers of any round do."""


@dataclass(frozen=True)
class Refused:
    """A reply that was not used."""

    problem: str
    text: str


@dataclass(frozen=True)
class Spent:
    """What was paid for."""

    num_replies: int = 0
    num_refused: int = 0
    direct: Usage = field(default_factory=Usage)
    batch: Usage = field(default_factory=Usage)

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(
            self.num_replies + other.num_replies,
            self.num_refused + other.num_refused,
            self.direct + other.direct,
            self.batch + other.batch,
        )


class AnswerCache:
    """The answers below one directory, as one making sees them."""

    def __init__(self, directory: Path, making: str) -> None:
        self.making = making
        self._file = directory / CACHE_FILE
        directory.mkdir(parents=True, exist_ok=True)
        try:
            # One thread at a time uses it, but not always the one that opened it.
            self.connection = sqlite3.connect(self._file, timeout=60, isolation_level=None, check_same_thread=False)
            self.connection.execute("PRAGMA journal_mode = WAL")
            self.connection.execute("PRAGMA synchronous = FULL")
            self._create_tables()
        except sqlite3.DatabaseError as error:
            raise LabelingError(
                f"{self._file}, which holds the answers bought so far, cannot be read ({error}). Nothing was sent. "
                "Bring it back from a backup; moved away, all its documents would be bought again."
            ) from None

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    def __enter__(self) -> "AnswerCache":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of it or nothing; on the disk when the outermost one is left."""
        if self.connection.in_transaction:
            yield self.connection
            return
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield self.connection
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")

    def outcome(self, question: Question, answer_type: type[AnswerT]) -> AnswerT | str | None:
        """The answer, or the reason why there is none; None where the question is open."""
        row = self.connection.execute(
            "SELECT answer, reason, refusal_round FROM answers WHERE key = ?", (question.key,)
        ).fetchone()
        if row is None:
            return None
        answer, reason, at_round = row
        if answer is None:
            return str(reason) if at_round >= question.refusal_round else None
        try:
            return answer_type.model_validate_json(answer)
        except ValidationError:
            return None  # damaged, or written by other code: bought again

    def refused(self, question: Question) -> list[Refused]:
        """Replies to the question that were not used, in order."""
        rows = self.connection.execute(
            "SELECT problem, text FROM replies WHERE key = ? AND refusal_round >= ? AND problem IS NOT NULL "
            "ORDER BY id",
            (question.key, question.refusal_round),
        )
        return [Refused(problem, text or "") for problem, text in rows]

    def take_reply(
        self, question: Question, usage: Usage, *, through_batch: bool, problem: str | None, text: str
    ) -> None:
        """Write a reply down; within a transaction."""
        self.connection.execute(
            "INSERT INTO replies (key, refusal_round, teacher, making, through_batch, problem, text, prompt_tokens, "
            "cached_tokens, answer_tokens, is_estimated) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                question.key, question.refusal_round, question.teacher, self.making, through_batch, problem,
                text if problem else None, usage.prompt_tokens, usage.cached_tokens, usage.answer_tokens,
                usage.num_estimated > 0,
            ),
        )  # fmt: skip

    def settle(self, question: Question, outcome: BaseModel | str) -> None:
        """Write down what a question came to; within a transaction."""
        answer = None if isinstance(outcome, str) else json.dumps(outcome.model_dump(), ensure_ascii=False)
        reason = outcome if isinstance(outcome, str) else None
        self.connection.execute(
            "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                question.key, answer, reason, question.refusal_round, question.content_hash, question.prompt_version,
                question.teacher, question.parameters,
            ),
        )  # fmt: skip

    def note_failure(self, question: Question) -> int:
        """Count a run that gave a document up because its requests failed; returns how many did."""
        row = self.connection.execute(
            "SELECT num_runs FROM failures WHERE key = ? AND refusal_round >= ?", (question.key, question.refusal_round)
        ).fetchone()
        num_runs = 1 + (row[0] if row else 0)
        self.connection.execute(
            "INSERT OR REPLACE INTO failures VALUES (?, ?, ?)", (question.key, question.refusal_round, num_runs)
        )
        return num_runs

    def spent(self, teacher: str) -> Spent:
        """What this making got from a teacher so far, killed runs of it included."""
        return self._sum("making = ? AND teacher = ?", (self.making, teacher))

    def spent_on(self, keys: Sequence[str]) -> Spent:
        """What the replies to these questions cost, whichever making paid for them."""
        spent = Spent()
        for start in range(0, len(keys), _KEYS_PER_STATEMENT):
            part = keys[start : start + _KEYS_PER_STATEMENT]
            spent += self._sum(f"key IN ({', '.join('?' * len(part))})", part)
        return spent

    def _sum(self, condition: str, values: Sequence[str]) -> Spent:
        totals = {False: Usage(), True: Usage()}
        num_replies = num_refused = 0
        for through_batch, number, refused, *tokens in self.connection.execute(
            "SELECT through_batch, count(*), count(problem), sum(prompt_tokens), sum(cached_tokens), "
            f"sum(answer_tokens), sum(is_estimated) FROM replies WHERE {condition} GROUP BY through_batch",
            values,
        ):
            totals[bool(through_batch)] = Usage(*tokens)
            num_replies += number
            num_refused += refused
        return Spent(num_replies, num_refused, totals[False], totals[True])

    def mean_answer_tokens(self, teacher: str) -> float | None:
        """Of the answers that this teacher gave so far; None where there are none."""
        row = self.connection.execute(
            "SELECT avg(answer_tokens) FROM replies WHERE teacher = ? AND problem IS NULL", (teacher,)
        ).fetchone()
        return None if row[0] is None else float(row[0])

    def ability(self, teacher: str) -> str | None:
        """Which response format the endpoint is known to take."""
        row = self.connection.execute("SELECT response_format FROM abilities WHERE teacher = ?", (teacher,)).fetchone()
        return row[0] if row else None

    def note_ability(self, teacher: str, response_format: str) -> None:
        """Remember it for the runs to come."""
        with self.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO abilities VALUES (?, ?)", (teacher, response_format))

    def has_answers(self, teacher: str) -> bool:
        """Whether the teacher ever gave an answer that was used."""
        return (
            self.connection.execute(
                "SELECT 1 FROM answers WHERE teacher = ? AND answer IS NOT NULL LIMIT 1", (teacher,)
            ).fetchone()
            is not None
        )

    def _create_tables(self) -> None:
        with self.transaction() as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                for statement in _SCHEMA.split(";\n"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
            elif version != _SCHEMA_VERSION:
                raise LabelingError(
                    f"{self._file} is of version {version}, this code reads version {_SCHEMA_VERSION}. Use the code "
                    "that wrote it, or move the file away: its documents would be bought again."
                )
