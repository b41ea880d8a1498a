"""A snapshot: one session's state as bytes that any server with the same model version takes.

    prefix    24 bytes: magic, format version, length of the header, length of the states
    header    JSON: the model version, the session, its next step, and what the states are
    states    the tensors of the header in order, little-endian, in C order
    checksum  32 bytes: SHA-256 of everything before

docs/protocol.md describes it for readers elsewhere. The prefix stays as it is in every format, so an older
server can say that a snapshot is too new for it. Pure functions.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tidegate.config import first_problem
from tidegate.errors import InvalidRequest
from tidegate.model.manifest import Manifest, ModelName, VersionNumber
from tidegate.session.stores.changes import ModelKey
from tidegate.tensor import DType, format_shape, num_elements

MAGIC = b"\x89TGS\r\n\x1a\n"
"""As PNG's: a transfer that takes the bytes for text shows in the first eight."""

FORMAT_VERSION = 1

PREFIX = struct.Struct("<8sIIQ")
CHECKSUM_BYTES = hashlib.sha256().digest_size

MAX_NEXT_STEP = 2**62
"""Leaves room to go on from: steps are counted in int64."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Tensor(_Part):
    """One state pair of the manifest; `name` is its `input_name`, `shape` that of one step of one session."""

    name: str
    dtype: Annotated[DType, Field(strict=False)]
    shape: tuple[Annotated[int, Field(ge=1)], ...]

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} {format_shape(self.shape)}"

    @property
    def num_bytes(self) -> int:
        """Length of its elements."""
        return num_elements(self.shape) * self.dtype.numpy.itemsize


class _Model(_Part):
    name: ModelName
    version: VersionNumber
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Header(_Part):
    model: _Model
    session_id: str
    next_step: Annotated[int, Field(ge=0, le=MAX_NEXT_STEP)]
    states: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A session as it was between two batches.

    Attributes:
        model: The version that it was pinned to.
        session_id: Its id.
        next_step: Steps applied.
        tensors: What `state` is made of.
        state: Their elements, one behind the other; as `StateBatch.states` has them.
    """

    model: ModelKey
    session_id: str
    next_step: int
    tensors: tuple[Tensor, ...]
    state: bytes


def tensors_of(manifest: Manifest) -> tuple[Tensor, ...]:
    """What the state of a version's sessions is made of."""
    return tuple(Tensor(name=p.input_name, dtype=p.dtype, shape=p.step_shape) for p in manifest.states)


def pack(snapshot: Snapshot) -> bytes:
    """Write a snapshot."""
    header = _Header(
        model=_Model.model_validate(snapshot.model._asdict()),
        session_id=snapshot.session_id,
        next_step=snapshot.next_step,
        states=snapshot.tensors,
    )
    text = header.model_dump_json().encode()
    prefix = PREFIX.pack(MAGIC, FORMAT_VERSION, len(text), len(snapshot.state))
    body = prefix + text + snapshot.state
    return body + hashlib.sha256(body).digest()


def unpack(data: bytes) -> Snapshot:
    """Read a snapshot.

    Raises:
        InvalidRequest: It is none, of another format, cut short or damaged; says which.
    """
    text_bytes, state_bytes = _read_prefix(data)
    end = len(data) - CHECKSUM_BYTES
    if hashlib.sha256(memoryview(data)[:end]).digest() != data[end:]:
        raise InvalidRequest("snapshot: fails its checksum: it was damaged")
    text_end = PREFIX.size + text_bytes
    try:
        header = _Header.model_validate_json(data[PREFIX.size : text_end])
    except ValidationError as error:
        raise InvalidRequest(f"snapshot: header: {first_problem(error)}") from error
    said_bytes = sum(tensor.num_bytes for tensor in header.states)
    if said_bytes != state_bytes:
        raise InvalidRequest(
            f"snapshot: states: expected {said_bytes} bytes by the header, got {state_bytes}"
        )
    model = ModelKey(header.model.name, header.model.version, header.model.sha256)
    return Snapshot(model, header.session_id, header.next_step, header.states, data[text_end:end])


def _read_prefix(data: bytes) -> tuple[int, int]:
    """The lengths of the header and of the states, which `data` has."""
    if not data.startswith(MAGIC):
        raise InvalidRequest(f"snapshot: expected one of tidegate, got other bytes ({len(data)})")
    if len(data) < PREFIX.size:
        raise InvalidRequest(f"snapshot: cut short: expected more than {PREFIX.size} bytes, got {len(data)}")
    _, version, text_bytes, state_bytes = PREFIX.unpack_from(data)
    if version != FORMAT_VERSION:
        raise InvalidRequest(f"snapshot: expected format {FORMAT_VERSION}, got {version}")
    expected = PREFIX.size + text_bytes + state_bytes + CHECKSUM_BYTES
    if len(data) < expected:
        raise InvalidRequest(f"snapshot: cut short: expected {expected} bytes, got {len(data)}")
    if len(data) > expected:
        raise InvalidRequest(f"snapshot: damaged: expected {expected} bytes, got {len(data)}")
    return text_bytes, state_bytes
