"""The bytes in which a state or an answer is kept: a header that says whose it is, and the content itself.

A record is `header + content`. The header holds everything that makes a content the right one, and a checksum
over all of it, the session's id included; so a record that was damaged, cut short, put under another
session or written for another model is found out when it is read, whatever the medium did.

Pure functions over many records at a time. Only the stores call them.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tidegate.session.stores.changes import ModelKey, StateBatch
from tidegate.tensor import BoolArray, IntArray

STATE = b"TGST"
ANSWER = b"TGAN"
"""What a record holds, in its first bytes."""

FORMAT_VERSION = 1

HEADER = np.dtype(
    [
        ("magic", "S4"),
        ("crc32", "<u4"),  # of everything behind it, seeded with the crc32 of the session's id
        ("format", "<u4"),
        ("content_bytes", "<u4"),
        ("number", "<i8"),
        ("step", "<i8"),
        ("epoch", "<i8"),
        ("model_sha256", "V32"),
    ]
)
HEADER_BYTES = HEADER.itemsize
CHECKED_FROM = 8
"""Offset of the first byte that the checksum covers."""


class Found(NamedTuple):
    """A record as it was found in a store, and whose it should be.

    Attributes:
        record: Header and content.
        number: Session number that it was found under.
        session_id: Of that session.
        model: That the session is pinned to.
    """

    record: bytes
    number: int
    session_id: str
    model: ModelKey


class Checked(NamedTuple):
    """What the headers of n records say; steps and epochs mean something where there is no damage.

    Attributes:
        steps: int64, shape (n,).
        epochs: int64, shape (n,).
        damage: By position, why a record must not be used.
    """

    steps: IntArray
    epochs: IntArray
    damage: dict[int, str]


def pack(batch: StateBatch) -> NDArray[np.uint8]:
    """Make records of states.

    Returns:
        One record per state, uint8, shape (n, HEADER_BYTES + state_bytes).
    """
    num_rows, state_bytes = batch.states.shape
    records = np.empty((num_rows, HEADER_BYTES + state_bytes), np.uint8)
    headers = _headers(batch, STATE)
    headers["content_bytes"] = state_bytes
    records[:, :HEADER_BYTES] = headers.view(np.uint8).reshape(num_rows, HEADER_BYTES)
    records[:, HEADER_BYTES:] = batch.states
    checksums = [
        zlib.crc32(checked, zlib.crc32(session_id.encode()))
        for checked, session_id in zip(records[:, CHECKED_FROM:], batch.session_ids, strict=True)
    ]
    records[:, 4:CHECKED_FROM] = np.array(checksums, "<u4").view(np.uint8).reshape(num_rows, 4)
    return records


def pack_answers(batch: StateBatch) -> list[bytes]:
    """Make records of the answers of a batch, in their order."""
    headers = _headers(batch, ANSWER)[list(batch.answers)]
    headers["content_bytes"] = [len(answer) for answer in batch.answers.values()]
    packed = []
    for header, (i, answer) in zip(headers, batch.answers.items(), strict=True):
        checked = header.tobytes()[CHECKED_FROM:] + answer
        crc32 = zlib.crc32(checked, zlib.crc32(batch.session_ids[i].encode()))
        packed.append(ANSWER + crc32.to_bytes(4, "little") + checked)
    return packed


def check(found: Sequence[Found], kind: bytes) -> Checked:
    """Hold records against what they should be.

    Args:
        found: Records.
        kind: STATE or ANSWER.
    """
    sizes = np.array([len(f.record) for f in found], np.int64)
    heads = b"".join(f.record[:HEADER_BYTES].ljust(HEADER_BYTES, b"\0") for f in found)
    headers = np.frombuffer(heads, HEADER)
    numbers = np.array([f.number for f in found], np.int64)
    models = np.frombuffer(b"".join(bytes.fromhex(f.model.sha256) for f in found), "V32")
    formats = headers["format"]
    faults: list[tuple[BoolArray, str]] = [
        (sizes < HEADER_BYTES, "is cut short"),
        (headers["magic"] != kind, "is another kind of record"),
        (formats != FORMAT_VERSION, f"has a format other than {FORMAT_VERSION}"),
        (headers["content_bytes"] != sizes - HEADER_BYTES, "has another length than it says"),
        (headers["model_sha256"] != models, "is of another model"),
        (headers["number"] != numbers, "is of another session"),
        (headers["crc32"] != _checksums(found), "fails its checksum"),
    ]
    damage: dict[int, str] = {}
    for mask, text in faults:
        for i in np.flatnonzero(mask).tolist():
            damage.setdefault(i, text)
    return Checked(headers["step"], headers["epoch"], damage)


def content_of(record: bytes) -> bytes:
    """The state or answer in a record that has been checked."""
    return record[HEADER_BYTES:]


def _headers(batch: StateBatch, kind: bytes) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    """Headers but for lengths and checksums, shape (n,)."""
    headers = np.zeros(len(batch), HEADER)
    headers["magic"] = kind
    headers["format"] = FORMAT_VERSION
    headers["number"] = batch.numbers
    headers["step"] = batch.steps
    headers["epoch"] = batch.epochs
    headers["model_sha256"] = np.void(bytes.fromhex(batch.model.sha256))
    return headers


def _checksums(found: Sequence[Found]) -> NDArray[np.uint32]:
    checksums = (
        zlib.crc32(memoryview(f.record)[CHECKED_FROM:], zlib.crc32(f.session_id.encode())) for f in found
    )
    return np.fromiter(checksums, np.uint32, len(found))
