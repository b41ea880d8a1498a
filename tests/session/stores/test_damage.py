"""What a store says of rows that are not as it wrote them. Each test changes a closed file behind its back."""

import sqlite3
import struct
import zlib
from pathlib import Path

import pytest

from support.stores import CREATED_S, MODEL, OTHER_MODEL, STATE_BYTES, batch, change, session, state
from tidegate.errors import SessionExists, StoreUnavailable
from tidegate.session.stores import records
from tidegate.session.stores.changes import Claim
from tidegate.session.stores.store import NO_STATE, Tombstone


@pytest.fixture
def filled(opened) -> None:
    """Sessions 1 to 4 with states at steps 5 and 9, in a closed file."""
    store = opened()
    store.create([session(n) for n in (1, 2, 3, 4)])
    store.write(batch([1, 2, 3, 4], row=0, step=5))
    store.write(batch([1, 2, 3, 4], row=1, step=9))
    store.close()


def put_record(path: Path, number: int, record: bytes) -> None:
    change(path, "UPDATE state_1 SET record = ? WHERE number = ?", record, number)


def record_of(path: Path, number: int) -> bytes:
    connection = sqlite3.connect(path)
    ((record,),) = connection.execute("SELECT record FROM state_1 WHERE number = ?", (number,))
    connection.close()
    return record


@pytest.mark.parametrize("offset", range(records.HEADER_BYTES + STATE_BYTES))
def test_a_flipped_byte_anywhere_in_a_record_is_found(offset: int, filled, opened, path) -> None:
    record = bytearray(record_of(path, 2))
    record[offset] ^= 0x10
    put_record(path, 2, bytes(record))

    store = opened()

    damaged = store.find(["s1", "s2"])["s2"]
    assert damaged.steps == (5, NO_STATE)
    assert damaged.damage.startswith("the state in row 1 ")
    assert store.read([(1, "s1", 1), (2, "s2", 1), (2, "s2", 0)], MODEL) == [state(1, 9), None, state(2, 5)]


@pytest.mark.parametrize("size", [0, 1, records.HEADER_BYTES - 1, records.HEADER_BYTES, 100])
def test_a_record_that_is_cut_short_is_refused(size: int, filled, opened, path) -> None:
    put_record(path, 2, record_of(path, 2)[:size])

    found = opened().find(["s2"])["s2"]

    assert found.steps == (5, NO_STATE)
    assert "cut short" in found.damage or "another length" in found.damage


def test_a_record_of_another_session_is_refused_by_name(filled, opened, path) -> None:
    put_record(path, 2, record_of(path, 3))

    found = opened().find(["s2"])["s2"]

    assert found.steps == (5, NO_STATE)
    assert found.damage == "the state in row 1 is of another session"


def test_a_record_of_a_session_with_the_same_number_and_another_id_is_refused(filled, opened, path) -> None:
    record = record_of(path, 2)
    store = opened()
    store.end([2])
    store.create([type(session(2))(2, "new", MODEL, b"", 0, 100, CREATED_S)])
    store.close()
    change(path, "INSERT INTO state_1 VALUES (2, 9, 100, ?)", record)

    found = opened().find(["new"])["new"]

    assert found.steps == (NO_STATE, NO_STATE)
    assert found.damage == "the state in row 1 fails its checksum"


def test_a_record_of_another_model_is_refused_by_name(filled, opened, path) -> None:
    (foreign,) = records.pack(batch([2], row=1, step=9, model=OTHER_MODEL))
    put_record(path, 2, foreign.tobytes())

    assert opened().find(["s2"])["s2"].damage == "the state in row 1 is of another model"


def test_a_record_of_a_later_owner_is_refused_by_name(filled, opened, path) -> None:
    (newer,) = records.pack(batch([2], row=1, step=9, epoch=101))
    change(path, "UPDATE state_1 SET epoch = 101, record = ? WHERE number = 2", newer.tobytes())

    found = opened().find(["s2"])["s2"]

    assert found.steps == (5, NO_STATE)
    assert found.damage == "the state in row 1 has epoch 101, newer than its session's 100"


def test_a_record_of_a_newer_format_is_refused_by_name(filled, opened, path) -> None:
    record = bytearray(record_of(path, 2))
    struct.pack_into("<I", record, 8, records.FORMAT_VERSION + 1)
    struct.pack_into("<I", record, 4, zlib.crc32(record[8:], zlib.crc32(b"s2")))
    put_record(path, 2, bytes(record))

    assert opened().find(["s2"])["s2"].damage == "the state in row 1 has a format other than 1"


def test_a_record_in_a_row_that_names_another_step_is_refused(filled, opened, path) -> None:
    change(path, "UPDATE state_1 SET step = 3 WHERE number = 2")
    change(path, "UPDATE state_1 SET epoch = 3 WHERE number = 3")

    found = opened().find(["s2", "s3"])

    assert (
        found["s2"].damage == found["s3"].damage == "the state in row 1 is not of the step that its row says"
    )


@pytest.mark.parametrize("value", [None, 7, 2.5, "text"])
def test_a_record_that_is_no_bytes_is_refused(value: object, filled, opened, path) -> None:
    change(path, "PRAGMA writable_schema = ON")
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA ignore_check_constraints = ON")
    if value is None:
        connection.execute("DELETE FROM state_1 WHERE number = 2")
    else:
        connection.execute("UPDATE state_1 SET record = ? WHERE number = 2", (value,))
    connection.close()

    found = opened().find(["s2"])["s2"]

    assert found.steps == (5, NO_STATE)
    assert ("is missing" if value is None else "cut short") in found.damage


def test_a_damaged_state_is_mended_by_the_next_write(filled, opened, path) -> None:
    put_record(path, 2, b"damaged")
    store = opened()

    store.write(batch([2], row=1, step=12))

    assert store.find(["s2"])["s2"].steps == (5, 12)
    assert store.find(["s2"])["s2"].damage == ""


SESSION_FIELDS = {
    "id": "s7",
    "model": 77,
    "creator": b"other",
    "opener": b"other",
    "attempt": 5,
    "epoch": 99,
    "created_s": 1.5,
    "lost_s": 3.5,
    "lost_reason": "never",
    "crc32": 1,
}


@pytest.mark.parametrize("field", SESSION_FIELDS)
def test_a_damaged_session_is_refused_by_name_and_never_unknown(field: str, filled, opened, path) -> None:
    change(path, f"UPDATE sessions SET {field} = ? WHERE number = 2", SESSION_FIELDS[field])
    store = opened()

    found = store.find(["s1", "s2", "s3", "s7"])

    assert sorted(found) == ["s1", "s2", "s3"]
    assert found["s2"].damage == "its record fails its checksum"
    assert found["s2"].tombstone == Tombstone(0, 0, "damaged in the store: its record fails its checksum")
    assert found["s2"].steps == (NO_STATE, NO_STATE)
    assert found["s1"].steps == found["s3"].steps == (5, 9)
    assert store.read([(2, "s2", 0), (1, "s1", 0)], MODEL) == [None, state(1, 5)]
    with pytest.raises(SessionExists, match="s2"):
        store.create([type(session(9))(9, "s2", MODEL, b"", 0, 1, 0.0)])
    with pytest.raises(StoreUnavailable, match=r"session 2 .* checksum"):
        store.claim([Claim(2, 300, b"", 0, 0.0, -1)])


def test_a_damaged_model_makes_its_sessions_damaged(filled, opened, path) -> None:
    change(path, "UPDATE models SET sha256 = ?", "00" * 32)

    assert opened().find(["s1"])["s1"].damage == "its record fails its checksum"


def test_a_damaged_session_is_left_out_of_pages_and_of_expiry(filled, opened, path) -> None:
    change(path, "UPDATE sessions SET epoch = 99 WHERE number = 2")
    store = opened()

    listed = [s.session_id for s in store.page("", "", 10)]
    expired = [s.session_id for s in store.expire(CREATED_S + 1, 10, set())]

    assert sorted(listed) == sorted(expired) == ["s1", "s3", "s4"]
    assert store.expire(CREATED_S + 1, 10, set()) == []
    store.bury([(2, 0, 0, "tried")])
    assert store.find(["s2"])["s2"].damage


def test_a_damaged_session_can_be_ended(filled, opened, path) -> None:
    change(path, "UPDATE sessions SET epoch = 99 WHERE number = 2")
    store = opened()

    store.end([store.find(["s2"])["s2"].number])

    assert store.find(["s2"]) == {}
    store.create([session(2)])


def test_a_session_without_a_time_of_use_is_whole_and_gets_one(filled, opened, path) -> None:
    change(path, "DELETE FROM uses")
    store = opened()
    assert store.find(["s2"])["s2"].used_s == 0.0

    store.write(batch([2], row=0, step=12, used_s=CREATED_S + 1))

    assert store.find(["s2"])["s2"].used_s == CREATED_S + 1


@pytest.mark.parametrize("used_s", [-1e300, -5.0])
def test_an_impossible_time_of_use_expires_the_session(used_s: float, filled, opened, path) -> None:
    change(path, "UPDATE uses SET used_s = ? WHERE number = 2", used_s)

    (expired,) = opened().expire(0.0, 10, set())

    assert expired.session_id == "s2"


@pytest.mark.parametrize("value", [None, "text"])
def test_a_missing_count_is_told(value: str | None, filled, opened, path) -> None:
    change(path, "UPDATE meta SET value = ? WHERE key = 'sessions'", value)

    with pytest.raises(StoreUnavailable, match=r"sessions\.db: the number of sessions is missing"):
        opened().count()


@pytest.mark.parametrize("table", ["state_1", "sessions", "session_by_id"])
def test_a_page_that_cannot_be_read_costs_its_own_rows_only(table: str, opened, path) -> None:
    store = opened()
    store.create([session(n) for n in range(1, 3001)])
    for start in range(1, 3001, 500):
        store.write(batch(range(start, start + 500), row=0, step=5))
        store.write(batch(range(start, start + 500), row=1, step=9))
    store.close()
    break_leaf(path, table)
    store = opened()

    found = store.find([f"s{n}" for n in range(1, 3001)])

    whole = [s for s in found.values() if not s.damage]
    assert len(found) == 3000
    assert 0 < len(found) - len(whole) < 2900
    assert all(s.steps == (5, 9) for s in whole)
    wanted = [(n, f"s{n}", 1) for n in range(1, 3001)]
    states = store.read(wanted, MODEL)
    assert all(s in (None, state(n, 9)) for (n, _, _), s in zip(wanted, states, strict=True))
    assert sum(s is not None for s in states) > 50
    store.check_writable()


def break_leaf(path: Path, table: str) -> None:
    """Overwrite the header of one leaf page of a table or an index."""
    connection = sqlite3.connect(path)
    ((root,),) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,))
    ((page_bytes,),) = connection.execute("PRAGMA page_size")
    connection.close()
    with path.open("r+b") as file:
        file.seek((root - 1) * page_bytes + 12)  # the first cell of the inner page, by its pointer
        (cell,) = struct.unpack(">H", file.read(2))
        file.seek((root - 1) * page_bytes + cell)
        (leaf,) = struct.unpack(">I", file.read(4))
        file.seek((leaf - 1) * page_bytes)
        file.write(b"\xff" * 64)
