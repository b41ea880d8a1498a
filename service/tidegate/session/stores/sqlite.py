"""The embedded store: one SQLite file, or the same tables in memory.

See `store.Store` for what its methods promise. The store has the file to itself, but for readers: an
operator may look into it at any time with a plain sqlite3 shell.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from tidegate.session.stores import marks, reading, state_writing, writing
from tidegate.session.stores.changes import (
    Claim,
    ModelKey,
    NewSession,
    StateBatch,
)
from tidegate.session.stores.database import Database
from tidegate.session.stores.lock import FileLock
from tidegate.session.stores.schema import SESSION_TABLES
from tidegate.session.stores.store import StoreCounts, StoredSession
from tidegate.tensor import BoolArray, IntArray


class SqliteStore:
    """A store in one SQLite database.

    Attributes:
        is_durable: It is in a file.
        last_number: Greatest session number in use when it was opened.
    """

    def __init__(
        self, database: Database, lock: FileLock | None, *, max_stored_sessions: int, max_tombstones: int
    ) -> None:
        """Start on a database that has the tables; the store closes it, and lets go of the lock.

        Raises:
            StoreUnavailable: It cannot be read.
        """
        self.is_durable = database.is_file
        self._database = database
        self._lock = lock
        self._max_sessions = max_stored_sessions
        self._max_tombstones = max_tombstones
        with database.reading() as connection:
            self.last_number: int = max(
                connection.execute(f"SELECT coalesce(max(number), 0) FROM {table}").fetchone()[0]  # noqa: S608
                for table in SESSION_TABLES
            )
            self._run = marks.new_run(connection)

    def find(self, session_ids: Sequence[str]) -> dict[str, StoredSession]:
        """See `Store.find`."""
        with self._database.reading() as connection:
            return reading.find(connection, session_ids)

    def create(self, sessions: Sequence[NewSession], states: StateBatch | None = None) -> None:
        """See `Store.create`."""
        with self._database.writing() as connection:
            writing.create(connection, sessions, self._max_sessions, self._run)
            if states is not None:
                taken = state_writing.write(connection, states)
                assert taken.all(), "a state is of no session that begins"

    def claim(self, claims: Sequence[Claim]) -> None:
        """See `Store.claim`."""
        with self._database.writing() as connection:
            writing.claim(connection, claims)

    def write(self, batch: StateBatch) -> BoolArray:
        """See `Store.write`."""
        with self._database.writing() as connection:
            return state_writing.write(connection, batch)

    def touch(self, numbers: IntArray, used_s: NDArray[np.float64], *, caught_up: Sequence[int] = ()) -> None:
        """See `Store.touch`."""
        with self._database.writing() as connection:
            state_writing.touch(connection, numbers, used_s)
            marks.unmark(connection, caught_up)

    def mark_ahead(self, numbers: Sequence[int]) -> None:
        """See `Store.mark_ahead`."""
        with self._database.writing() as connection:
            marks.mark(connection, numbers, self._run)

    def unmark_ahead(self, numbers: Sequence[int]) -> None:
        """See `Store.unmark_ahead`."""
        with self._database.writing() as connection:
            marks.unmark(connection, numbers)

    def end_run(self) -> None:
        """See `Store.end_run`."""
        with self._database.writing() as connection:
            marks.end_run(connection, self._run)

    def read(self, wanted: Sequence[tuple[int, str, int]], model: ModelKey) -> list[bytes | None]:
        """See `Store.read`."""
        with self._database.reading() as connection:
            return reading.read(connection, wanted, model)

    def read_answers(self, wanted: Sequence[tuple[int, str]], model: ModelKey) -> list[bytes | None]:
        """See `Store.read_answers`."""
        with self._database.reading() as connection:
            return reading.read_answers(connection, wanted, model)

    def end(self, numbers: Sequence[int]) -> None:
        """See `Store.end`."""
        with self._database.writing() as connection:
            writing.end(connection, numbers)

    def bury(self, tombstones: Sequence[tuple[int, int, int, str]]) -> None:
        """See `Store.bury`."""
        with self._database.writing() as connection:
            writing.bury(connection, tombstones, self._max_tombstones)

    def expire(
        self, used_before_s: float, limit: int, spare: Collection[int], spare_ids: Collection[str] = ()
    ) -> list[StoredSession]:
        """See `Store.expire`."""
        with self._database.writing() as connection:
            return writing.expire(connection, used_before_s, limit, spare, spare_ids, self._max_tombstones)

    def page(self, model_name: str, after: str, size: int) -> list[StoredSession]:
        """See `Store.page`."""
        with self._database.reading() as connection:
            return reading.page(connection, model_name, after, size)

    def count(self) -> StoreCounts:
        """See `Store.count`."""
        with self._database.reading() as connection:
            return StoreCounts(
                sessions=writing.counter(connection, "sessions"),
                tombstones=writing.counter(connection, "tombstones"),
                disk_bytes=self._database.disk_bytes,
            )

    def check_writable(self) -> None:
        """See `Store.check_writable`."""
        with self._database.writing() as connection:
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('checked', datetime('now'))")

    def close(self) -> None:
        """See `Store.close`."""
        self._database.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None
