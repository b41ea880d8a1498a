"""The handles of one stream: small numbers that stand for sessions, resolved as arrays.

A handle is given out when a session is opened and comes back when it is closed; then it may be given
out again. A handle whose session was taken over or ended meanwhile keeps saying so until then.
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from tidegate.errors import TooManyRequests
from tidegate.session.table import SessionTable
from tidegate.tensor import IntArray, SlotArray

HandleArray = NDArray[np.uint32]

MAX_HANDLES = 1 << 24
"""Handles of one stream; a client that opens and never closes ends here."""


class HandleStatus(IntEnum):
    """What a handle stands for."""

    UNKNOWN = 0
    OPEN = 1
    DISPLACED = 2
    ENDED = 3


class HandleMap:
    """Handle → table and slot. Handle 0 is never given out.

    Attributes:
        tables: The model versions that this stream has sessions of.
    """

    def __init__(self) -> None:
        self.tables: list[SessionTable] = []
        self._status: NDArray[np.int8] = np.zeros(16, np.int8)
        self._slot: SlotArray = np.zeros(16, np.int32)
        self._table: NDArray[np.int16] = np.full(16, -1, np.int16)
        self._next = 1
        self._free: deque[int] = deque()

    def give_out(self, table: SessionTable, slots: SlotArray) -> HandleArray:
        """Name sessions; shape of `slots`.

        Raises:
            TooManyRequests: The stream has too many handles; none was given out.
        """
        handles = np.array([self._new_handle() for _ in range(len(slots))], np.uint32)
        self._reserve(self._next)
        self._status[handles] = HandleStatus.OPEN
        self._slot[handles] = slots
        self._table[handles] = self._table_number(table)
        return handles

    def status(self, handles: HandleArray) -> NDArray[np.int8]:
        """The `HandleStatus` of each handle."""
        known = handles < self._next
        return np.where(known, self._status[np.where(known, handles, 0)], np.int8(HandleStatus.UNKNOWN))

    def slots(self, handles: HandleArray) -> SlotArray:
        """The slot of each handle; all must be OPEN."""
        slots: SlotArray = self._slot[handles]
        return slots

    def table_numbers(self, handles: HandleArray) -> NDArray[np.int16]:
        """The position in `tables` of each handle's model version; all must be OPEN."""
        numbers: NDArray[np.int16] = self._table[handles]
        return numbers

    def mark(self, handles: HandleArray, status: HandleStatus) -> None:
        """The sessions are no longer this stream's."""
        self._status[handles] = status

    def take_back(self, handles: HandleArray) -> None:
        """The client has given handles back; they stand for nothing now."""
        self._status[handles] = HandleStatus.UNKNOWN
        self._free.extend(handles.tolist())

    def held(self) -> list[tuple[SessionTable, IntArray]]:
        """Per model version, the handles of the sessions that the stream still holds."""
        held = self._status[: self._next] == HandleStatus.OPEN
        return [
            (table, np.flatnonzero(held & (self._table[: self._next] == number)))
            for number, table in enumerate(self.tables)
        ]

    def _new_handle(self) -> int:
        if self._free:
            return self._free.popleft()
        if self._next >= MAX_HANDLES:
            raise TooManyRequests(
                f"{MAX_HANDLES} handles are out on this stream: close sessions, or open a new stream"
            )
        self._next += 1
        return self._next - 1

    def _reserve(self, count: int) -> None:
        size = len(self._status)
        if count <= size:
            return
        new = max(count, 2 * size)
        self._status = np.concatenate([self._status, np.zeros(new - size, np.int8)])
        self._slot = np.concatenate([self._slot, np.zeros(new - size, np.int32)])
        self._table = np.concatenate([self._table, np.full(new - size, -1, np.int16)])

    def _table_number(self, table: SessionTable) -> int:
        for number, known in enumerate(self.tables):
            if known is table:
                return number
        self.tables.append(table)
        return len(self.tables) - 1
