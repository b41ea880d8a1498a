"""Messages of `SessionService.Stream` as bytes, made and read at little cost to the load generator.

A frame is serialised once; then only its lists are overwritten in place, because packed fixed-width
fields and byte strings lie in the message as plain little-endian arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.errors import BenchError
from tidegate.v1 import stream_pb2 as pb
from tidegate.v1.model_pb2 import ModelVersion

METHOD = "/tidegate.v1.SessionService/Stream"

Handles = NDArray[np.uint32]
Steps = NDArray[np.uint64]
Rows = NDArray[np.int64]

_NOISE_LENGTH = 1 << 16
_NOISE_STRIDE = 97
_TYPICAL_US = 200


class FrameTemplate:
    """One frame in flight, sent again and again with other rows and values.

    Attributes:
        rows: Who is in it now: positions among the stream's sessions.
        sent_s: When it was sent last, by `time.perf_counter`.
    """

    def __init__(self, frame_id: int, *, num_rows: int, num_steps: int, features: int) -> None:
        num_values = num_rows * num_steps * features
        handles = b"\xa1" * 4 * num_rows
        first_steps = b"\xb2" * 8 * num_rows
        inputs = b"\xc3" * 4 * num_values
        frame = pb.Frame(
            frame_id=frame_id,
            handles=np.frombuffer(handles, "<u4").tolist(),
            num_steps=num_steps,
            first_steps=np.frombuffer(first_steps, "<u8").tolist(),
            inputs=[inputs],
        )
        message = bytearray(pb.StreamRequest(frame=frame).SerializeToString())
        self._message = message
        self._handles = np.frombuffer(message, "<u4", num_rows, message.index(handles))
        self._first_steps = np.frombuffer(message, "<u8", num_rows, message.index(first_steps))
        self._inputs = np.frombuffer(message, "<f4", num_values, message.index(inputs))
        self._noise = np.random.default_rng(frame_id).standard_normal(num_values + _NOISE_LENGTH, np.float32)
        self._start = 0
        self.rows: Rows = np.empty(0, np.int64)
        self.sent_s = 0.0

    def fill(self, handles: Handles, first_steps: Steps) -> bytes:
        """The message for these rows, with values that differ from the last time's.

        Args:
            handles: Shape (num_rows,).
            first_steps: Number of each row's first step, shape (num_rows,).
        """
        self._handles[:] = handles
        self._first_steps[:] = first_steps
        self._inputs[:] = self._noise[self._start : self._start + len(self._inputs)]
        self._start = (self._start + _NOISE_STRIDE) % _NOISE_LENGTH
        return bytes(self._message)


class Result(NamedTuple):
    """What a load generator needs to know of an answer.

    Attributes:
        frame_id: Which frame.
        num_row_steps: Steps answered, summed over the rows.
        complete: It is the frame's last answer.
    """

    frame_id: int
    num_row_steps: int
    complete: bool


def read_result(message: bytes, num_rows: int) -> Result:
    """Read an answer to a frame.

    Args:
        message: A StreamResponse.
        num_rows: Rows of the frame.

    Raises:
        BenchError: It is no answer, or it carries an error.
    """
    response = pb.StreamResponse.FromString(message)
    result = response.result
    if response.WhichOneof("message") != "result" or result.errors:
        raise BenchError(f"expected answers without errors, got: {str(response)[:1000]}")
    return Result(result.frame_id, result.num_steps * (len(result.rows) or num_rows), result.complete)


def result_bytes(num_rows: int, num_steps: int = 1, outputs: int = 1) -> int:
    """Length of the message that answers a frame in one piece."""
    values = np.zeros(num_rows * num_steps * outputs, "<f4")
    result = pb.FrameResult(
        frame_id=1,
        num_steps=num_steps,
        outputs=[values.tobytes()],
        complete=True,
        queue_us=_TYPICAL_US,
        run_us=_TYPICAL_US,
    )
    return pb.StreamResponse(result=result).ByteSize()


def open_message(model: str, session_ids: Sequence[str]) -> bytes:
    """A message that creates sessions."""
    message = pb.Open(
        open_id=1,
        model=ModelVersion(name=model),
        mode=pb.OPEN_MODE_CREATE,
        session_ids=session_ids,
    )
    return pb.StreamRequest(open=message).SerializeToString()


def read_opened(message: bytes) -> Handles:
    """The handles of sessions that were created, shape (n,).

    Raises:
        BenchError: One of them was refused.
    """
    response = pb.StreamResponse.FromString(message)
    if response.WhichOneof("message") != "opened" or response.opened.errors:
        raise BenchError(f"expected opened sessions, got: {str(response)[:1000]}")
    return np.array(response.opened.handles, np.uint32)


def end_message(handles: Handles) -> bytes:
    """A message that ends sessions."""
    close = pb.Close(close_id=1, mode=pb.CLOSE_MODE_END, handles=handles.tolist())
    return pb.StreamRequest(close=close).SerializeToString()


def check_closed(message: bytes) -> None:
    """Raise BenchError unless the message says that sessions were closed without an error."""
    response = pb.StreamResponse.FromString(message)
    if response.WhichOneof("message") != "closed" or response.closed.errors:
        raise BenchError(f"expected closed sessions, got: {str(response)[:1000]}")
