"""The bytes of a snapshot: whole, or refused by name."""

from __future__ import annotations

import hashlib
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.errors import InvalidRequest
from tidegate.session.snapshot import MAGIC, MAX_NEXT_STEP, Snapshot, Tensor, pack, unpack
from tidegate.session.stores.changes import ModelKey
from tidegate.tensor import DType

H = Tensor(name="h", dtype=DType.FLOAT32, shape=(1, 4))
SEEN = Tensor(name="seen", dtype=DType.INT64, shape=())
SNAPSHOT = Snapshot(ModelKey("co2", "3", "ab" * 32), "ключ 'x'", 1234, (H, SEEN), bytes(range(24)))
PACKED = pack(SNAPSHOT)


def resealed(**changes: object) -> bytes:
    """The snapshot with another header, whole and with the right checksum."""
    _, _, text_bytes, _ = struct.unpack("<8sIIQ", PACKED[:24])
    header = json.loads(PACKED[24 : 24 + text_bytes]) | changes
    text = json.dumps(header).encode()
    body = PACKED[:12] + struct.pack("<IQ", len(text), 24) + text + SNAPSHOT.state
    return body + hashlib.sha256(body).digest()


def test_a_snapshot_comes_back_as_it_was() -> None:
    assert unpack(PACKED) == SNAPSHOT


def test_a_state_of_no_tensors_is_a_snapshot_too() -> None:
    empty = Snapshot(SNAPSHOT.model, "s", 0, (), b"")

    assert unpack(pack(empty)) == empty


def test_a_reader_elsewhere_finds_everything_where_the_page_says() -> None:
    magic, version, text_bytes, state_bytes = struct.unpack_from("<8sIIQ", PACKED)
    header = json.loads(PACKED[24 : 24 + text_bytes])
    state = PACKED[24 + text_bytes : 24 + text_bytes + state_bytes]

    assert (magic, version) == (b"\x89TGS\r\n\x1a\n", 1)
    assert header == {
        "model": {"name": "co2", "version": "3", "sha256": "ab" * 32},
        "session_id": "ключ 'x'",
        "next_step": 1234,
        "states": [
            {"name": "h", "dtype": "float32", "shape": [1, 4]},
            {"name": "seen", "dtype": "int64", "shape": []},
        ],
    }
    assert state == SNAPSHOT.state
    assert hashlib.sha256(PACKED[:-32]).digest() == PACKED[-32:]


def test_whatever_is_cut_off_is_missed() -> None:
    for size in range(len(PACKED)):
        with pytest.raises(InvalidRequest, match="cut short" if size >= 8 else "expected one of tidegate"):
            unpack(PACKED[:size])


@given(st.integers(0, len(PACKED) - 1), st.integers(1, 255))
def test_every_changed_byte_is_noticed(position: int, change: int) -> None:
    damaged = bytearray(PACKED)
    damaged[position] ^= change

    with pytest.raises(InvalidRequest, match=r"^snapshot: "):
        unpack(bytes(damaged))


@given(st.binary(max_size=200).filter(lambda data: not data.startswith(MAGIC)))
def test_other_bytes_are_told_as_foreign(data: bytes) -> None:
    with pytest.raises(InvalidRequest, match="expected one of tidegate"):
        unpack(data)


def test_bytes_behind_the_end_are_refused() -> None:
    with pytest.raises(InvalidRequest, match=f"expected {len(PACKED)} bytes, got {len(PACKED) + 1}"):
        unpack(PACKED + b"\0")


def test_a_newer_format_is_told_whatever_it_holds() -> None:
    newer = PACKED[:8] + struct.pack("<I", 2) + b"all else may be different by then"

    with pytest.raises(InvalidRequest, match="expected format 1, got 2"):
        unpack(newer)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"next_step": -1}, "next_step"),
        ({"next_step": MAX_NEXT_STEP + 1}, "next_step"),
        ({"next_step": "12"}, "next_step"),
        ({"model": {"name": "co2", "version": "latest", "sha256": "ab" * 32}}, r"model\.version"),
        ({"model": {"name": "co2", "version": "3", "sha256": ""}}, r"model\.sha256"),
        ({"model": {"name": "../co2", "version": "3", "sha256": "ab" * 32}}, r"model\.name"),
        ({"states": [{"name": "h", "dtype": "float31", "shape": [6]}]}, r"states\.0\.dtype"),
        ({"states": [{"name": "h", "dtype": "float32", "shape": [-6]}]}, r"states\.0\.shape"),
        ({"states": [{"name": "h", "dtype": "float32", "shape": [5]}]}, "expected 20 bytes by the header, got 24"),
        ({"colour": "blue"}, "colour"),
    ],
)  # fmt: skip
def test_a_header_that_cannot_be_is_refused_by_name(changes: dict[str, object], text: str) -> None:
    with pytest.raises(InvalidRequest, match=text):
        unpack(resealed(**changes))


def test_a_resealed_snapshot_is_good() -> None:
    assert unpack(resealed()) == SNAPSHOT
