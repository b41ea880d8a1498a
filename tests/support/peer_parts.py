"""What a foreign server and the tests that script it share: its model, its errors, what it has seen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2

from tidegate.v1 import model_pb2
from tidegate.v1 import stream_pb2 as pb
from tidegate.v1.error_pb2 import Error

VERSION = model_pb2.ModelVersion(name="sum", version="1", sha256="00ff")

_TENSOR = {"data_type": model_pb2.DATA_TYPE_FLOAT32}
MODEL = model_pb2.Model(
    version=VERSION,
    state=model_pb2.MODEL_STATE_READY,
    inputs=[model_pb2.TensorSpec(name="x", **_TENSOR)],
    outputs=[model_pb2.TensorSpec(name="y", **_TENSOR)],
)


class Cut(Exception):
    """Ends the stream with a status, as a server or a proxy does."""

    def __init__(self, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE) -> None:
        super().__init__()
        self.code = code


def refusal(code: str, reason: str, *, retry_after_s: float | None = None, **facts: int) -> Error:
    """An error as the wire has it."""
    error = Error(code=code_pb2.Code.Value(code), reason=reason, message=f"{reason} by the peer", **facts)
    if retry_after_s is not None:
        error.retry_after.CopyFrom(Duration(nanos=int(retry_after_s * 1e9)))
    return error


@dataclass
class Resume:
    """A resume, as the peer got it."""

    session_id: str
    have: int
    held_from: int
    epoch: int
    attempt: int
    client_instance: bytes


@dataclass
class PeerStream:
    """One stream; `write` and `read` are the wire's."""

    read: Callable[[], Any]
    write: Callable[[pb.StreamResponse], Any]
    number: int
    ids: dict[int, str] = field(default_factory=dict)
    num_frames: int = 0
    ends: asyncio.Event = field(default_factory=asyncio.Event)
    has_ended: asyncio.Event = field(default_factory=asyncio.Event)

    def handle_of(self, session_id: str) -> int:
        """The handle that a session has on this stream."""
        return next(handle for handle, name in self.ids.items() if name == session_id)
