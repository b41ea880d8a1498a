"""What leaves a stream next, and which call an answer belongs to.

Opens and closes go first. Calls take turns, one frame each, and a call may have only a few frames
under way, so a long history delays nobody who feeds one step. The number of frames under way stays
within what the server allows; the rest waits here, uncut.

No I/O: the stream asks for messages to write and reports what it read. Not thread-safe.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from itertools import count

from tidegate.client.errors import from_message
from tidegate.errors import InternalError, TidegateError
from tidegate.protocol.tracking import FrameCaps, StepCall, Tile
from tidegate.tensor import IntArray
from tidegate.v1 import stream_pb2 as pb

MAX_CALL_FRAMES = 4
"""Frames of one call under way at a time: enough to keep the server busy while answers travel."""

MAX_FRAME_BYTES = 1024 * 1024
"""A frame aims to stay below this, so that a live step behind it does not wait long for the wire."""


class PendingCall:
    """A call on its way.

    Attributes:
        account: What it has sent and got.
        done: Becomes done, never an error, once nothing of the call is under way any more.
        failure: Why the call ended early; None when every frame was answered.
        is_abandoned: Its caller has left (timeout, cancellation) before the answer.
    """

    def __init__(self, account: StepCall, handles: IntArray, on_done: Callable[[PendingCall], None]) -> None:
        self.account = account
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.failure: TidegateError | None = None
        self.is_abandoned = False
        self._handles = handles
        self._on_done = on_done
        self._frames_under_way = 0
        self._has_left = False

    @property
    def may_send(self) -> bool:
        """Whether another of its frames may be under way."""
        return not self._has_left and self._frames_under_way < MAX_CALL_FRAMES

    def next_frame(self, caps: FrameCaps, frame_id: int) -> tuple[pb.Frame, Tile] | None:
        """Cut off the next frame; None when all have left."""
        tile = self.account.next_tile(caps)
        if tile is None:
            self._has_left = True
            self._finish_if_answered()
            return None
        self._frames_under_way += 1
        frame = pb.Frame(
            frame_id=frame_id,
            handles=self._handles[tile.rows].tolist(),
            num_steps=tile.num_steps,
            first_steps=(self.account.first_steps[tile.rows] + tile.offset).tolist(),
            inputs=self.account.tile_inputs(tile),
            outputs=pb.OutputSelection.ValueType(tile.selection),
        )
        return frame, tile

    def frame_answered(self) -> None:
        """One frame less is under way."""
        self._frames_under_way -= 1
        self._finish_if_answered()

    def fail(self, error: TidegateError) -> None:
        """End the call: nothing of it will be answered any more."""
        self.failure = error
        self._finish()

    def _finish_if_answered(self) -> None:
        if self._has_left and self._frames_under_way == 0:
            self._finish()

    def _finish(self) -> None:
        if not self.done.done():
            self._on_done(self)
            self.done.set_result(None)


class Outbox:
    """Everything that waits to be sent or answered on one stream."""

    def __init__(self) -> None:
        self._control: deque[pb.StreamRequest] = deque()
        self._calls: deque[PendingCall] = deque()
        self._frames: dict[int, tuple[PendingCall, Tile]] = {}
        self._frame_ids = count(1)
        self._caps = FrameCaps(max_rows=1, max_steps=1, max_bytes=1)
        self._max_frames = 1

    def set_limits(self, limits: pb.Limits) -> None:
        """Keep within what the server accepts from now on."""
        self._max_frames = max(1, limits.max_frames_in_flight)
        # Half of a message is left for handles and step numbers, and for the answer's own overhead.
        max_bytes = min(MAX_FRAME_BYTES, limits.max_message_bytes // 2)
        self._caps = FrameCaps(limits.max_frame_rows, limits.max_frame_steps, max_bytes)

    def put_control(self, request: pb.StreamRequest) -> None:
        """Queue an open or a close."""
        self._control.append(request)

    def put_call(self, call: PendingCall) -> None:
        """Queue a call."""
        self._calls.append(call)

    def next_message(self) -> pb.StreamRequest | None:
        """What to write now; None when nothing may leave until something is put or answered."""
        if self._control:
            return self._control.popleft()
        while self._calls and len(self._frames) < self._max_frames:
            call = self._calls.popleft()
            frame_id = next(self._frame_ids)
            cut = call.next_frame(self._caps, frame_id)
            if cut is None:
                continue
            frame, tile = cut
            self._frames[frame_id] = (call, tile)
            if call.may_send:
                self._calls.append(call)
            return pb.StreamRequest(frame=frame)
        return None

    def take_result(self, result: pb.FrameResult) -> None:
        """Enter a result.

        Raises:
            InternalError: It belongs to no frame under way, or does not fit its frame.
        """
        call, tile = self._find(result.frame_id)
        errors = {e.index: from_message(e.error) for e in result.errors}
        call.account.take(tile, result.rows, result.step_offset, result.num_steps, result.outputs, errors)
        if result.complete:
            self._answered(result.frame_id, call)

    def refuse_frame(self, frame_id: int, error: TidegateError) -> None:
        """Enter that the server refused a frame as a whole.

        Raises:
            InternalError: It is not under way.
        """
        call, tile = self._find(frame_id)
        call.account.refuse(tile, error)
        self._answered(frame_id, call)

    def fail(self, error: TidegateError) -> None:
        """End every call: the stream is gone."""
        calls = {id(call): call for call in (*self._calls, *(call for call, _ in self._frames.values()))}
        self._control.clear()
        self._calls.clear()
        self._frames.clear()
        for call in calls.values():
            call.fail(error)

    def _find(self, frame_id: int) -> tuple[PendingCall, Tile]:
        found = self._frames.get(frame_id)
        if found is None:
            raise InternalError(f"result: frame_id: expected one under way, got {frame_id}")
        return found

    def _answered(self, frame_id: int, call: PendingCall) -> None:
        del self._frames[frame_id]
        was_parked = not call.may_send
        call.frame_answered()
        if was_parked and call.may_send:
            self._calls.append(call)
