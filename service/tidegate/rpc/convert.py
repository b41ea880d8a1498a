"""Between protobuf messages and what the layers below speak: plain values and arrays.

Packed lists become arrays and back in one call each; no object is made per row.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray

from tidegate.errors import InvalidRequest, TidegateError
from tidegate.model.manifest import Manifest
from tidegate.protocol.outputs import OutputSelection
from tidegate.protocol.resume import NO_EPOCH
from tidegate.rpc.status import to_error
from tidegate.session.frames import Answer, FrameRequest
from tidegate.session.handles import HandleArray
from tidegate.session.limits import SessionLimits
from tidegate.session.open_request import OpenMode, OpenRequest, OpenResult
from tidegate.session.stores.changes import ModelKey
from tidegate.session.stream import Notice
from tidegate.tensor import Array, IntArray
from tidegate.v1 import model_pb2, stream_pb2
from tidegate.v1.error_pb2 import IndexedError

N = TypeVar("N", bound=np.integer[Any])

MAX_STEP = 2**63 - 1
"""Step numbers are kept as int64."""

_SELECTIONS = {0: OutputSelection.ALL, **{int(s): s for s in OutputSelection}}

FEW = 64
"""Up to this length a packed list is read faster one by one than as a whole."""


def frame_request(frame: stream_pb2.Frame, arrived_s: float) -> FrameRequest:
    """Read a frame.

    Raises:
        InvalidRequest: A number that no frame can have.
    """
    return FrameRequest(
        frame_id=frame.frame_id,
        handles=handle_array(frame.handles),
        num_steps=frame.num_steps,
        first_steps=step_array("first_steps", frame.first_steps),
        inputs=list(frame.inputs),
        outputs=output_selection(frame.outputs),
        time_limit_s=frame.time_limit_us / 1e6 if frame.HasField("time_limit_us") else None,
        arrived_s=arrived_s,
    )


def open_request(message: stream_pb2.Open) -> OpenRequest:
    """Read an open.

    Raises:
        InvalidRequest: The mode is not set, or a list has another length than the sessions.
    """
    count = len(message.session_ids)
    return OpenRequest(
        model=message.model.name,
        version=message.model.version,
        sha256=message.model.sha256,
        mode=open_mode(message.mode),
        session_ids=list(message.session_ids),
        have=_optional_steps("have", message.have, count),
        held_from=_optional_steps("held_from", message.held_from, count),
        epochs=_epochs(message.epochs, count),
        client_instance=message.client_instance,
        attempt=message.attempt,
    )


def open_mode(mode: int) -> OpenMode:
    """Read the way of opening.

    Raises:
        InvalidRequest: It is not one of the enum's.
    """
    try:
        return OpenMode(mode)
    except ValueError:
        raise InvalidRequest(f"mode: expected CREATE, RESUME or CREATE_OR_RESUME, got {mode}") from None


def output_selection(selection: int) -> OutputSelection:
    """Read which answers are wanted; unset means all.

    Raises:
        InvalidRequest: It is not one of the enum's.
    """
    known = _SELECTIONS.get(selection)
    if known is None:
        raise InvalidRequest(f"outputs: expected ALL, LAST or NONE, got {selection}")
    return known


def handle_array(handles: Sequence[int]) -> HandleArray:
    """Packed handles as an array, shape (n,)."""
    return _read(handles, np.uint32)


def step_array(field: str, steps: Sequence[int]) -> IntArray:
    """Packed step numbers as an array, shape (n,).

    Raises:
        InvalidRequest: A number is beyond `MAX_STEP`.
    """
    # As a whole a packed list gives its own type, which wraps without a word when it is cast.
    numbers = _read(steps, np.uint64)
    highest = numbers.item() if len(numbers) == 1 else numbers.max(initial=0)
    if highest > MAX_STEP:
        raise InvalidRequest(f"{field}: expected step numbers up to {MAX_STEP}, got {highest}")
    return numbers.view(np.int64)


def fill_result(result: stream_pb2.FrameResult, answer: Answer) -> None:
    """Write an answer into an empty message, where it stands: a message that is put into another is copied."""
    result.frame_id = answer.frame_id
    result.step_offset = answer.step_offset
    result.num_steps = answer.num_steps
    result.complete = answer.complete
    result.queue_us = _microseconds(answer.queue_s)
    result.run_us = _microseconds(answer.run_s)
    for output in answer.outputs:
        result.outputs.append(raw_bytes(output))
    if answer.rows is not None:
        result.rows.extend(answer.rows.tolist())
    if answer.errors:
        result.errors.extend(indexed_error(i, e) for i, e in answer.errors.items())


def opened(open_id: int, result: OpenResult, limits: SessionLimits, *, durable: bool) -> stream_pb2.Opened:
    """The message for opened sessions; all numbers have one entry per session asked for."""
    models = list(dict.fromkeys(m for m in result.models if m is not None))
    index = {model: i for i, model in enumerate(models)}
    return stream_pb2.Opened(
        open_id=open_id,
        models=[model_version(m.manifest) for m in models],
        model_index=[index[m] if m else 0 for m in result.models] if len(models) > 1 else None,
        handles=result.handles,
        next_steps=result.next_steps,
        durable_steps=result.durable_steps,
        epochs=result.epochs,
        errors=[indexed_error(i, e) for i, e in result.errors.items()],
        limits=stream_pb2.Limits(
            max_frame_rows=limits.max_frame_rows,
            max_frame_steps=limits.max_frame_steps,
            max_message_bytes=limits.max_message_bytes,
            max_frames_in_flight=limits.max_frames_in_flight,
            max_open_sessions=limits.max_open_sessions,
            durable=durable,
        ),
    )


def durable_message(handles: HandleArray, steps: IntArray) -> stream_pb2.Durable:
    """The message that says how far sessions are in the store."""
    return stream_pb2.Durable(handles=handles.tolist(), steps=steps.tolist())


def notice_message(notice: Notice) -> stream_pb2.Notice:
    """The message for a notice."""
    return stream_pb2.Notice(
        reason=stream_pb2.NoticeReason.ValueType(notice.reason),
        handles=notice.handles.tolist(),
        next_steps=notice.next_steps.tolist(),
        message=notice.message,
    )


def indexed_error(index: int, error: TidegateError) -> IndexedError:
    """The message for the error of one row or session."""
    return IndexedError(index=index, error=to_error(error))


def model_version(model: Manifest | ModelKey) -> model_pb2.ModelVersion:
    """Name, version and hash of a version."""
    return model_pb2.ModelVersion(name=model.name, version=model.version, sha256=model.sha256)


def raw_bytes(values: Array) -> bytes:
    """Elements in C order; all arrays of ours are little-endian."""
    return values.tobytes()


def timestamp(unix_s: float) -> Timestamp:
    """A moment, as protobuf has it."""
    return Timestamp(seconds=int(unix_s), nanos=int(unix_s % 1 * 1e9))


def now_s() -> float:
    """Monotonic seconds, on the engines' clock."""
    return time.monotonic()


def _read(numbers: Sequence[int], dtype: type[N]) -> NDArray[N]:
    if len(numbers) == 1:
        return np.array((numbers[0],), dtype)
    return np.array(numbers, dtype) if len(numbers) > FEW else np.fromiter(numbers, dtype)


def _optional_steps(field: str, steps: Sequence[int], count: int) -> list[int | None]:
    if len(steps) not in (0, count):
        raise InvalidRequest(f"{field}: expected none or one per session ({count}), got {len(steps)}")
    return [None] * count if not steps else [s if s >= 0 else None for s in steps]


def _epochs(epochs: Sequence[int], count: int) -> list[int]:
    if len(epochs) not in (0, count):
        raise InvalidRequest(f"epochs: expected none or one per session ({count}), got {len(epochs)}")
    too_large = [epoch for epoch in epochs if epoch > MAX_STEP]
    if too_large:
        raise InvalidRequest(f"epochs: expected numbers up to {MAX_STEP}, got {too_large[0]}")
    return list(epochs) or [NO_EPOCH] * count


def _microseconds(seconds: float) -> int:
    return min(int(seconds * 1e6), 2**32 - 1)
