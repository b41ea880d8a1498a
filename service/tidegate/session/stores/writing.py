"""Changing a store's tables.

Every function works inside a transaction of the caller, which drops everything if one raises.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from tidegate.errors import SessionExists, StoreFull
from tidegate.session.stores import reading
from tidegate.session.stores.changes import (
    FORGET_NOTHING,
    Claim,
    NewSession,
)
from tidegate.session.stores.reading import KnownRow
from tidegate.session.stores.schema import (
    LIVING_TABLES,
    RECORD_TABLES,
    SESSION_TABLES,
    SessionRow,
    as_signed,
    id_hash,
    model_number,
)
from tidegate.session.stores.store import StoredSession, Tombstone

log = logging.getLogger(__name__)

LATEST_S = 253_402_300_799.0
"""The end of the year 9999: times of use are under no checksum, and Python writes no later ones."""

Grave = tuple[int, int, int, str]
"""Session number, next step, durable step, reason."""


def create(
    connection: sqlite3.Connection, sessions: Sequence[NewSession], max_sessions: int, run: int
) -> None:
    """See `Store.create`."""
    held = counter(connection, "sessions")
    if held + len(sessions) > max_sessions:
        raise StoreFull(
            f"{held} sessions are stored: {len(sessions)} more would pass max_stored_sessions ({max_sessions})"
        )
    assert len({s.session_id for s in sessions}) == len(sessions), "an id is created twice"
    hashes = [id_hash(s.session_id) for s in sessions]
    if any(reading.places(connection, hashes)):
        known = reading.find(connection, [s.session_id for s in sessions])
        for session_id in known:
            raise SessionExists(f"session {session_id!r} is in the store")
    models = {model: model_number(connection, model) for model in {s.model for s in sessions}}
    connection.executemany(
        "INSERT INTO sessions (number, id, id_hash, model, creator, opener, attempt, epoch, created_s, crc32)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (_session_values(s, h, models[s.model]) for s, h in zip(sessions, hashes, strict=True)),
    )
    connection.executemany("INSERT INTO uses VALUES (?, ?, 0)", ((s.number, s.created_s) for s in sessions))
    connection.executemany(
        "INSERT INTO ahead VALUES (?, ?)", ((s.number, run) for s in sessions if s.runs_ahead)
    )
    _count(connection, "sessions", len(sessions))


def claim(connection: sqlite3.Connection, claims: Sequence[Claim]) -> None:
    """See `Store.claim`."""
    known, damage = reading.load(connection, [c.number for c in claims])
    for number, text in damage.items():
        raise sqlite3.DatabaseError(f"session {number} cannot be claimed: {text}")
    for c in claims:
        row = known[c.number].row._replace(opener=c.opener, attempt=as_signed(c.attempt), epoch=c.epoch)
        connection.execute(
            "UPDATE sessions SET opener = ?, attempt = ?, epoch = ?, crc32 = ? WHERE number = ?",
            (row.opener, row.attempt, row.epoch, row.crc32, row.number),
        )
    connection.executemany(
        "INSERT INTO uses VALUES (?, ?, NULL) ON CONFLICT (number) DO UPDATE SET used_s = excluded.used_s",
        ((c.number, c.used_s) for c in claims),
    )
    forgets = [(c.number, c.forget_above) for c in claims if c.forget_above != FORGET_NOTHING]
    connection.executemany("UPDATE uses SET step = min(step, ?2) WHERE number = ?1", forgets)
    for table in RECORD_TABLES:
        connection.executemany(f"DELETE FROM {table} WHERE number = ? AND step > ?", forgets)  # noqa: S608


def end(connection: sqlite3.Connection, numbers: Sequence[int]) -> None:
    """See `Store.end`."""
    keys = json.dumps(list(numbers))
    num_known, num_lost = connection.execute(
        "SELECT count(*), count(lost_s) FROM sessions WHERE number IN (SELECT value FROM json_each(?))",
        (keys,),
    ).fetchone()
    for table in SESSION_TABLES:
        connection.execute(
            f"DELETE FROM {table} WHERE number IN (SELECT value FROM json_each(?))",  # noqa: S608
            (keys,),
        )
    _count(connection, "sessions", num_lost - num_known)
    _count(connection, "tombstones", -num_lost)


def bury(connection: sqlite3.Connection, graves: Sequence[Grave], max_tombstones: int) -> None:
    """See `Store.bury`."""
    known, damage = reading.load(connection, [number for number, _, _, _ in graves])
    _bury(connection, {n: k for n, k in known.items() if k.row.lost_s is None}, graves)
    for number, text in damage.items():
        log.warning("session not buried, its record is damaged", extra={"number": number, "damage": text})
    _forget_oldest(connection, counter(connection, "tombstones") - max_tombstones)


def expire(
    connection: sqlite3.Connection,
    used_before_s: float,
    limit: int,
    spare: Collection[int],
    spare_ids: Collection[str],
    max_tombstones: int,
) -> list[StoredSession]:
    """See `Store.expire`."""
    old: list[int] = []
    for (number,) in connection.execute("SELECT number FROM uses WHERE used_s < ?", (used_before_s,)):
        if number not in spare:
            old.append(number)
            if len(old) == limit:
                break
    known, damage = reading.load(connection, old)
    # Nothing can be written into a damaged record; without its time it is not met here again.
    connection.executemany("DELETE FROM uses WHERE number = ?", ((n,) for n in damage))
    known = {n: k for n, k in known.items() if k.row.session_id not in spare_ids}
    sessions = reading.with_states(connection, known.values())
    graves = [_expired(s) for s in sessions]
    _bury(connection, known, graves)
    _forget_oldest(connection, counter(connection, "tombstones") - max_tombstones)
    return [replace(s, tombstone=Tombstone(*grave[1:])) for s, grave in zip(sessions, graves, strict=True)]


def counter(connection: sqlite3.Connection, key: str) -> int:
    """A count that `meta` keeps, of `sessions` or `tombstones`."""
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    if row is None or not isinstance(row[0], int):
        raise sqlite3.DatabaseError(f"the number of {key} is missing from meta")
    return row[0]


def _session_values(session: NewSession, key: int, model: int) -> tuple[int | str | bytes | float, ...]:
    row = SessionRow(
        session.number,
        session.session_id,
        *session.model,
        creator=session.creator,
        opener=session.creator,
        attempt=as_signed(session.attempt),
        epoch=session.epoch,
        created_s=session.created_s,
    )
    return (
        row.number,
        row.session_id,
        key,
        model,
        row.creator,
        row.opener,
        row.attempt,
        row.epoch,
        row.created_s,
        row.crc32,
    )


def _expired(session: StoredSession) -> Grave:
    step = session.next_step
    since = datetime.fromtimestamp(min(max(session.used_s, 0.0), LATEST_S), UTC)
    return session.number, step, step, f"expired: not used since {since:%Y-%m-%d %H:%M:%S} UTC"


def _bury(connection: sqlite3.Connection, living: dict[int, KnownRow], graves: Sequence[Grave]) -> None:
    """Put tombstones on sessions, for those graves whose sessions are among the living."""
    now_s = time.time()
    rows = [
        living[number].row._replace(
            lost_s=now_s, lost_next_step=next_step, lost_durable_step=durable_step, lost_reason=reason
        )
        for number, next_step, durable_step, reason in graves
        if number in living
    ]
    connection.executemany(
        "UPDATE sessions SET lost_s = ?, lost_next_step = ?, lost_durable_step = ?, lost_reason = ?, crc32 = ?"
        " WHERE number = ?",
        ((r.lost_s, r.lost_next_step, r.lost_durable_step, r.lost_reason, r.crc32, r.number) for r in rows),
    )
    for table in LIVING_TABLES:
        connection.executemany(f"DELETE FROM {table} WHERE number = ?", ((r.number,) for r in rows))  # noqa: S608
    _count(connection, "sessions", -len(rows))
    _count(connection, "tombstones", len(rows))


def _forget_oldest(connection: sqlite3.Connection, count: int) -> None:
    if count <= 0:
        return
    oldest = connection.execute(
        "SELECT number FROM sessions WHERE lost_s IS NOT NULL ORDER BY lost_s, number LIMIT ?", (count,)
    ).fetchall()
    end(connection, [number for (number,) in oldest])
    log.warning("tombstones forgotten, raise max_tombstones", extra={"count": len(oldest)})


def _count(connection: sqlite3.Connection, key: str, change: int) -> None:
    connection.execute("UPDATE meta SET value = value + ? WHERE key = ?", (change, key))
