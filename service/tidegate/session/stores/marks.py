"""Marks of sessions whose answers may be ahead of the store.

A mark names the run of the server that made it. A run that ends well takes its marks away, so those that are
there when a store is opened are of runs that crashed. Every function works inside a transaction of the caller.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence


def new_run(connection: sqlite3.Connection) -> int:
    """A number that no mark has."""
    (last,) = connection.execute("SELECT coalesce(max(run), 0) FROM ahead").fetchone()
    return int(last) + 1


def mark(connection: sqlite3.Connection, numbers: Sequence[int], run: int) -> None:
    """See `Store.mark_ahead`."""
    connection.execute(
        "INSERT OR REPLACE INTO ahead SELECT number, ? FROM sessions"
        " WHERE lost_s IS NULL AND number IN (SELECT value FROM json_each(?))",
        (run, json.dumps(list(numbers))),
    )


def unmark(connection: sqlite3.Connection, numbers: Sequence[int]) -> None:
    """See `Store.unmark_ahead`."""
    connection.execute(
        "DELETE FROM ahead WHERE number IN (SELECT value FROM json_each(?))", (json.dumps(list(numbers)),)
    )


def end_run(connection: sqlite3.Connection, run: int) -> None:
    """See `Store.end_run`."""
    connection.execute("DELETE FROM ahead WHERE run = ?", (run,))
