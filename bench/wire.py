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
_ACKED = b"\xd4" * 4
_ACKED_STEP = b"\xe5" * 8
"""What stands for a handle and a step in an ack until they are filled in."""


class FrameTemplate:
    """One frame in flight, sent again and again with other rows and values.

    Attributes:
        rows: Who is in it now: positions among the stream's sessions.
        sent_s: When it was sent last, by `time.perf_counter`.
    """

    def __init__(
        self, frame_id: int, *, num_rows: int, num_steps: int, features: int, acks: bool = False
    ) -> None:
        """Make the message.

        Args:
            frame_id: Its number.
            num_rows: Rows of it.
            num_steps: Steps of it.
            features: Values of one row and step.
            acks: It brings acks of the answers to the rows that it had the last time.
        """
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
            ack=_ack(num_rows) if acks else None,
        )
        message = bytearray(pb.StreamRequest(frame=frame).SerializeToString())
        self._message = message
        self._handles = np.frombuffer(message, "<u4", num_rows, message.index(handles))
        self._first_steps = np.frombuffer(message, "<u8", num_rows, message.index(first_steps))
        self._inputs = np.frombuffer(message, "<f4", num_values, message.index(inputs))
        num_acks = num_rows if acks else 0
        self._acked = np.frombuffer(message, "<u4", num_acks, message.index(_ACKED * num_acks))
        self._acked_steps = np.frombuffer(message, "<u8", num_acks, message.index(_ACKED_STEP * num_acks))
        self._num_steps = num_steps
        self._is_new = True
        self._noise = np.random.default_rng(frame_id).standard_normal(num_values + _NOISE_LENGTH, np.float32)
        self._start = 0
        self.rows: Rows = np.empty(0, np.int64)
        self.sent_s = 0.0

    def fill(self, handles: Handles, first_steps: Steps) -> bytes:
        """The message for these rows, with values that differ from the last time's, which must have been answered.

        Args:
            handles: Shape (num_rows,).
            first_steps: Number of each row's first step, shape (num_rows,).
        """
        if len(self._acked):
            self._ack_last_time(handles)
        self._handles[:] = handles
        self._first_steps[:] = first_steps
        self._inputs[:] = self._noise[self._start : self._start + len(self._inputs)]
        self._start = (self._start + _NOISE_STRIDE) % _NOISE_LENGTH
        return bytes(self._message)

    def _ack_last_time(self, handles: Handles) -> None:
        """The first time nothing has been answered, which is said of the rows that are about to go."""
        self._acked[:] = handles if self._is_new else self._handles
        self._acked_steps[:] = 0 if self._is_new else self._first_steps + np.uint64(self._num_steps)
        self._is_new = False


def _ack(num_rows: int) -> pb.Ack:
    handles, steps = np.frombuffer(_ACKED, "<u4"), np.frombuffer(_ACKED_STEP, "<u8")
    return pb.Ack(handles=handles.repeat(num_rows).tolist(), steps=steps.repeat(num_rows).tolist())


class Result(NamedTuple):
    """What a load generator needs to know of an answer.

    Attributes:
        frame_id: Which frame; 0 if it is of none, but tells what is durable.
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
    if response.WhichOneof("message") == "durable":
        return Result(0, 0, False)
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
