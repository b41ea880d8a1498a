"""What the table of sessions knows of those that are sequences, as arrays by slot.

A sequence runs through its requests, one or more steps each. Its state may be stored only where it stands at
the end of a request whose outcome is entered here: a state in the middle of one, or without the answer that
led to it, would make a request that is repeated after a crash run twice.

Slots of other sessions, and free ones, have False, 0 and None. The event loop owns it.
"""

from __future__ import annotations

import numpy as np

from tidegate.session.sequences.kept import KeptAnswer
from tidegate.tensor import BoolArray, IntArray, SlotArray

SPOILT = -1
"""In place of the step at which a sequence is settled: no state stands there."""


class SequenceColumns:
    """Sequences by slot.

    Attributes:
        is_sequence: The slot's session is one.
        settled: Where it stood at the end of its last request that ran: steps applied. Its state is stored only where
            this is its next step.
        runs_ahead: Its answers leave before the states that they led to are stored, so the store has a mark of it.
        answer_bytes: At most so many bytes are its kept answer, packed; 0 if it has none.
        gathered: Requests of it that are on their way to the engine, which does not count them yet.
    """

    def __init__(self, capacity: int) -> None:
        """Columns for slots 0 to `capacity`."""
        self.is_sequence: BoolArray = np.zeros(capacity + 1, np.bool_)
        self.settled: IntArray = np.zeros(capacity + 1, np.int64)
        self.runs_ahead: BoolArray = np.zeros(capacity + 1, np.bool_)
        self.answer_bytes: IntArray = np.zeros(capacity + 1, np.int64)
        self.gathered: IntArray = np.zeros(capacity + 1, np.int64)
        self._answers: list[KeptAnswer | None] = [None] * (capacity + 1)

    def begin(self, slots: SlotArray, steps: IntArray | int, *, runs_ahead: bool) -> None:
        """Sessions that are in memory now are sequences, and stand at these steps without a kept answer."""
        self.is_sequence[slots] = True
        self.settled[slots] = steps
        self.runs_ahead[slots] = runs_ahead

    def release(self, slots: SlotArray) -> None:
        """Sessions leave their slots; those that are no sequences are passed over."""
        mine = slots[self.is_sequence[slots]]
        self.is_sequence[mine] = self.runs_ahead[mine] = False
        self.settled[mine] = self.answer_bytes[mine] = self.gathered[mine] = 0
        for slot in mine.tolist():
            self._answers[slot] = None

    def spoil(self, slot: int) -> None:
        """Steps of a sequence could not be stored, so they did not happen: its state is not stored any more."""
        self.settled[slot] = SPOILT

    def is_spoilt(self, slot: int) -> bool:
        """Whether the sequence is about to go back to what the store has."""
        return bool(self.settled.item(slot) == SPOILT)

    def keep(self, slot: int, answer: KeptAnswer | None) -> None:
        """A sequence has a new last answer; None if its last request had no id, or there was none."""
        self._answers[slot] = answer
        self.answer_bytes[slot] = 0 if answer is None else answer.packed_bytes

    def answer(self, slot: int) -> KeptAnswer | None:
        """The last answer of the slot's sequence, if one is kept."""
        return self._answers[slot]

    def may_be_stored(self, slots: SlotArray, next_step: IntArray) -> BoolArray:
        """Which sessions stand where their states may be stored, shape (n,).

        Args:
            slots: Sessions, sequences or others, shape (n,).
            next_step: Their steps applied, shape (n,).
        """
        may: BoolArray = ~self.is_sequence[slots] | (self.settled[slots] == next_step)
        return may

    def packed_answers(self, slots: SlotArray, steps: IntArray) -> dict[int, bytes]:
        """The kept answers that led sessions to these steps.

        Args:
            slots: Sessions, shape (n,).
            steps: Steps applied to their states, shape (n,).

        Returns:
            By position in `slots`, packed.
        """
        packed = {}
        for i in np.flatnonzero(self.answer_bytes[slots]).tolist():
            answer = self._answers[slots.item(i)]
            if answer is not None and answer.next_step == steps.item(i):
                packed[i] = answer.pack()
        return packed
