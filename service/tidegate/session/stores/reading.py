"""Finding sessions, states and answers in a store's tables, and refusing what is not as it was written.

Every function works inside a transaction of the caller.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tidegate.session.stores import records
from tidegate.session.stores.changes import ModelKey
from tidegate.session.stores.records import Found
from tidegate.session.stores.schema import (
    ANSWER_TABLE,
    SELECT_SESSIONS,
    STATE_TABLES,
    SessionRow,
    as_unsigned,
    id_hash,
)
from tidegate.session.stores.store import NO_STATE, StoredSession, Tombstone
from tidegate.session.stores.tolerant import select

STATES_AT_A_TIME = 256
"""States in memory at a time while they are checked; some have hundreds of kB."""


class Checked(NamedTuple):
    """A row of states or answers after its check.

    Attributes:
        step: NO_STATE if it must not be used.
        epoch: Means something if it may be used.
        content: The bytes of the state or answer; empty if it must not be used.
        damage: Why it must not be used; empty if it may.
    """

    step: int
    epoch: int
    content: bytes
    damage: str


NOTHING = Checked(NO_STATE, 0, b"", "")


class KnownRow(NamedTuple):
    """A row of `sessions` that passed its checksum, and what other tables say of the session in short.

    Attributes:
        row: The row.
        used_s: Unix time of its last use.
        newest_step: Step of its newest state; NO_STATE if not known.
        is_ahead: It has a mark.
    """

    row: SessionRow
    used_s: float
    newest_step: int
    is_ahead: bool


def find(connection: sqlite3.Connection, session_ids: Sequence[str]) -> dict[str, StoredSession]:
    """See `Store.find`."""
    by_hash: dict[int, list[str]] = {}
    for session_id in dict.fromkeys(session_ids):
        by_hash.setdefault(id_hash(session_id), []).append(session_id)
    found_at, unreadable = places(connection, list(by_hash))
    known, damage = load(connection, [number for _, number in found_at])
    found: dict[str, StoredSession] = {}
    for key, text in unreadable.items():
        found |= {i: _damaged(0, i, f"its place in the index cannot be read: {text}") for i in by_hash[key]}
    for key, number in found_at:
        if number in damage:
            found |= {i: _damaged(number, i, damage[number]) for i in by_hash.get(key, ())}
    wanted = set(session_ids)
    sessions = [k for k in known.values() if k.row.session_id in wanted]
    return found | {s.session_id: s for s in with_states(connection, sessions)}


def places(
    connection: sqlite3.Connection, hashes: Sequence[int]
) -> tuple[list[tuple[int, int]], dict[int, str]]:
    """Look ids up by their hashes, in the index alone: a damaged row cannot hide that its id is known.

    Returns:
        Hash and session number of each that is known, and by hash why others could not be looked up.
    """
    rows, unreadable = select(
        connection,
        "SELECT id_hash, number FROM sessions INDEXED BY session_by_id"
        " WHERE id_hash IN (SELECT value FROM json_each(?))",
        hashes,
    )
    return [(key, number) for key, number in rows], unreadable


def load(
    connection: sqlite3.Connection, numbers: Sequence[int]
) -> tuple[dict[int, KnownRow], dict[int, str]]:
    """Read rows of `sessions`.

    Returns:
        The sound ones by number, and by number why the others are not.
    """
    rows, damage = select(connection, SELECT_SESSIONS, numbers)
    known: dict[int, KnownRow] = {}
    for *fields, crc32, used_s, step, run in rows:
        row = SessionRow(*fields)
        if row.crc32 == crc32:
            known[row.number] = KnownRow(
                row,
                used_s if isinstance(used_s, float) else 0.0,
                step if isinstance(step, int) else NO_STATE,
                run is not None,
            )
        else:
            damage[row.number] = "its record fails its checksum"
    for number in numbers:
        if number not in known:
            damage.setdefault(number, "its record is missing")
    return known, damage


def with_states(connection: sqlite3.Connection, sessions: Iterable[KnownRow]) -> list[StoredSession]:
    """Look at the states of sessions, and tell what was found; same order."""
    sessions = list(sessions)
    living = {k.row.number: k.row for k in sessions if k.row.lost_s is None}
    tables = [check_states(connection, table, living) for table in STATE_TABLES]
    return [_stored(known, [states.get(known.row.number) for states in tables]) for known in sessions]


def check_states(
    connection: sqlite3.Connection, table: str, sessions: dict[int, SessionRow]
) -> dict[int, Checked]:
    """Read and check the states of sessions in one state table.

    Args:
        connection: In a transaction.
        table: Of STATE_TABLES.
        sessions: Sound rows by number.

    Returns:
        By number; the states themselves are left out.
    """
    numbers = list(sessions)
    checked: dict[int, Checked] = {}
    for i in range(0, len(numbers), STATES_AT_A_TIME):
        part = {n: sessions[n] for n in numbers[i : i + STATES_AT_A_TIME]}
        checked |= {n: c._replace(content=b"") for n, c in read_contents(connection, table, part).items()}
    return checked


def read_contents(
    connection: sqlite3.Connection, table: str, sessions: dict[int, SessionRow]
) -> dict[int, Checked]:
    """Read and check states or answers; as `check_states`, with the contents, of a table of RECORD_TABLES."""
    rows, unreadable = select(
        connection,
        f"SELECT number, step, epoch, record FROM {table} WHERE number IN (SELECT value FROM json_each(?))",  # noqa: S608 - one of three names
        list(sessions),
    )
    checked = {
        number: NOTHING._replace(damage=f"cannot be read: {text}") for number, text in unreadable.items()
    }
    found = [
        Found(record if isinstance(record, bytes) else b"", n, sessions[n].session_id, sessions[n].model)
        for n, _, _, record in rows
    ]
    headers = records.check(found, records.ANSWER if table == ANSWER_TABLE else records.STATE)
    steps, epochs, damage = headers.steps.tolist(), headers.epochs.tolist(), headers.damage
    for i, (number, step, epoch, record) in enumerate(rows):
        fault = damage.get(i, "")
        if not fault and (steps[i] != step or epochs[i] != epoch):
            fault = "is not of the step that its row says"
        if not fault and epochs[i] > sessions[number].epoch:
            fault = f"has epoch {epochs[i]}, newer than its session's {sessions[number].epoch}"
        if not fault and steps[i] < 0:
            fault = f"has step {steps[i]}"
        sound = Checked(steps[i], epochs[i], b"" if fault else records.content_of(record), "")
        checked[number] = NOTHING._replace(damage=fault) if fault else sound
    return checked


def read(
    connection: sqlite3.Connection, wanted: Sequence[tuple[int, str, int]], model: ModelKey
) -> list[bytes | None]:
    """See `Store.read`."""
    known, _ = load(connection, list(dict.fromkeys(number for number, _, _ in wanted)))
    states: list[bytes | None] = [None] * len(wanted)
    for row, table in enumerate(STATE_TABLES):
        places = {
            number: i
            for i, (number, session_id, in_row) in enumerate(wanted)
            if in_row == row and _may_read(known.get(number), session_id, model)
        }
        checked = read_contents(connection, table, {number: known[number].row for number in places})
        for number, state in checked.items():
            states[places[number]] = None if state.damage else state.content
    return states


def read_answers(
    connection: sqlite3.Connection, wanted: Sequence[tuple[int, str]], model: ModelKey
) -> list[bytes | None]:
    """See `Store.read_answers`."""
    known, _ = load(connection, [number for number, _ in wanted])
    rows = {n: known[n].row for n, session_id in wanted if _may_read(known.get(n), session_id, model)}
    states = [check_states(connection, table, rows) for table in STATE_TABLES]
    answers = read_contents(connection, ANSWER_TABLE, rows)
    found: dict[int, bytes] = {}
    for number, answer in answers.items():
        newest = max((s.get(number, NOTHING) for s in states), key=lambda state: state.step)
        if answer.step != NO_STATE and (answer.step, answer.epoch) == (newest.step, newest.epoch):
            found[number] = answer.content
    return [found.get(number) for number, _ in wanted]


def page(connection: sqlite3.Connection, model_name: str, after: str, size: int) -> list[StoredSession]:
    """See `Store.page`; the order is that of the hashes of the ids."""
    numbers = connection.execute(
        "SELECT number FROM sessions INDEXED BY session_by_id"
        " WHERE id_hash > coalesce(?1, -9223372036854775808)"
        " AND (?2 = '' OR model IN (SELECT number FROM models WHERE name = ?2))"
        " AND lost_s IS NULL ORDER BY id_hash LIMIT ?3",
        (id_hash(after) if after else None, model_name, size),
    ).fetchall()
    order = [number for (number,) in numbers]
    known, _ = load(connection, order)
    return with_states(connection, (known[n] for n in order if n in known))


def _may_read(known: KnownRow | None, session_id: str, model: ModelKey) -> bool:
    return (
        known is not None
        and known.row.session_id == session_id
        and known.row.model == model
        and known.row.lost_s is None
    )


def _stored(known: KnownRow, states: Sequence[Checked | None]) -> StoredSession:
    row, used_s, newest_step, is_ahead = known
    first, second = (NO_STATE if s is None else s.step for s in states)
    damage = "; ".join(f"the state in row {i} {s.damage}" for i, s in enumerate(states) if s and s.damage)
    if not damage and newest_step > max(0, first, second):
        damage = f"the state at step {newest_step} is missing"
    tombstone = None
    if row.lost_s is not None:
        used_s = row.lost_s
        tombstone = Tombstone(row.lost_next_step or 0, row.lost_durable_step or 0, row.lost_reason or "")
    return StoredSession(
        number=row.number,
        session_id=row.session_id,
        model=row.model,
        creator=row.creator,
        opener=row.opener,
        attempt=as_unsigned(row.attempt),
        epoch=row.epoch,
        used_s=used_s,
        steps=(first, second),
        newest_step=newest_step,
        damage=damage,
        tombstone=tombstone,
        may_have_lost_steps=is_ahead,
    )


def _damaged(number: int, session_id: str, damage: str) -> StoredSession:
    """A session of which nothing can be said but that it was known."""
    return StoredSession(
        number=number,
        session_id=session_id,
        model=ModelKey("", "", ""),
        creator=b"",
        opener=b"",
        attempt=0,
        epoch=0,
        used_s=0.0,
        steps=(NO_STATE, NO_STATE),
        damage=damage,
        tombstone=Tombstone(0, 0, f"damaged in the store: {damage}"),
    )
