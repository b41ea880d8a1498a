"""Which rows of the state arena are free, and whose the others are.

Slots are handed out and taken back many at a time, because sessions are opened by the thousand. Those
given back go first, then the lowest, so that the arena touches no more memory than the sessions need.

Slot 0 is never handed out: padding reads and writes it, so a batch can be padded to a fixed size
without touching a live session.

Not thread-safe: only the owner of the session table calls this module.
"""

from __future__ import annotations

import numpy as np

from tidegate.errors import ArenaFull
from tidegate.tensor import SlotArray


class SlotPool:
    """Free slots as a stack.

    Attributes:
        end: One above the highest slot that was ever handed out.
    """

    def __init__(self, capacity: int) -> None:
        self._free: SlotArray = np.arange(capacity, 0, -1, dtype=np.int32)
        self.num_free = capacity
        self.capacity = capacity
        self.end = 1

    def acquire(self, count: int) -> SlotArray:
        """Take `count` free slots.

        Returns:
            Slot numbers, shape (count,), int32, no two alike.

        Raises:
            ArenaFull: Fewer than `count` slots are free; none was taken.
        """
        if count > self.num_free:
            raise ArenaFull(f"{count} slots asked for, {self.num_free} of {self.capacity} free")
        self.num_free -= count
        taken: SlotArray = self._free[self.num_free : self.num_free + count][::-1].copy()
        self.end = max(self.end, int(taken.max(initial=0)) + 1)
        return taken

    def release(self, slots: SlotArray) -> None:
        """Give slots back."""
        assert self.num_free + len(slots) <= self.capacity, "a slot was given back twice"
        self._free[self.num_free : self.num_free + len(slots)] = slots
        self.num_free += len(slots)


class Twins:
    """Finds out whether slots are all different, without sorting them."""

    def __init__(self, capacity: int) -> None:
        self._position: SlotArray = np.zeros(capacity + 1, np.int32)
        self._numbers: SlotArray = np.arange(capacity + 1, dtype=np.int32)

    def among(self, slots: SlotArray) -> bool:
        """Whether any of `slots`, shape (n,), is there twice."""
        count = len(slots)
        if count == 1:
            return False
        if count > len(self._numbers):
            return True
        numbers = self._numbers[:count]
        self._position[slots] = numbers  # of twins, one overwrites the other
        return bool((self._position.take(slots) != numbers).any())
