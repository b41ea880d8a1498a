"""Which of a stream's stateless requests may run: those whose answers can be sent.

Windows run on slots that they borrow, and whoever has borrowed slots runs to the end, whether or not its client reads
what it is answered; else one client that reads nothing would keep all others from the slots. So a request begins only
while the stream's answers are being read, and while not many of them are being made.

Only the event loop's thread calls this.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tidegate.engine.frame import Source

ROOM_BYTES = 1024 * 1024
"""Answers of one stream that are being made; one that is larger is made alone."""


class AnswerRoom:
    """Room for the answers that are being made for one stream."""

    def __init__(self, source: Source) -> None:
        """All of it is free.

        Args:
            source: The stream's; it is congested while much lies unsent.
        """
        self._source = source
        self._num_bytes = 0
        self._changed = asyncio.Event()
        self._first = asyncio.Lock()

    @asynccontextmanager
    async def take(self, num_bytes: int) -> AsyncIterator[None]:
        """Make an answer of so many bytes, in the order of asking, once there is room for it."""
        async with self._first:
            while self._source.congested or (self._num_bytes and self._num_bytes + num_bytes > ROOM_BYTES):
                self._changed.clear()
                await self._changed.wait()
            self._num_bytes += num_bytes
        try:
            yield
        finally:
            self._num_bytes -= num_bytes
            self._changed.set()

    def look_again(self) -> None:
        """Answers are being read again."""
        self._changed.set()
