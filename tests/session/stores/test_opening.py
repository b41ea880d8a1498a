"""Which files are opened as stores, by whom, and what is refused in one line."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from support.stores import CREATED_S, MODEL, batch, change, open_for_test, session, state
from tidegate.errors import ConfigError, StoreUnavailable
from tidegate.session.stores.opening import open_store, store_file


def open_url(url: str):
    return open_store(url, full_sync=True, max_stored_sessions=10, max_tombstones=10)


@pytest.mark.parametrize(
    "url",
    ["", "memory", "memory://", "sqlite:", "sqlite://x.db", "sqlite:///", "sqlite:///folder/", "redis://h"],
)
def test_another_form_of_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="expected memory:, sqlite:///relative/path"):
        open_url(url)


def test_three_slashes_are_relative_and_four_absolute(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert store_file("sqlite:///a/b.db") == tmp_path / "a/b.db"
    assert store_file("sqlite:////a/b.db") == Path("/a/b.db")
    assert store_file("memory:") is None


def test_a_file_of_any_name_is_made(tmp_path: Path) -> None:
    path = tmp_path / "odd ?name #1%41.db"

    open_url(f"sqlite:///{path}").close()

    assert path.is_file()


def test_only_a_file_is_durable(tmp_path: Path) -> None:
    memory, file = open_url("memory:"), open_url(f"sqlite:///{tmp_path}/s.db")

    assert not memory.is_durable
    assert file.is_durable
    assert memory.count().disk_bytes == 0
    assert file.count().disk_bytes > 0
    memory.close()
    file.close()


def test_what_was_stored_is_there_after_opening_again(opened) -> None:
    store = opened()
    store.create([session(n) for n in (1, 2, 30)])
    store.write(batch([1, 30], row=1, step=5))
    store.bury([(2, 3, 2, "gone")])
    assert store.last_number == 0

    store = opened()

    assert store.last_number == 30
    assert store.find(["s30"])["s30"].steps == (-1, 5)
    assert store.read([(30, "s30", 1)], MODEL) == [state(30, 5)]
    assert store.find(["s2"])["s2"].tombstone.reason == "gone"
    assert (store.count().sessions, store.count().tombstones) == (2, 1)


def test_a_second_server_is_refused_with_one_line(path: Path, opened) -> None:
    opened()

    with pytest.raises(ConfigError) as refused:
        open_for_test(path)

    assert str(refused.value) == f"store {path}: another server uses it (process {os.getpid()})"


def test_a_killed_server_leaves_no_lock_and_loses_nothing(path: Path, opened) -> None:
    script = (
        "import os, sys; from pathlib import Path; from support.stores import *\n"
        "store = open_for_test(Path(sys.argv[1])); store.create([session(1)])\n"
        "store.write(batch([1], row=0, step=5)); os.kill(os.getpid(), 9)"
    )
    run = subprocess.run([sys.executable, "-c", script, path], env=environment(), check=False)
    assert run.returncode == -9

    store = opened()

    assert store.read([(1, "s1", 0)], MODEL) == [state(1, 5)]


def test_a_refused_open_lets_go_of_the_lock(path: Path) -> None:
    path.write_text("no database at all, but longer than its header would be: " + "x" * 500)
    with pytest.raises(ConfigError, match="is not a store of tidegate"):
        open_for_test(path)
    path.unlink()

    open_for_test(path).close()


def test_a_database_of_somebody_else_is_refused_and_left_alone(path: Path) -> None:
    change(path, "CREATE TABLE theirs (x)")
    before = path.read_bytes()

    with pytest.raises(ConfigError, match="is not a store of tidegate"):
        open_for_test(path)

    assert path.read_bytes() == before


def test_an_empty_file_becomes_a_store(path: Path) -> None:
    path.touch()

    open_for_test(path).close()

    open_for_test(path).close()


@pytest.mark.parametrize(("value", "got"), [(2, "got 2"), (None, "got None")])
def test_another_format_is_refused(path: Path, opened, value: int | None, got: str) -> None:
    opened().close()
    change(path, "UPDATE meta SET value = ? WHERE key = 'format'", value)

    with pytest.raises(ConfigError, match=f"expected format 1, {got}"):
        open_for_test(path)


def test_a_store_without_a_format_is_refused(path: Path, opened) -> None:
    opened().close()
    change(path, "DELETE FROM meta")

    with pytest.raises(ConfigError, match="expected format 1, got none"):
        open_for_test(path)


def test_a_folder_that_is_missing_or_in_the_way_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no folder"):
        open_for_test(tmp_path / "missing" / "s.db")
    (tmp_path / "folder.db").mkdir()
    with pytest.raises(ConfigError, match="is not a file"):
        open_for_test(tmp_path / "folder.db")
    (tmp_path / "s.db.lock").mkdir()
    with pytest.raises(ConfigError, match=r"cannot make s\.db\.lock"):
        open_for_test(tmp_path / "s.db")


def test_damage_to_the_tables_makes_opening_fail_with_the_cause(path: Path, opened) -> None:
    opened().close()
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 8)

    with pytest.raises(StoreUnavailable, match=r"sessions\.db: .*malformed"):
        open_for_test(path)


def test_a_plain_shell_reads_the_open_store(path: Path, opened) -> None:
    store = opened()
    store.create([session(n) for n in (1, 2, 3, 4)])
    store.write(batch([2, 3], row=1, step=20, used_s=CREATED_S + 60))
    store.write(batch([3], row=0, step=10))
    store.bury([(4, 8, 5, "evicted")])
    reader = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)

    rows = reader.execute("SELECT * FROM session_overview ORDER BY id").fetchall()
    columns = [c[0] for c in reader.execute("SELECT * FROM session_overview").description]
    settings = [reader.execute(f"PRAGMA {p}").fetchone()[0] for p in ("page_size", "journal_mode")]
    reader.close()

    assert columns == ["id", "model", "version", "next_step", "durable_candidates", "last_used_utc", "lost"]
    assert rows[0] == ("s1", "co2", "3", 0, 0, "2023-11-14 22:13:20", None)
    assert rows[1] == ("s2", "co2", "3", 20, 20, "2023-11-14 22:14:20", None)
    assert rows[2] == ("s3", "co2", "3", 20, "10, 20", "2023-11-14 22:13:20", None)
    assert (rows[3][:5], rows[3][6]) == (("s4", "co2", "3", 8, ""), "evicted")
    assert settings == [16384, "wal"]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
