"""The far end of a stream as the load generator sees it: tidegate, or the echo that stands for it."""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

import numpy as np

from bench import wire
from bench.wire import Handles, Result

OPEN_PIECE = 65536
"""Sessions in one open message; the server's default limit."""


class Peer(Protocol):
    """The server's side of one stream, as the load generator sees it."""

    async def open(self, call: Any, session_ids: list[str]) -> Handles:
        """Create sessions."""

    def sent(self, frame_id: int) -> None:
        """A frame is on its way."""

    def read(self, message: bytes) -> Result:
        """Read an answer."""


class TidegatePeer:
    """Opens real sessions and checks every answer."""

    def __init__(self, model: str, num_rows: int) -> None:
        self._model = model
        self._num_rows = num_rows

    async def open(self, call: Any, session_ids: list[str]) -> Handles:
        """Create sessions, as many per message as the server takes."""
        starts = range(0, len(session_ids), OPEN_PIECE)
        for start in starts:
            await call.write(wire.open_message(self._model, session_ids[start : start + OPEN_PIECE]))
        return np.concatenate([wire.read_opened(await call.read()) for _ in starts])

    def sent(self, frame_id: int) -> None:
        """The answer will say which frame it is for."""

    def read(self, message: bytes) -> Result:
        """Read an answer; raises BenchError if it carries an error."""
        return wire.read_result(message, self._num_rows)


class EchoPeer:
    """Has no sessions and answers in order."""

    def __init__(self, num_row_steps: int) -> None:
        self._num_row_steps = num_row_steps
        self._in_flight: deque[int] = deque()

    async def open(self, call: Any, session_ids: list[str]) -> Handles:  # noqa: ARG002 - as the protocol has it
        """Give out handles that nobody knows."""
        return np.arange(1, len(session_ids) + 1, dtype=np.uint32)

    def sent(self, frame_id: int) -> None:
        """Remember the order."""
        self._in_flight.append(frame_id)

    def read(self, message: bytes) -> Result:  # noqa: ARG002
        """The oldest frame has been answered."""
        return Result(self._in_flight.popleft(), self._num_row_steps, True)
