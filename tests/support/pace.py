"""Keeps many feeders of one test in step, so that what is done to the server hits all of them."""

from __future__ import annotations

import asyncio

NOTCHES = 400
"""Movements that are told in the course of all rows: more would cost more than the rows themselves."""


class Pace:
    """How far feeders are, and how far they may go, as parts of the whole in [0, 1].

    Attributes:
        num_done: Rows that were answered to the feeders that count.
    """

    def __init__(self, num_rows: int, limit: float = 1.0) -> None:
        """Begin.

        Args:
            num_rows: Rows of the feeders that count.
            limit: How far all may go at first.
        """
        self.num_done = 0
        self._num_rows = num_rows
        self._limit = limit
        self._moved = asyncio.Event()

    @property
    def done(self) -> float:
        """The part that is answered."""
        return self.num_done / self._num_rows

    def release(self, limit: float) -> None:
        """Let all go this far."""
        self._limit = limit
        self._tell()

    def count(self, num_rows: int) -> None:
        """Rows were answered."""
        before = self.num_done * NOTCHES // self._num_rows
        self.num_done += num_rows
        if self.num_done * NOTCHES // self._num_rows != before:
            self._tell()

    async def allowed(self, part: float) -> None:
        """Wait until feeders may go this far."""
        while part > self._limit:
            await self._moved.wait()

    async def reached(self, part: float) -> None:
        """Wait until so much is answered."""
        while self.done < part:
            await self._moved.wait()

    def _tell(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()
