"""The sessions of one loaded model version, as arrays by slot.

The engine counts the steps that have run (`engine.next_step`); the table counts those that have been
accepted (`accepted`), which is where the next row must begin. The two are equal when nothing of a
session is waiting.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from tidegate.engine.engine import Refusal
from tidegate.engine.pool import LoadedModel
from tidegate.errors import ArenaFull
from tidegate.protocol.checkpoints import CheckpointBooks
from tidegate.runner.slots import SlotPool, Twins
from tidegate.session.sequences.columns import SequenceColumns
from tidegate.session.stores.changes import ModelKey, NewSession
from tidegate.session.stores.store import StoredSession
from tidegate.tensor import Array, BoolArray, IntArray, SlotArray, num_elements

NO_STREAM = 0
"""Owner of a detached session."""

NOBODY = 0
"""The slot that no session has. It stands where a new session begins."""


class SessionTable:
    """Sessions of one version. Slots index every array; slot 0 is nobody's.

    Attributes:
        model: The version.
        key: Its name, version and hash, as the store knows it.
        twins: Finds slots that are in a list twice.
        books: Which of each session's states the store has.
        sequences: Which sessions are sequences, and what is known of those alone.
        ids: Id of each slot's session; "" for a free slot.
        accepted: Number of the step that each session's next row must begin with.
        owner: Number of the stream that holds each session, or NO_STREAM.
        handle: The handle that names it there.
        last_used_s: Monotonic time of the last accepted row, open or detach.
        opener: Client instance that opened it last.
        attempt: That client's attempt number.
        creator: Client instance that created it.
        number: What the store calls each session; 0 for a free slot.
        epoch: The epoch that its client was told.
        is_stored: The store has a record of it.
        frozen: Its state is not to be checkpointed now, because it is about to go.
        num_borrowed: Slots in use that have no session; see `windows`.
    """

    def __init__(self, model: LoadedModel) -> None:
        capacity = model.runner.arena.capacity
        manifest = model.manifest
        self.model = model
        self.key = ModelKey(manifest.name, manifest.version, manifest.sha256)
        self.books = CheckpointBooks(capacity)
        self.sequences = SequenceColumns(capacity)
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
        self.number: IntArray = np.zeros(capacity + 1, np.int64)
        self.epoch: IntArray = np.zeros(capacity + 1, np.int64)
        self.is_stored: BoolArray = np.zeros(capacity + 1, np.bool_)
        self.frozen: BoolArray = np.zeros(capacity + 1, np.bool_)
        self.num_borrowed = 0

    @property
    def num_sessions(self) -> int:
        """Sessions in memory."""
        return self.pool.capacity - self.pool.num_free - self.num_borrowed

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

    def create(
        self, ids: list[str], numbers: Sequence[int], *, creator: bytes, attempt: int, epoch: int
    ) -> SlotArray:
        """Give new sessions slots and the initial state, detached.

        Args:
            ids: Ids that nobody has, n of them.
            numbers: What the store is to call them.
            creator: Client instance that creates them.
            attempt: Its attempt number.
            epoch: Their first.

        Raises:
            ArenaFull: There are fewer free slots; nothing was created.
        """
        slots = self._admit(ids, numbers)
        self.model.runner.arena.reset(slots)
        self.epoch[slots], self.attempt[slots] = epoch, attempt
        self.books.created(slots)
        self._stand_at(slots, 0)
        for slot in slots.tolist():
            self.creator[slot] = creator
        return slots

    def restore(
        self, sessions: Sequence[StoredSession], steps: IntArray, states: Sequence[Array]
    ) -> SlotArray:
        """Give sessions that come from the store slots, detached; their books are not kept yet.

        Args:
            sessions: What the store knows of them, n of them.
            steps: Steps applied to each one's state, shape (n,).
            states: Per state pair, `[n, step_shape...]`.

        Raises:
            ArenaFull: There are fewer free slots; nothing was restored.
        """
        slots = self._admit([s.session_id for s in sessions], [s.number for s in sessions])
        self.is_stored[slots] = True
        self.model.runner.arena.reset(slots)
        self.put_back(slots, steps, states)
        for slot, session in zip(slots.tolist(), sessions, strict=True):
            self.creator[slot], self.opener[slot] = session.creator, session.opener
            self.epoch[slot], self.attempt[slot] = session.epoch, session.attempt
        return slots

    def put_back(self, slots: SlotArray, steps: IntArray, states: Sequence[Array]) -> None:
        """Let sessions stand at other states; as `restore`, for slots that they have."""
        self.model.runner.arena.write(slots, states)
        self._stand_at(slots, steps)

    def _admit(self, ids: list[str], numbers: Sequence[int]) -> SlotArray:
        slots = self.pool.acquire(len(ids))
        self.number[slots] = numbers
        self.last_used_s[slots] = time.monotonic()
        for slot, session_id in zip(slots.tolist(), ids, strict=True):
            self.ids[slot] = session_id
        return slots

    def _stand_at(self, slots: SlotArray, steps: IntArray | int) -> None:
        self.accepted[slots] = steps
        self.next_step[slots] = steps

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
        self.number[slots] = 0
        self.is_stored[slots] = self.frozen[slots] = False
        self.sequences.release(slots)
        for slot in slots.tolist():
            self.ids[slot] = ""
            self.opener[slot] = self.creator[slot] = b""
        self.pool.release(slots)

    def idle_since(self, time_s: float) -> SlotArray:
        """Detached sessions that nobody has used since `time_s` (monotonic), but for those about to go."""
        idle = (self.owner == NO_STREAM) & (self.last_used_s < time_s) & ~self.frozen
        return np.flatnonzero(idle).astype(np.int32)

    def is_quiet(self, slots: SlotArray) -> BoolArray:
        """For which sessions nothing waits and no step is uncounted, shape (n,)."""
        waits = (self.accepted[slots] > self.next_step[slots]) | (self.sequences.gathered[slots] > 0)
        quiet: BoolArray = ~waits
        return quiet

    def longest_detached(self, count: int, spare: Collection[str]) -> SlotArray:
        """At most `count` detached sessions for which nothing waits: those not used for longest.

        Args:
            count: How many are wanted.
            spare: Ids that are not taken; there may be many more of them than sessions in memory.
        """
        slots = self.idle_since(np.inf)
        slots = slots[self.is_quiet(slots)]
        slots = self._longest_unused(slots, count + len(spare))
        slots = np.array([slot for slot in slots.tolist() if self.ids[slot] not in spare], np.int32)
        return self._longest_unused(slots, count)

    def _longest_unused(self, slots: SlotArray, count: int) -> SlotArray:
        if len(slots) <= count:
            return slots
        return slots[np.argpartition(self.last_used_s[slots], count)[:count]]

    def dirty(self, first: int, end: int) -> SlotArray:
        """Sessions of the slots [first, end) whose state, or whose existence, the store does not have."""
        slots = np.arange(first, end, dtype=np.int32)
        changed = self.books.is_dirty(slots, self.next_step[first:end]) | ~self.is_stored[first:end]
        dirty: SlotArray = slots[changed & (self.number[first:end] != 0) & ~self.frozen[first:end]]
        return dirty

    def records(self, slots: SlotArray) -> list[NewSession]:
        """What the store is to know of new sessions."""
        now_s = time.time()
        return [
            NewSession(number, self.ids[slot], self.key, self.creator[slot], attempt, epoch, now_s, ahead)
            for slot, number, attempt, epoch, ahead in zip(
                slots.tolist(),
                self.number[slots].tolist(),
                self.attempt[slots].tolist(),
                self.epoch[slots].tolist(),
                self.sequences.runs_ahead[slots].tolist(),
                strict=True,
            )
        ]

    def stored_bytes(self, slots: SlotArray) -> Array:
        """The states as the store keeps them: uint8 `[n, state_bytes]`; no batch may hold the slots."""
        arrays = self.model.runner.arena.read(slots)
        flat = [np.ascontiguousarray(a).reshape(len(slots), -1).view(np.uint8) for a in arrays]
        if len(flat) == 1:
            return flat[0]
        return np.concatenate([np.empty((len(slots), 0), np.uint8), *flat], axis=1)

    def states_of(self, stored: Sequence[bytes | None]) -> list[Array]:
        """States as the arena takes them, from what `stored_bytes` gave; None is the initial state.

        Returns:
            Per state pair, `[n, step_shape...]`.
        """
        initial = self.stored_bytes(np.array([NOBODY], np.int32)).tobytes()
        flat = np.frombuffer(b"".join(initial if s is None else s for s in stored), np.uint8)
        flat = flat.reshape(len(stored), -1)
        states, start = [], 0
        for pair in self.model.manifest.states:
            end = start + num_elements(pair.step_shape) * pair.dtype.numpy.itemsize
            piece = np.ascontiguousarray(flat[:, start:end]).view(pair.dtype.numpy)
            states.append(piece.reshape(len(stored), *pair.step_shape))
            start = end
        return states

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
        assert ((self.number != 0) == used).all(), "slots in use and numbers differ"
        slots = np.flatnonzero(used).astype(np.int32)
        self.books.check_integrity(slots, self.next_step[slots])
        self.model.engine.check_integrity()
