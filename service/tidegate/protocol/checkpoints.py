"""The books on what is stored of the sessions in memory: base, head and ack, as arrays by slot.

At most two states of a session are stored, in two rows, 0 and 1. *Base* is the newest stored state at
or below the ack, *head* the newest of all; head becomes base once acked. The initial state counts as
stored and needs no row. A client that resumes has the answers before its ack and the inputs from base
on, so base is a state that serves it; that is why base is never written over.

What always holds: a write goes to the row that does not hold base; a state counts as stored only
after its commit, and no more from the moment its row is to be written over; a session has at most one
write under way; base_step <= acked < head_step, if there is a head.

No I/O, no clock. Slots given to one call must be unique. Not thread-safe: the event loop owns it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tidegate.tensor import BoolArray, IntArray, SlotArray

RowArray = NDArray[np.int8]

NO_ROW = -1
"""Row of the initial state, which needs none."""

NO_HEAD = -1
"""Step of the head where there is none."""

_IDLE = 0


@dataclass(frozen=True, slots=True)
class PendingWrite:
    """States that are on their way to the store.

    Attributes:
        slots: Sessions, shape (n,).
        steps: Steps of their states, shape (n,).
        rows: The rows that they go to, shape (n,).
        number: Tells this write from every other one.
    """

    slots: SlotArray
    steps: IntArray
    rows: RowArray
    number: int

    def part(self, mask: BoolArray) -> PendingWrite:
        """Those sessions for which `mask`, shape (n,), is true."""
        return PendingWrite(self.slots[mask], self.steps[mask], self.rows[mask], self.number)


class CheckpointBooks:
    """Base, head and ack of each slot's session.

    Attributes:
        base_step: Step of the base, int64: the durable step.
        base_row: Row of the base, int8, or NO_ROW.
        head_step: Step of the head, int64, or NO_HEAD. It is in the row that the base is not in.
        acked: The application has kept the answers before this step, int64.
    """

    def __init__(self, capacity: int) -> None:
        """Books for slots 0 to `capacity`."""
        self.base_step: IntArray = np.zeros(capacity + 1, np.int64)
        self.base_row: RowArray = np.full(capacity + 1, NO_ROW, np.int8)
        self.head_step: IntArray = np.full(capacity + 1, NO_HEAD, np.int64)
        self.acked: IntArray = np.zeros(capacity + 1, np.int64)
        self._writing: IntArray = np.full(capacity + 1, _IDLE, np.int64)
        self._last_number = _IDLE

    def created(self, slots: SlotArray) -> None:
        """New sessions: the initial state is base."""
        self._begin_at(slots, 0, NO_ROW)

    def resumed(self, slots: SlotArray, steps: IntArray, rows: RowArray) -> None:
        """Sessions go on from stored states, or from the initial one; all other states are forgotten.

        A resume that keeps the live state changes nothing here. A write that is under way is
        forgotten too: the store must commit it before it forgets the states above `steps`.

        Args:
            slots: Sessions, shape (n,).
            steps: Steps of the states that were loaded, shape (n,).
            rows: Where they were, NO_ROW for the initial state, shape (n,).
        """
        self._begin_at(slots, steps, rows)

    def returned(
        self, slots: SlotArray, base_steps: IntArray, base_rows: RowArray, head_steps: IntArray
    ) -> None:
        """Sessions come back from the store without a word from their client; base and head stay.

        Args:
            slots: Sessions, shape (n,).
            base_steps: Steps of their bases, shape (n,).
            base_rows: Rows of their bases, or NO_ROW, shape (n,).
            head_steps: Steps of the states in the other rows (row 0 where base needs none), or NO_HEAD,
                shape (n,).
        """
        self._begin_at(slots, base_steps, base_rows)
        self.head_step[slots] = head_steps

    def begin_write(self, slots: SlotArray, steps: IntArray) -> PendingWrite:
        """States are handed to the store; from now on the heads in their rows do not count.

        A head must not become base while its row is being written over: the commit would take the
        base away.

        Args:
            slots: Sessions without a write under way, shape (n,).
            steps: Steps of their states, shape (n,), later than everything stored.

        Returns:
            Which rows to write; to be given to `written` or `failed`.
        """
        assert not self._writing[slots].any(), "a session has two writes under way"
        self._last_number += 1
        self._writing[slots] = self._last_number
        self.head_step[slots] = NO_HEAD
        return PendingWrite(slots, steps, self._other_row(slots), self._last_number)

    def written(self, write: PendingWrite) -> SlotArray:
        """A write was committed.

        Sessions that were created, resumed or returned in their slots since it began are passed over.

        Returns:
            Slots whose base moved, i.e. whose durable step is news to the client.
        """
        own = self._writing[write.slots] == write.number
        slots, steps, rows = write.slots[own], write.steps[own], write.rows[own]
        self._writing[slots] = _IDLE
        is_base = steps <= self.acked[slots]
        self.head_step[slots] = np.where(is_base, NO_HEAD, steps)
        moved: SlotArray = slots[is_base]
        self.base_step[moved] = steps[is_base]
        self.base_row[moved] = rows[is_base]
        return moved

    def failed(self, write: PendingWrite) -> None:
        """A write failed; its rows may hold anything, so only the bases count."""
        own = self._writing[write.slots] == write.number
        self._writing[write.slots[own]] = _IDLE

    def ack(self, slots: SlotArray, steps: IntArray) -> SlotArray:
        """The application has kept the answers before `steps`; lower ones than before change nothing.

        Args:
            slots: Sessions, shape (n,).
            steps: At most the steps applied, which the caller has checked, shape (n,).

        Returns:
            Slots whose base moved.
        """
        self.acked[slots] = np.maximum(self.acked[slots], steps)
        head = self.head_step[slots]
        moved: SlotArray = slots[(head != NO_HEAD) & (head <= self.acked[slots])]
        self.base_row[moved] = self._other_row(moved)
        self.base_step[moved] = self.head_step[moved]
        self.head_step[moved] = NO_HEAD
        return moved

    def newest_stored(self, slots: SlotArray) -> tuple[IntArray, RowArray]:
        """Steps and rows of the newest stored states, shape (n,) each; NO_ROW for the initial state."""
        head = self.head_step[slots]
        has_head = head != NO_HEAD
        steps = np.where(has_head, head, self.base_step[slots])
        return steps, np.where(has_head, self._other_row(slots), self.base_row[slots])

    def is_writing(self, slots: SlotArray) -> BoolArray:
        """Whether a write is under way, shape (n,)."""
        writing: BoolArray = self._writing[slots] != _IDLE
        return writing

    def is_dirty(self, slots: SlotArray, next_step: IntArray) -> BoolArray:
        """Whether the live state is newer than all that is stored, shape (n,).

        Args:
            slots: Sessions, shape (n,).
            next_step: Their steps applied, shape (n,).
        """
        return next_step > self.newest_stored(slots)[0]

    def check_integrity(self, slots: SlotArray, next_step: IntArray) -> None:
        """Raise AssertionError if the books of sessions do not add up with their steps applied."""
        base, row = self.base_step[slots], self.base_row[slots]
        head, acked = self.head_step[slots], self.acked[slots]
        has_head = head != NO_HEAD
        assert ((row >= NO_ROW) & (row <= 1)).all(), "a base is in no row"
        assert (base[row == NO_ROW] == 0).all(), "the initial state is not at step 0"
        assert (base <= acked).all(), "a base is ahead of its ack"
        assert (acked <= next_step).all(), "an ack is ahead of the steps applied"
        assert (head[has_head] > acked[has_head]).all(), "an acked head is not base"
        assert (head <= next_step).all(), "a head is ahead of the steps applied"
        assert not (has_head & self.is_writing(slots)).any(), "a head counts that is being written over"

    def _begin_at(self, slots: SlotArray, steps: IntArray | int, rows: RowArray | int) -> None:
        self.base_step[slots] = self.acked[slots] = steps
        self.base_row[slots] = rows
        self.head_step[slots] = NO_HEAD
        self._writing[slots] = _IDLE

    def _other_row(self, slots: SlotArray) -> RowArray:
        """The row that does not hold base: 0 where base needs none."""
        other: RowArray = (self.base_row[slots] == 0).astype(np.int8)
        return other
