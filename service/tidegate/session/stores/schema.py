"""The tables of a store's file, and what one row of `sessions` says.

docs/operations.md shows an operator how to read them. A state table's row is one state; which session it
belongs to, at which step and under which epoch is in the record too, and the record is what counts.
`uses` stands apart from `sessions` because it is written with every state, and read whole to find what is old. It
tells the step of the newest state too: damage can make a row of a state table vanish without an error.
"""

from __future__ import annotations

import hashlib
import sqlite3
import zlib
from typing import NamedTuple

from tidegate.session.stores.changes import ModelKey

FORMAT = 1
"""Of the tables; kept in `meta`."""

APPLICATION_ID = 0x54474154
"""In SQLite's own header: the file is a store of ours."""

TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE models (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    UNIQUE (name, version, sha256)
);
CREATE TABLE sessions (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    id_hash INTEGER NOT NULL,
    model INTEGER NOT NULL,
    creator BLOB NOT NULL,
    opener BLOB NOT NULL,
    attempt INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    created_s REAL NOT NULL,
    lost_s REAL,
    lost_next_step INTEGER,
    lost_durable_step INTEGER,
    lost_reason TEXT,
    crc32 INTEGER NOT NULL
);
CREATE INDEX session_by_id ON sessions (id_hash, model);
CREATE INDEX tombstone_by_age ON sessions (lost_s) WHERE lost_s IS NOT NULL;
CREATE TABLE uses (number INTEGER PRIMARY KEY, used_s REAL NOT NULL, step INTEGER);
CREATE TABLE state_0 (number INTEGER PRIMARY KEY, step INTEGER NOT NULL, epoch INTEGER NOT NULL, record BLOB NOT NULL);
CREATE TABLE state_1 (number INTEGER PRIMARY KEY, step INTEGER NOT NULL, epoch INTEGER NOT NULL, record BLOB NOT NULL);
CREATE VIEW session_overview AS SELECT
    s.id AS id,
    m.name AS model,
    m.version AS version,
    coalesce(s.lost_next_step, max(coalesce(a.step, 0), coalesce(b.step, 0))) AS next_step,
    CASE WHEN s.lost_s IS NOT NULL THEN '' ELSE
        coalesce(min(a.step, b.step) || ', ' || max(a.step, b.step), a.step, b.step, 0) END AS durable_candidates,
    datetime(coalesce(s.lost_s, u.used_s), 'unixepoch') AS last_used_utc,
    s.lost_reason AS lost
FROM sessions s
    LEFT JOIN models m ON m.number = s.model
    LEFT JOIN uses u ON u.number = s.number
    LEFT JOIN state_0 a ON a.number = s.number
    LEFT JOIN state_1 b ON b.number = s.number;
"""

ADDED_TABLES = """
CREATE TABLE IF NOT EXISTS last_answers (
    number INTEGER PRIMARY KEY, step INTEGER NOT NULL, epoch INTEGER NOT NULL, record BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS ahead (number INTEGER PRIMARY KEY, run INTEGER NOT NULL);
"""
"""Tables that a file may lack; it gets them when it is opened."""

STATE_TABLES = ("state_0", "state_1")
ANSWER_TABLE = "last_answers"
RECORD_TABLES = (*STATE_TABLES, ANSWER_TABLE)
"""Those whose rows are records, at a step and under an epoch."""

LIVING_TABLES = ("uses", "ahead", *RECORD_TABLES)
"""Those with at most one row per session that is not lost, by its number."""

SESSION_TABLES = ("sessions", *LIVING_TABLES)


class SessionRow(NamedTuple):
    """A row of `sessions` with its model; everything in it is under its checksum.

    Attributes:
        attempt: As SQLite holds it, see `as_signed`.
        lost_s: Unix time of the loss; None if the session lives, and so are the three behind it.
    """

    number: int
    session_id: str
    model_name: str
    model_version: str
    model_sha256: str
    creator: bytes
    opener: bytes
    attempt: int
    epoch: int
    created_s: float
    lost_s: float | None = None
    lost_next_step: int | None = None
    lost_durable_step: int | None = None
    lost_reason: str | None = None

    @property
    def model(self) -> ModelKey:
        """The version that the session is pinned to."""
        return ModelKey(self.model_name, self.model_version, self.model_sha256)

    @property
    def crc32(self) -> int:
        """The checksum that the row must have."""
        # ascii() spells every value of every type in one way, whatever a damaged row holds.
        return zlib.crc32(ascii(tuple(self)).encode())


SELECT_SESSIONS = """
SELECT s.number, s.id, m.name, m.version, m.sha256, s.creator, s.opener, s.attempt, s.epoch, s.created_s,
    s.lost_s, s.lost_next_step, s.lost_durable_step, s.lost_reason, s.crc32, u.used_s, u.step, a.run
FROM sessions s LEFT JOIN models m ON m.number = s.model LEFT JOIN uses u ON u.number = s.number
    LEFT JOIN ahead a ON a.number = s.number
WHERE s.number IN (SELECT value FROM json_each(?))
"""
"""The fields of `SessionRow`, then the checksum, the time of the last use, the newest step and the run of a mark."""


def id_hash(session_id: str) -> int:
    """The key that a session is found by.

    Random ids would touch a page of an index over texts each; over these the index is a quarter of the size.
    Two ids may share a key: the row's own id decides.

    Returns:
        A signed 64-bit number.
    """
    digest = hashlib.blake2b(session_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def as_signed(attempt: int) -> int:
    """An attempt as SQLite holds it: the wire has 64 bits without a sign."""
    return attempt - 2**64 if attempt >= 2**63 else attempt


def as_unsigned(attempt: int) -> int:
    """The attempt that `as_signed` was given."""
    return attempt % 2**64


def create_tables(connection: sqlite3.Connection) -> None:
    """Fill an empty database; nothing is left of it if this fails."""
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    _run(connection, TABLES)
    add_tables(connection)
    connection.executemany(
        "INSERT INTO meta VALUES (?, ?)", [("format", FORMAT), ("sessions", 0), ("tombstones", 0)]
    )


def add_tables(connection: sqlite3.Connection) -> None:
    """Give a store the tables that it lacks."""
    _run(connection, ADDED_TABLES)


def has_all_tables(connection: sqlite3.Connection) -> bool:
    """Whether a store lacks no table."""
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    return names.issuperset(SESSION_TABLES)


def _run(connection: sqlite3.Connection, script: str) -> None:
    for statement in script.split(";\n"):
        if statement.strip():
            connection.execute(statement)


def model_number(connection: sqlite3.Connection, model: ModelKey) -> int:
    """The number of a model version in this file, given at first need."""
    connection.execute("INSERT OR IGNORE INTO models (name, version, sha256) VALUES (?, ?, ?)", model)
    (number,) = connection.execute(
        "SELECT number FROM models WHERE name = ? AND version = ? AND sha256 = ?", model
    ).fetchone()
    return int(number)
