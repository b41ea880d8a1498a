"""What leaves a stream next, and which lane an answer belongs to.

Opens, acknowledgements and closes go first. Lanes take turns, one frame each, and a lane may have only
a few frames under way, so a long history delays nobody who feeds one step. The number of frames under
way stays within what the server allows; the rest waits in the lanes, uncut.

No I/O: the stream asks for messages to write and reports what it read. Not thread-safe.
"""

from __future__ import annotations

from collections import deque

from tidegate.client.lane import Lane
from tidegate.errors import InternalError, TidegateError
from tidegate.protocol.cutting import FrameCaps
from tidegate.v1 import stream_pb2 as pb

MAX_FRAME_BYTES = 1024 * 1024
"""A frame aims to stay below this, so that a live step behind it does not wait long for the wire."""


class Outbox:
    """Everything that waits to be sent or answered on one stream."""

    def __init__(self) -> None:
        self._control: deque[pb.StreamRequest] = deque()
        self._lanes: deque[Lane] = deque()
        self._queued: set[Lane] = set()
        self._frames: dict[int, Lane] = {}
        self._last_frame_id = 0
        self._caps = FrameCaps(max_rows=1, max_steps=1, max_bytes=1)
        self._max_frames = 1
        self.is_paused = False

    def set_limits(self, limits: pb.Limits) -> None:
        """Keep within what the server accepts from now on."""
        self._max_frames = max(1, limits.max_frames_in_flight)
        # Half of a message is left for handles and step numbers, and for the answer's own overhead.
        max_bytes = min(MAX_FRAME_BYTES, limits.max_message_bytes // 2)
        self._caps = FrameCaps(limits.max_frame_rows, limits.max_frame_steps, max_bytes)

    def put_control(self, request: pb.StreamRequest) -> None:
        """Queue an open, an acknowledgement or a close."""
        self._control.append(request)

    def put_lane(self, lane: Lane) -> None:
        """Give a lane its turn: it has something to send."""
        if lane not in self._queued:
            self._queued.add(lane)
            self._lanes.append(lane)

    def next_message(self, now_s: float) -> pb.StreamRequest | None:
        """What to write now; None when nothing may leave until something is put or answered.

        Args:
            now_s: A clock that only grows, in seconds.
        """
        if self._control:
            return self._control.popleft()
        while self._lanes and len(self._frames) < self._max_frames and not self.is_paused:
            lane = self._lanes.popleft()
            self._queued.discard(lane)
            if not lane.may_send:
                continue  # Its next answer gives it another turn.
            frame_id = self._last_frame_id + 1
            frame = lane.next_frame(frame_id, self._caps, now_s)
            if frame is None:
                continue
            self._last_frame_id = frame_id
            self._frames[frame_id] = lane
            self.put_lane(lane)
            return pb.StreamRequest(frame=frame)
        return None

    def take_result(self, result: pb.FrameResult) -> None:
        """Enter a result; one that comes a second time changes nothing.

        Raises:
            InternalError: It belongs to no frame of this stream, or does not fit its frame.
        """
        lane = self._find(result.frame_id)
        if lane is None:
            return
        if result.complete:
            del self._frames[result.frame_id]
        lane.take_result(result)
        self.put_lane(lane)

    def refuse_frame(self, frame_id: int, error: TidegateError) -> None:
        """Enter that the server refused a frame as a whole.

        Raises:
            InternalError: It belongs to no frame of this stream.
        """
        lane = self._find(frame_id)
        if lane is not None:
            del self._frames[frame_id]
            lane.refuse_frame(frame_id, error)
            self.put_lane(lane)

    def _find(self, frame_id: int) -> Lane | None:
        if not 0 < frame_id <= self._last_frame_id:
            raise InternalError(f"result: frame_id: expected one of this stream, got {frame_id}")
        return self._frames.get(frame_id)
