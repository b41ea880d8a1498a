"""Writing states, the answers that led to them, and times of use; each table by one statement.

One for each row would need Python's lock as often, which a busy event loop gives up only now and then. Every
function works inside a transaction of the caller, which drops everything if one raises.
"""

from __future__ import annotations

import json
import sqlite3

import numpy as np
from numpy.typing import NDArray

from tidegate.session.stores import records
from tidegate.session.stores.changes import StateBatch
from tidegate.session.stores.columns import cell, column, positions
from tidegate.session.stores.schema import ANSWER_TABLE, STATE_TABLES
from tidegate.tensor import BoolArray, IntArray

WRITE_USES = f"""
INSERT INTO uses SELECT number, {cell("used_us")} / 1e6, {cell("steps")} FROM json_each(:positions) CROSS JOIN sessions
    ON number = {cell("numbers")} AND epoch = {cell("epochs")} AND lost_s IS NULL
WHERE true ON CONFLICT (number) DO UPDATE SET used_s = excluded.used_s, step = excluded.step
"""  # noqa: S608 - the names are ours
"""Counts the sessions that a batch of states may go to."""

TOUCH = f"""
UPDATE uses SET used_s = {cell("used_us")} / 1e6 FROM json_each(:positions)
WHERE number = {cell("numbers")}
"""  # noqa: S608 - as above

WRITE_STATES = [
    f"""
INSERT INTO {table} SELECT {cell("numbers")}, {cell("steps")}, {cell("epochs")},
    substr(:records, value * :record_bytes + 1, :record_bytes) FROM json_each(:positions)
WHERE true ON CONFLICT (number) DO UPDATE
    SET step = excluded.step, epoch = excluded.epoch, record = excluded.record
"""  # noqa: S608 - as above
    for table in STATE_TABLES
]

WRITE_ANSWERS = f"""
INSERT INTO {ANSWER_TABLE} SELECT {cell("numbers")}, {cell("steps")}, {cell("epochs")},
    substr(:answers, {cell("starts")} + 1, {cell("sizes")}) FROM json_each(:positions)
WHERE true ON CONFLICT (number) DO UPDATE
    SET step = excluded.step, epoch = excluded.epoch, record = excluded.record
"""  # noqa: S608 - as above


def write(connection: sqlite3.Connection, batch: StateBatch) -> BoolArray:
    """See `Store.write`."""
    packed = records.pack(batch)
    values = {
        "numbers": column(batch.numbers),
        "epochs": column(batch.epochs),
        "steps": column(batch.steps),
        "used_us": _microseconds(batch.used_s),
        "records": packed,
        "record_bytes": packed.shape[1],
    }
    used = connection.execute(WRITE_USES, {**values, "positions": positions(np.arange(len(batch)))})
    if used.rowcount == len(batch):
        taken = np.ones(len(batch), np.bool_)
    else:
        taken = _are_current(connection, batch.numbers.tolist(), batch.epochs.tolist())
    for row, statement in enumerate(WRITE_STATES):
        mine = np.flatnonzero(taken & (batch.rows == row))
        if len(mine):
            connection.execute(statement, {**values, "positions": positions(mine)})
    if batch.answers:
        _write_answers(connection, batch, taken)
    return taken


def touch(connection: sqlite3.Connection, numbers: IntArray, used_s: NDArray[np.float64]) -> None:
    """See `Store.touch`."""
    where = positions(np.arange(len(numbers)))
    values = {"numbers": column(numbers), "used_us": _microseconds(used_s), "positions": where}
    connection.execute(TOUCH, values)


def _write_answers(connection: sqlite3.Connection, batch: StateBatch, taken: BoolArray) -> None:
    where = np.array(list(batch.answers), np.int64)
    answers = records.pack_answers(batch)
    sizes = np.array([len(answer) for answer in answers], np.int64)
    values = {
        "numbers": column(batch.numbers[where]),
        "epochs": column(batch.epochs[where]),
        "steps": column(batch.steps[where]),
        "starts": column(np.cumsum(sizes) - sizes),
        "sizes": column(sizes),
        "answers": b"".join(answers),
        "positions": positions(np.flatnonzero(taken[where])),
    }
    connection.execute(WRITE_ANSWERS, values)


def _are_current(connection: sqlite3.Connection, numbers: list[int], epochs: list[int]) -> BoolArray:
    current = dict(
        connection.execute(
            "SELECT number, epoch FROM sessions"
            " WHERE lost_s IS NULL AND number IN (SELECT value FROM json_each(?))",
            (json.dumps(numbers),),
        )
    )
    return np.array([current.get(n) == epoch for n, epoch in zip(numbers, epochs, strict=True)], np.bool_)


def _microseconds(seconds: NDArray[np.float64]) -> bytes:
    return column((seconds * 1e6).astype(np.int64))
