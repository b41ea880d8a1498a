"""The handles of one stream: small numbers that stand for sessions, resolved as arrays.

A handle is given out when a session is opened and comes back when it is closed; then it may be given
out again. A handle whose session was taken over or ended meanwhile keeps saying so until then.

A model version that is unloaded must be forgotten, or its arena would live as long as the stream.
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

NOT_OPEN = -1
"""The key of a handle that stands for no session of this stream."""

MAX_HANDLES = 1 << 24
"""Handles of one stream; a client that opens and never closes ends here."""


class HandleStatus(IntEnum):
    """What a handle stands for."""

    UNKNOWN = 0
    OPEN = 1
    DISPLACED = 2
    ENDED = 3
    CLOSING = 4
    """The client has asked to close it; answers are still due."""


class HandleMap:
    """Handle → table and slot. Handle 0 is never given out.

    Attributes:
        tables: The model versions that this stream has, or had, sessions of, by number.
    """

    def __init__(self) -> None:
        self.tables: dict[int, SessionTable] = {}
        self._next_table = 0
        self._status: NDArray[np.int8] = np.zeros(16, np.int8)
        self._slot: SlotArray = np.zeros(16, np.int32)
        self._table: NDArray[np.int32] = np.zeros(16, np.int32)
        # What a frame needs to know of an open handle in one number: table << 32 | slot. The last one, where
        # numbers that were never given out end up, is never open.
        self._key: IntArray = np.full(17, NOT_OPEN, np.int64)
        self._next = 1
        self._free: deque[int] = deque()

    def give_out(self, table: SessionTable, slots: SlotArray) -> HandleArray:
        """Name sessions; shape of `slots`.

        Raises:
            TooManyRequests: The stream has too many handles; none was given out.
        """
        self.check_room(len(slots))
        handles = np.array([self._new_handle() for _ in range(len(slots))], np.uint32)
        self._reserve(self._next)
        self._status[handles] = HandleStatus.OPEN
        self._slot[handles] = slots
        number = self._table_number(table)
        self._table[handles] = number
        self._key[handles] = (number << 32) | slots.astype(np.int64)
        return handles

    def resolve(self, handles: HandleArray) -> tuple[SessionTable, SlotArray] | None:
        """The model version and the slots of handles that are all open and of one version, else None.

        Args:
            handles: Shape (n,), n at least 1.
        """
        keys = self._key.take(handles, mode="clip")
        if len(keys) == 1:
            lowest = highest = keys.item()
        else:
            lowest, highest = int(np.minimum.reduce(keys)), int(np.maximum.reduce(keys))
        if lowest < 0 or lowest >> 32 != highest >> 32:
            return None
        return self.tables[lowest >> 32], keys.astype(np.int32)

    def check_room(self, count: int) -> None:
        """Raise TooManyRequests if `count` handles cannot be given out."""
        if count > len(self._free) + MAX_HANDLES - self._next:
            raise TooManyRequests(
                f"{MAX_HANDLES} handles are out on this stream: close sessions, or open a new stream"
            )

    def status(self, handles: HandleArray) -> NDArray[np.int8]:
        """The `HandleStatus` of each handle."""
        known = handles < self._next
        return np.where(known, self._status[np.where(known, handles, 0)], np.int8(HandleStatus.UNKNOWN))

    def slots(self, handles: HandleArray) -> SlotArray:
        """The slot of each handle; all must stand for a session of this stream."""
        slots: SlotArray = self._slot[handles]
        return slots

    def table_numbers(self, handles: HandleArray) -> NDArray[np.int32]:
        """The number in `tables` of each handle's model version; all must stand for a session of this stream."""
        numbers: NDArray[np.int32] = self._table[handles]
        return numbers

    def by_table(self, handles: HandleArray) -> list[tuple[SessionTable, HandleArray]]:
        """The handles of each model version; all must stand for a session of this stream."""
        numbers = self.table_numbers(handles)
        return [(self.tables[n], handles[numbers == n]) for n in np.unique(numbers).tolist()]

    def mark(self, handles: HandleArray, status: HandleStatus) -> None:
        """The sessions are no longer this stream's."""
        self._status[handles] = status
        self._key[handles] = NOT_OPEN

    def take_back(self, handles: HandleArray) -> None:
        """The client has given handles back, no two alike; they stand for nothing now."""
        self._status[handles] = HandleStatus.UNKNOWN
        self._key[handles] = NOT_OPEN
        self._free.extend(handles.tolist())

    def held(self) -> HandleArray:
        """The handles of the sessions that the stream still holds."""
        mine = np.isin(self._status[: self._next], (HandleStatus.OPEN, HandleStatus.CLOSING))
        return np.flatnonzero(mine).astype(np.uint32)

    def forget(self, table: SessionTable) -> None:
        """The model version is unloaded; no handle stands for a session of it."""
        self.tables = {number: known for number, known in self.tables.items() if known is not table}

    def _new_handle(self) -> int:
        if self._free:
            return self._free.popleft()
        self._next += 1
        return self._next - 1

    def _reserve(self, count: int) -> None:
        size = len(self._status)
        if count <= size:
            return
        new = max(count, 2 * size)
        self._status = np.concatenate([self._status, np.zeros(new - size, np.int8)])
        self._slot = np.concatenate([self._slot, np.zeros(new - size, np.int32)])
        self._table = np.concatenate([self._table, np.zeros(new - size, np.int32)])
        self._key = np.concatenate([self._key, np.full(new - size, NOT_OPEN, np.int64)])

    def _table_number(self, table: SessionTable) -> int:
        for number, known in self.tables.items():
            if known is table:
                return number
        self._next_table += 1
        self.tables[self._next_table] = table
        return self._next_table
