"""From a store's URL to the store.

`memory:` keeps sessions in the process, `sqlite:///sessions.db` in a file of the working directory,
`sqlite:////var/lib/tidegate/sessions.db` in that file. The file is made at first need, its folder is not.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

from tidegate.errors import ConfigError, StoreUnavailable, TidegateError
from tidegate.session.stores.database import BUSY_TIMEOUT_S, PAGE_BYTES, Database, configure
from tidegate.session.stores.lock import FileLock
from tidegate.session.stores.schema import APPLICATION_ID, FORMAT, add_tables, create_tables, has_all_tables
from tidegate.session.stores.sqlite import SqliteStore
from tidegate.session.stores.store import Store

MEMORY_URL = "memory:"
SQLITE_PREFIX = "sqlite:///"


def open_store(url: str, *, full_sync: bool, max_stored_sessions: int, max_tombstones: int) -> Store:
    """Open a store, or make a new one where none is.

    A file or folder that cannot be written is opened for reading: `check_writable` and all that stores raise.

    Args:
        url: See above.
        full_sync: What is stored outlives a loss of power, at the price of a wait for the disk at every commit.
        max_stored_sessions: Sessions that the store takes.
        max_tombstones: Ids of lost sessions that it remembers.

    Raises:
        ConfigError: The URL is wrong, another server uses the file, or it is no store of this format or an older one.
        StoreUnavailable: The file cannot be read.
    """
    file = store_file(url)
    with contextlib.ExitStack() as undo:
        lock = None if file is None else _lock(file)
        if lock is not None:
            undo.callback(lock.release)
        database = _open_memory() if file is None else _open_file(file, full_sync=full_sync)
        undo.callback(database.close)
        store = SqliteStore(
            database, lock, max_stored_sessions=max_stored_sessions, max_tombstones=max_tombstones
        )
        undo.pop_all()
    return store


def store_file(url: str) -> Path | None:
    """The file that a URL names; None for `memory:`.

    Raises:
        ConfigError: It is of another form.
    """
    if url == MEMORY_URL:
        return None
    if not url.startswith(SQLITE_PREFIX) or url.endswith("/"):
        raise ConfigError(
            f"store: expected memory:, sqlite:///relative/path or sqlite:////absolute/path, got {url!r}"
        )
    return Path(url.removeprefix(SQLITE_PREFIX)).absolute()


def _lock(file: Path) -> FileLock | None:
    if not file.parent.is_dir():
        raise ConfigError(f"store {file}: there is no folder {file.parent}")
    if _is_writable(file):
        return FileLock.acquire(file)
    if not file.exists():
        raise ConfigError(f"store {file}: there is none, and the folder cannot be written")
    return None


def _is_writable(file: Path) -> bool:
    return os.access(file.parent, os.W_OK) and (not file.exists() or os.access(file, os.W_OK))


def _open_memory() -> Database:
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    configure(connection, full_sync=False)
    database = Database(connection, None)
    with database.writing():
        create_tables(connection)
    return database


def _open_file(file: Path, *, full_sync: bool) -> Database:
    if file.exists() and not file.is_file():
        raise ConfigError(f"store {file}: is not a file")
    is_read_only = not _is_writable(file)
    uri = f"{file.as_uri()}?mode={'ro' if is_read_only else 'rwc'}"
    if is_read_only and not _has_log(file):
        # Without a log SQLite needs nothing beside the file; it could not make it here.
        uri += "&immutable=1"
    with contextlib.ExitStack() as undo:
        try:
            connection = sqlite3.connect(
                uri, uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT_S
            )
            undo.callback(connection.close)
            configure(connection, full_sync=full_sync)
            database = Database(connection, file, is_read_only=is_read_only)
            _prepare(database, connection)
        except sqlite3.Error as error:
            raise _refusal(file, error) from error
        undo.pop_all()
    return database


def _prepare(database: Database, connection: sqlite3.Connection) -> None:
    """See that the file is a store that this version reads, or make it one if it is empty.

    Raises:
        ConfigError: It is not.
        StoreUnavailable: It cannot be read or written.
    """
    with database.reading():
        ((application,), (num_tables,)) = (
            connection.execute("PRAGMA application_id").fetchone(),
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone(),
        )
    if application == 0 and num_tables == 0:
        # Before the first table, and outside of a transaction, or they do nothing.
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        with database.writing():
            create_tables(connection)
        return
    if application != APPLICATION_ID:
        raise ConfigError(f"store {database.place}: the file is not a store of tidegate")
    with database.reading():
        row = connection.execute("SELECT value FROM meta WHERE key = 'format'").fetchone()
    if row != (FORMAT,):
        got = "none" if row is None else row[0]
        raise ConfigError(
            f"store {database.place}: expected format {FORMAT}, got {got}; use the version that wrote it"
        )
    with database.reading():
        is_whole = has_all_tables(connection)
    if not is_whole and database.is_read_only:
        raise ConfigError(
            f"store {database.place}: an older version wrote it, and it cannot be brought up to date read-only"
        )
    if not is_whole:
        with database.writing():
            add_tables(connection)


def _has_log(file: Path) -> bool:
    log = file.with_name(file.name + "-wal")
    return log.exists() and log.stat().st_size > 0


def _refusal(file: Path, error: sqlite3.Error) -> TidegateError:
    if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_NOTADB:
        return ConfigError(f"store {file}: the file is not a store of tidegate")
    return StoreUnavailable(f"store {file}: {error}")
