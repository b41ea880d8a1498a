"""Passivation: detached sessions leave memory for the store, and their slots are free for others.

Only what the store has leaves memory. A session that somebody works on, or that has steps under way, stays.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterator

import numpy as np

from tidegate.errors import StoreUnavailable
from tidegate.session.checkpointing import Checkpointer
from tidegate.session.holds import Holds
from tidegate.session.keeper import StoreKeeper
from tidegate.session.limits import SessionLimits
from tidegate.session.registry import Registry
from tidegate.session.stores.store import Store, StoredSession
from tidegate.session.table import NO_STREAM, SessionTable
from tidegate.telemetry.metrics import Metrics
from tidegate.tensor import BoolArray, IntArray, SlotArray

log = logging.getLogger(__name__)

AHEAD = 16
"""A full arena makes room for a part of its sessions at once, one in so many: room costs a commit."""

MAX_AHEAD = 4096

EXPIRED_AT_ONCE = 1000
"""Sessions that expire in one call to the store; steps at other sessions wait for it."""


class _Numbers(Collection[int]):
    """Session numbers. A set of a million would hold the event loop for a tenth of a second; sorting does not."""

    def __init__(self, numbers: IntArray) -> None:
        self._sorted = np.sort(numbers)

    def __contains__(self, number: object) -> bool:
        i = int(np.searchsorted(self._sorted, number))  # type: ignore[call-overload]
        return i < len(self._sorted) and self._sorted[i] == number

    def __iter__(self) -> Iterator[int]:
        return iter(self._sorted.tolist())

    def __len__(self) -> int:
        return len(self._sorted)


class Passivator:
    """Moves sessions out of memory, and lets those that nobody wants any more expire.

    Attributes:
        room: Held from making room until it is taken, or others would take it.
    """

    def __init__(
        self,
        registry: Registry,
        keeper: StoreKeeper,
        checkpointer: Checkpointer,
        holds: Holds,
        limits: SessionLimits,
        metrics: Metrics,
    ) -> None:
        self._registry = registry
        self._keeper = keeper
        self._checkpointer = checkpointer
        self._holds = holds
        self._limits = limits
        self._metrics = metrics
        self.room = asyncio.Lock()

    async def make_room(self, table: SessionTable, count: int) -> None:
        """Try to have `count` free slots, by passivating the sessions that were used longest ago.

        Never waits for ids, so it may be called while some are held; those stay.
        """
        missing = count - table.pool.num_free
        if missing <= 0:
            return
        ahead = min(table.pool.capacity // AHEAD, MAX_AHEAD)
        try:
            slots = table.longest_detached(max(missing, ahead), self._holds.held)
            await self._passivate(table, slots, "room")
        except StoreUnavailable as error:
            log.warning("no room can be made", extra={"model": table.key.name, "why": str(error)})

    async def passivate_idle(self) -> int:
        """Passivate detached sessions that nobody has used for `detached_idle_timeout_s`.

        Returns:
            How many.
        """
        since_s = time.monotonic() - self._limits.detached_idle_timeout_s
        count = 0
        for table in self._registry.tables():
            idle = table.idle_since(since_s)
            for start in range(0, len(idle), MAX_AHEAD):
                try:
                    count += await self._passivate(table, idle[start : start + MAX_AHEAD], "idle")
                except StoreUnavailable:  # said by the keeper; they stay until the store works again
                    return count
        return count

    async def expire(self) -> int:
        """Give up sessions that nobody has used for `expire_after_s`; their ids are remembered.

        Returns:
            How many.
        """
        age_s = self._limits.expire_after_s
        before_s, count = time.time() - age_s, 0
        while True:
            try:
                gone = await self._keeper.write(self._expiry(before_s))
            except StoreUnavailable:
                return count
            count += len(gone)
            if gone:
                self._metrics.losses.labels("expired").inc(len(gone))
                log.warning("sessions expired", extra={"count": len(gone), "unused_s": age_s})
            if len(gone) < EXPIRED_AT_ONCE:
                return count

    def _expiry(self, used_before_s: float) -> Callable[[Store], list[StoredSession]]:
        """Buries some sessions, but none that is in memory or that somebody has looked up to bring it there."""
        numbers, ids = self._in_memory(), frozenset(self._holds.held)
        return lambda store: store.expire(used_before_s, EXPIRED_AT_ONCE, _Numbers(numbers), ids)

    def _in_memory(self) -> IntArray:
        """Numbers of the sessions in memory. The store may not have heard of them for long."""
        numbers = [table.number[table.number != 0] for table in self._registry.tables()]
        return np.concatenate(numbers) if numbers else np.zeros(0, np.int64)

    async def _passivate(self, table: SessionTable, slots: SlotArray, reason: str) -> int:
        async with self._holds.take_free([table.ids[slot] for slot in slots.tolist()]) as session_ids:
            places = [self._registry.find(session_id) for session_id in session_ids]
            slots = np.array([p.slot for p in places if p and p.table is table], np.int32)
            await self._checkpointer.save(table, slots[~self._is_safe(table, slots)])
            # What is safe stays so: whoever would step one of them has to hold its id.
            gone = slots[self._is_safe(table, slots)]
            if not await self._touch(table, gone):
                gone = gone[~table.sequences.runs_ahead[gone]]
            self._registry.remove(table.ids[slot] for slot in gone.tolist())
            table.release(gone)
        if len(gone):
            self._metrics.passivations.labels(reason).inc(len(gone))
            log.info(
                "sessions passivated", extra={"count": len(gone), "model": table.key.name, "reason": reason}
            )
        return len(gone)

    async def _touch(self, table: SessionTable, slots: SlotArray) -> bool:
        """Tell the store when sessions that leave were used, and that none of them is ahead of it.

        One that a stream held without a step may be old there. If this fails, which the keeper says, what is stored
        already may leave all the same, but for what would be taken for ahead.

        Returns:
            Whether the store was told.
        """
        numbers, used_s = table.number[slots], time.time() - (time.monotonic() - table.last_used_s[slots])
        caught_up = numbers[table.sequences.runs_ahead[slots]].tolist()
        try:
            await self._keeper.write(lambda store: store.touch(numbers, used_s, caught_up=caught_up))
        except StoreUnavailable:
            return False
        return True

    def _is_safe(self, table: SessionTable, slots: SlotArray) -> BoolArray:
        """Which sessions may leave: the store has all of each, and nothing of it waits or runs."""
        stored = table.is_stored[slots] & ~table.books.is_dirty(slots, table.next_step[slots])
        quiet = table.is_quiet(slots) & (table.owner[slots] == NO_STREAM)
        safe: BoolArray = stored & quiet
        return safe
