"""The connection to one SQLite file: its settings, its transactions, and how its failures are told.

Reading and writing go through `Database.reading` and `Database.writing`, which turn every failure of SQLite
into StoreUnavailable with the place and the cause. After a failed write nothing of it is left.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from tidegate.errors import StoreUnavailable

PAGE_BYTES = 16 * 1024
"""Four times SQLite's default: states of 2 kB are written twice as fast (measured for docs/decisions.md)."""

CACHE_BYTES = 16 * 1024 * 1024
"""A million sessions have an index of this size. More helps little, and counts twice: freed pages stay with
the thread that had them."""
CHECKPOINT_PAGES = 4000
"""Pages in the write-ahead log at which SQLite moves them into the file: 64 MiB."""

WAL_KEPT_BYTES = 64 * 1024 * 1024
"""The log is cut back to this when it starts anew."""

WAL_LIMIT_BYTES = 1024 * 1024 * 1024
"""Past this nothing is written: somebody reads the file for so long that the log cannot start anew."""

BUSY_TIMEOUT_S = 2.0
"""Longest wait for somebody else's write, such as an operator's in a sqlite3 shell."""


class Database:
    """One open SQLite database.

    Attributes:
        place: The file's path for messages, or `memory:`.
        is_read_only: The file or its folder cannot be written.
    """

    def __init__(
        self, connection: sqlite3.Connection, file: Path | None, *, is_read_only: bool = False
    ) -> None:
        self.place = "memory:" if file is None else str(file)
        self.is_read_only = is_read_only
        self._connection = connection
        self._file = file
        self._inode = 0 if file is None else file.stat().st_ino

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Read from one moment's content.

        Raises:
            StoreUnavailable: SQLite failed.
        """
        # Rolled back, because after damage was met SQLite commits nothing, not even a transaction that only read.
        with self._transaction("BEGIN", "ROLLBACK") as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Write all or nothing.

        Raises:
            StoreUnavailable: SQLite failed, or what is written would not last.
        """
        if self.is_read_only:
            raise StoreUnavailable(f"store {self.place}: the file or its folder was read-only at start")
        self._check_file()
        with self._transaction("BEGIN IMMEDIATE", "COMMIT") as connection:
            yield connection

    @property
    def is_file(self) -> bool:
        """It outlives the process."""
        return self._file is not None

    @property
    def disk_bytes(self) -> int:
        """Size of the file and its log; 0 in memory."""
        if self._file is None:
            return 0
        return _size(self._file) + _size(self._wal)

    def close(self) -> None:
        """Close the connection; SQLite moves the log into the file if it can."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    @property
    def _wal(self) -> Path:
        assert self._file is not None, "a database in memory has no log"
        return self._file.with_name(self._file.name + "-wal")

    @contextlib.contextmanager
    def _transaction(self, begin: str, end: str) -> Iterator[sqlite3.Connection]:
        try:
            self._connection.execute(begin)
            yield self._connection
            self._connection.execute(end)
        except sqlite3.Error as error:
            raise StoreUnavailable(f"store {self.place}: {error}") from error
        finally:
            if self._connection.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")

    def _check_file(self) -> None:
        """Refuse to write what nobody would find again, and to fill the disk with a log."""
        if self._file is None:
            return
        try:
            is_same = self._file.stat().st_ino == self._inode
        except OSError:
            is_same = False
        if not is_same:
            raise StoreUnavailable(
                f"store {self.place}: the file was removed or replaced; restart the server"
            )
        if _size(self._wal) > WAL_LIMIT_BYTES:
            self._empty_wal()

    def _empty_wal(self) -> None:
        try:
            (busy, _, _) = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error as error:
            raise StoreUnavailable(f"store {self.place}: {error}") from error
        if busy:
            raise StoreUnavailable(
                f"store {self.place}: its log has passed {WAL_LIMIT_BYTES} bytes, and another program reads the file"
            )


def configure(connection: sqlite3.Connection, *, full_sync: bool) -> None:
    """Make the settings that SQLite does not keep in the file.

    Args:
        connection: Just opened.
        full_sync: Wait for the disk at every commit, so that it outlives a loss of power.
    """
    # A damaged text must reach the checksum of its row instead of failing its neighbours.
    connection.text_factory = lambda raw: raw.decode(errors="replace")
    for pragma in (
        f"synchronous = {'FULL' if full_sync else 'NORMAL'}",
        f"cache_size = -{CACHE_BYTES // 1024}",
        "mmap_size = 0",
        f"wal_autocheckpoint = {CHECKPOINT_PAGES}",
        f"journal_size_limit = {WAL_KEPT_BYTES}",
        "cell_size_check = ON",
        "trusted_schema = OFF",
    ):
        connection.execute(f"PRAGMA {pragma}").fetchall()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
