"""A medium that fails: it is told, nothing of the failed write is left, and the store goes on when it can."""

import dataclasses
import os
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from support.stores import MODEL, batch, session, state
from tidegate.errors import StoreUnavailable
from tidegate.session.stores import database
from tidegate.session.stores.store import NO_STATE

PRELUDE = """
import os, resource, sys
from pathlib import Path
from support.stores import *
from tidegate.errors import ConfigError, StoreUnavailable
from tidegate.session.stores.changes import Claim

def told(action, *arguments):
    try:
        action(*arguments)
    except (StoreUnavailable, ConfigError) as error:
        print(type(error).__name__, error)
    else:
        print("done")
"""


def run(script: str, folder: Path) -> list[str]:
    """Run a script on the file `s.db` of a folder in a process of its own; its lines."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + script, folder / "s.db"],
        env=environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def fill_up(store) -> None:
    """Let SQLite find no room for another page, as on a full disk."""
    connection = store._database._connection
    ((num_pages,),) = connection.execute("PRAGMA page_count").fetchall()
    connection.execute(f"PRAGMA max_page_count = {num_pages}").fetchall()


def make_room(store) -> None:
    store._database._connection.execute("PRAGMA max_page_count = 1000000").fetchall()


def test_a_full_disk_refuses_the_whole_write_and_is_told(opened, path) -> None:
    store = opened()
    store.create([session(n) for n in range(1, 501)])
    store.write(batch([1, 2], row=0, step=5))
    fill_up(store)

    with pytest.raises(StoreUnavailable, match=r"sessions\.db: database or disk is full"):
        store.write(batch(range(1, 501), row=0, step=9))

    found = store.find(["s1", "s400"])
    assert (found["s1"].steps, found["s400"].steps) == ((5, NO_STATE), (NO_STATE, NO_STATE))
    assert store.read([(1, "s1", 0)], MODEL) == [state(1, 5)]


def test_a_store_goes_on_once_there_is_room_again(opened) -> None:
    store = opened()
    store.create([session(n) for n in range(1, 501)])
    fill_up(store)
    with pytest.raises(StoreUnavailable):
        store.create([session(n) for n in range(501, 2001)])
    assert store.count().sessions == 500
    make_room(store)

    store.create([session(n) for n in range(501, 2001)])

    store.check_writable()
    assert store.count().sessions == 2000


def test_a_file_that_may_not_grow_fails_like_a_full_disk(tmp_path: Path) -> None:
    script = """
store = open_for_test(Path(sys.argv[1]))
store.create([session(n) for n in range(1, 1001)])
store.write(batch(range(1, 1001), row=0, step=5))
size = os.stat(sys.argv[1] + "-wal").st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
told(store.write, batch(range(1, 1001), row=1, step=6))
told(store.check_writable)
print({s.steps for s in store.find([f"s{n}" for n in range(1, 1001)]).values()})
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
told(store.check_writable)
told(store.write, batch(range(1, 1001), row=1, step=6))
print({s.steps for s in store.find([f"s{n}" for n in range(1, 1001)]).values()})
store.close()
"""

    lines = run(script, tmp_path)

    assert lines[0].startswith(f"StoreUnavailable store {tmp_path}/s.db: ")
    assert lines[1].startswith("StoreUnavailable")
    assert lines[2:] == ["{(5, -1)}", "done", "done", "{(5, 6)}"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user without rights")
@pytest.mark.parametrize("crashed", [False, True])
def test_a_read_only_file_is_served_and_takes_nothing(crashed: bool) -> None:
    filling = f"""
store = open_for_test(Path(sys.argv[1]))
store.create([session(1)])
store.write(batch([1], row=0, step=5))
os._exit(0) if {crashed} else store.close()
"""
    reading = """
expected = state(1, 5), batch([1], row=1, step=9)  # before numpy's files are out of reach
os.setgroups([]); os.setgid(65534); os.setuid(65534)
store = open_for_test(Path(sys.argv[1]))
print(store.find(["s1"])["s1"].steps, store.read([(1, "s1", 0)], MODEL) == [expected[0]])
print(store.count().sessions, len(store.page("", "", 5)))
told(store.check_writable)
told(store.write, expected[1])
told(store.create, [session(2)])
told(store.claim, [Claim(1, 200, b"", 0, 0.0, -1)])
told(store.end, [1])
store.close()
"""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(filling, folder)
        folder.chmod(0o755)

        lines = run(reading, folder)

    assert lines[:2] == ["(5, -1) True", "1 1"]
    refused = f"StoreUnavailable store {folder}/s.db: the file or its folder was read-only at start"
    assert lines[2:] == [refused] * 5


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user without rights")
def test_a_read_only_file_of_an_older_version_is_refused() -> None:
    older = """
open_for_test(Path(sys.argv[1])).close()
change(Path(sys.argv[1]), "DROP TABLE last_answers")
"""
    reading = "os.setgid(65534); os.setuid(65534); told(open_for_test, Path(sys.argv[1]))"
    with tempfile.TemporaryDirectory() as name:
        run(older, Path(name))
        Path(name).chmod(0o755)

        lines = run(reading, Path(name))

    why = "an older version wrote it, and it cannot be brought up to date read-only"
    assert lines == [f"ConfigError store {name}/s.db: {why}"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user without rights")
def test_no_store_is_made_in_a_read_only_folder() -> None:
    script = "os.setuid(65534); told(open_for_test, Path(sys.argv[1]))"
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)

        lines = run(script, Path(name))

    assert lines == [f"ConfigError store {name}/s.db: there is none, and the folder cannot be written"]


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_was_taken_away_is_written_no_more(replaced: bool, opened, path: Path) -> None:
    store = opened()
    store.create([session(1)])
    path.rename(path.with_name("taken.db"))
    if replaced:
        path.touch()

    for action in (store.check_writable, lambda: store.write(batch([1], row=0, step=5))):
        with pytest.raises(StoreUnavailable, match="removed or replaced"):
            action()


def test_a_store_that_somebody_writes_is_waited_for_and_then_told(opened, path: Path, monkeypatch) -> None:
    monkeypatch.setattr("tidegate.session.stores.opening.BUSY_TIMEOUT_S", 0.05)
    store = opened()
    store.create([session(1)])
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(StoreUnavailable, match=r"sessions\.db: database is locked"):
        store.write(batch([1], row=0, step=5))

    other.execute("ROLLBACK")
    other.close()
    assert store.write(batch([1], row=0, step=5)).all()


def test_a_reader_that_never_ends_cannot_make_the_log_grow_for_ever(opened, path: Path, monkeypatch) -> None:
    monkeypatch.setattr("tidegate.session.stores.opening.BUSY_TIMEOUT_S", 0.05)
    monkeypatch.setattr(database, "WAL_LIMIT_BYTES", 500_000)
    store = opened()
    store.create([session(n) for n in range(1, 1001)])
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM sessions").fetchall()

    with pytest.raises(StoreUnavailable, match="another program reads the file"):
        all(store.write(batch(range(1, 1001), row=0, step=step)).all() for step in range(1000))

    assert path.with_name(path.name + "-wal").stat().st_size < 2_000_000
    reader.execute("ROLLBACK")
    reader.close()
    assert store.write(batch([1], row=0, step=1)).all()
    assert path.with_name(path.name + "-wal").stat().st_size < 500_000


def test_the_log_stays_bounded_under_steady_writing(opened, path: Path) -> None:
    store = opened()
    store.create([session(n) for n in range(1, 1001)])
    before = batch(range(1, 1001), row=0, step=1)
    large = dataclasses.replace(before, states=np.zeros((1000, 16_000), np.uint8))

    for _ in range(15):
        store.write(large)

    wal_bytes = path.with_name(path.name + "-wal").stat().st_size
    one_commit = large.states.nbytes * 1.2
    assert wal_bytes < database.CHECKPOINT_PAGES * database.PAGE_BYTES + 2 * one_commit
