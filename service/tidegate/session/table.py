"""The sessions of one loaded model version, as arrays by slot.

The engine counts the steps that have run (`engine.next_step`); the table counts those that have been
accepted (`accepted`), which is where the next row must begin. The two are equal when nothing of a
session is waiting.
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from tidegate.engine.engine import Refusal
from tidegate.engine.pool import LoadedModel
from tidegate.errors import ArenaFull
from tidegate.runner.slots import SlotPool, Twins
from tidegate.tensor import IntArray, SlotArray

NO_STREAM = 0
"""Owner of a detached session."""

NOBODY = 0
"""The slot that no session has. It stands where a new session begins."""


class SessionTable:
    """Sessions of one version. Slots index every array; slot 0 is nobody's.

    Attributes:
        model: The version.
        twins: Finds slots that are in a list twice.
        ids: Id of each slot's session; "" for a free slot.
        accepted: Number of the step that each session's next row must begin with.
        owner: Number of the stream that holds each session, or NO_STREAM.
        handle: The handle that names it there.
        last_used_s: Monotonic time of the last accepted row, open or detach.
        opener: Client instance that opened it last.
        attempt: That client's attempt number.
        creator: Client instance that created it.
    """

    def __init__(self, model: LoadedModel) -> None:
        capacity = model.runner.arena.capacity
        self.model = model
        self.pool = SlotPool(capacity)
        self.twins = Twins(capacity)
        self.ids: list[str] = [""] * (capacity + 1)
        self.opener: list[bytes] = [b""] * (capacity + 1)
        self.creator: list[bytes] = [b""] * (capacity + 1)
        self.accepted: IntArray = np.zeros(capacity + 1, np.int64)
        self.owner: NDArray[np.int64] = np.zeros(capacity + 1, np.int64)
        self.handle: NDArray[np.uint32] = np.zeros(capacity + 1, np.uint32)
        self.attempt: NDArray[np.uint64] = np.zeros(capacity + 1, np.uint64)
        self.last_used_s: NDArray[np.float64] = np.full(capacity + 1, np.inf)

    @property
    def num_sessions(self) -> int:
        """Sessions in memory."""
        return self.pool.capacity - self.pool.num_free

    @property
    def num_attached(self) -> int:
        """Sessions that a stream holds."""
        return int(np.count_nonzero(self.owner))

    @property
    def next_step(self) -> IntArray:
        """Steps applied, by slot."""
        return self.model.engine.next_step

    def full(self, retry_after_s: float) -> ArenaFull:
        """The error for a session that finds no free slot."""
        return ArenaFull(
            f"max_sessions: all {self.pool.capacity} slots of {self.model.manifest.label} are in use",
            retry_after_s=retry_after_s,
        )

    def create(self, ids: list[str], creator: bytes) -> SlotArray:
        """Give new sessions slots and the initial state, detached.

        Raises:
            ArenaFull: There are fewer free slots; nothing was created.
        """
        slots = self.pool.acquire(len(ids))
        self.model.runner.arena.reset(slots)
        self.accepted[slots] = 0
        self.next_step[slots] = 0
        self.last_used_s[slots] = time.monotonic()
        for slot, session_id in zip(slots.tolist(), ids, strict=True):
            self.ids[slot] = session_id
            self.creator[slot] = creator
        return slots

    def take_back(self, slots: SlotArray, first_steps: IntArray) -> None:
        """Rows that were accepted are refused: what comes next begins where the first of them stands.

        Args:
            slots: Sessions of the rows, shape (n,).
            first_steps: Number of each row's first step, shape (n,).
        """
        stand_at = np.maximum(first_steps, self.next_step[slots])
        self.accepted[slots] = np.minimum(self.accepted[slots], stand_at)

    def drop(self, slots: SlotArray, error: Refusal) -> None:
        """Refuse everything that waits for sessions, as `Engine.drop` does.

        The engine looks at every frame that waits, so it is not asked for sessions that wait for nothing.
        """
        waiting = slots[self.accepted[slots] > self.next_step[slots]]
        if len(waiting):
            self.model.engine.drop(waiting, error)

    def release(self, slots: SlotArray) -> None:
        """Free the slots of sessions that exist no more."""
        self.owner[slots] = NO_STREAM
        self.last_used_s[slots] = np.inf
        self.attempt[slots] = 0
        for slot in slots.tolist():
            self.ids[slot] = ""
            self.opener[slot] = self.creator[slot] = b""
        self.pool.release(slots)

    def idle_since(self, time_s: float) -> SlotArray:
        """Detached sessions that nobody has used since `time_s` (monotonic)."""
        return np.flatnonzero((self.owner == NO_STREAM) & (self.last_used_s < time_s)).astype(np.int32)

    def check_integrity(self) -> None:
        """Raise AssertionError if the books do not add up."""
        used = self.last_used_s < np.inf
        assert int(used.sum()) == self.num_sessions, "slots in use and times of use differ in number"
        assert len(self.ids) - self.ids.count("") == self.num_sessions, (
            "slots in use and ids differ in number"
        )
        assert not used[0], "slot 0 is used"
        assert not self.owner[~used].any(), "a free slot is owned"
        assert (self.accepted[used] >= self.next_step[used]).all(), "more steps applied than accepted"
        self.model.engine.check_integrity()
