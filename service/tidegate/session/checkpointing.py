"""Checkpoints: the states of sessions go to the store in the background, many at a time.

A sweep looks at every session once in `checkpoint_age_s`, an equal part of them at each of its stops, and
stores what has changed. A state is copied between two batches, so it is the state after exactly its step, and the
session goes on while it is being written. A sequence's is copied only where a request of it has ended, with the
answer that is kept for a repeat, and is base at once. What was stored is entered in the books afterwards, and whoever
holds a session whose durable step has moved is told.

One piece is on its way at a time: a session has two places in the store, and two writes under way to one
of them would leave nobody knowing which state it holds.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass

import numpy as np

from tidegate.errors import StoreFull, StoreUnavailable
from tidegate.protocol.checkpoints import PendingWrite
from tidegate.session.keeper import StoreKeeper
from tidegate.session.registry import Registry
from tidegate.session.stores.changes import StateBatch
from tidegate.session.stream import SessionStream
from tidegate.session.table import NO_STREAM, SessionTable
from tidegate.session.whole import to_the_end
from tidegate.telemetry.incidents import incident
from tidegate.telemetry.metrics import Metrics
from tidegate.tensor import IntArray, SlotArray

log = logging.getLogger(__name__)

PIECE_BYTES = 1024 * 1024
"""States copied between two batches: about 0.2 ms of the event loop."""

ANSWER_BYTES = 4 * 1024
"""Packing a kept answer takes as long as copying so much."""

STOPS = 20
"""Looks at a part of the slots in each round of the sweep."""

RETRY_S = 1.0
"""Time between two attempts at a store that fails."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """States on their way to the store."""

    write: PendingWrite
    batch: StateBatch


class Checkpointer:
    """Stores what has changed."""

    def __init__(
        self,
        registry: Registry,
        keeper: StoreKeeper,
        streams: dict[int, SessionStream],
        metrics: Metrics,
        *,
        age_s: float,
        bytes_per_s: int,
    ) -> None:
        """Prepare; `run` begins.

        Args:
            registry: The sessions in memory.
            keeper: The store.
            streams: Who is told of durable steps, by number.
            metrics: Counts what is stored.
            age_s: Time of one round of the sweep, in seconds.
            bytes_per_s: Most that the sweep writes in a second.
        """
        self._registry = registry
        self._keeper = keeper
        self._streams = streams
        self._metrics = metrics
        self._age_s = age_s
        self._bytes_per_s = bytes_per_s
        self._one_at_a_time = asyncio.Lock()

    async def run(self) -> None:
        """Sweep until cancelled, whatever a round meets."""
        while True:
            try:
                await self._round()
            except StoreUnavailable:  # said by the keeper
                await asyncio.sleep(RETRY_S)
                await self._keeper.probe()
            except Exception as error:
                self._report(error)
                await asyncio.sleep(RETRY_S)

    async def save(self, table: SessionTable, slots: SlotArray, *, bytes_per_s: float = np.inf) -> None:
        """Store the states of sessions as they are now, or later.

        What one of them meets, in us or on a damaged page of the store, keeps no more than its piece from being
        stored.

        Args:
            table: Whose sessions they are.
            slots: Shape (n,), no two alike.
            bytes_per_s: Pace, for what can wait.

        Raises:
            StoreUnavailable: The store did not take all of them; it takes others if the keeper says that it works.
        """
        failure: StoreUnavailable | None = None
        # As they lie in the store: sessions that came back from it have their slots in any order.
        slots = slots[np.argsort(table.number[slots])]
        for piece, num_bytes in _pieces(table, slots):
            began_s = time.monotonic()
            try:
                await to_the_end(self._save_piece(table, piece))
            except StoreUnavailable as error:
                await self._keeper.probe()
                if not self._keeper.works:
                    raise
                failure = error
            except Exception as error:
                self._report(error)
            pause_s = num_bytes / bytes_per_s - (time.monotonic() - began_s)
            if pause_s > 0:
                await asyncio.sleep(pause_s)
        if failure is not None:
            raise failure

    async def save_all(self) -> int:
        """Store everything that has changed, as fast as it goes.

        Returns:
            How many sessions that were.

        Raises:
            StoreUnavailable: The store did not take all of it.
        """
        count, failure = 0, None
        for table in self._registry.tables():
            slots = table.dirty(0, table.pool.end)
            count += len(slots)
            try:
                await self.save(table, slots)
            except StoreUnavailable as error:
                if not self._keeper.works:
                    raise
                failure = error
        if failure is not None:
            raise failure
        return count

    def num_dirty(self) -> int:
        """Sessions whose newest state the store does not have."""
        return sum(len(t.dirty(0, t.pool.end)) for t in self._registry.tables())

    def num_ahead(self) -> int:
        """Sequences of which answers may leave, or have left, for steps that the store does not have."""
        count = 0
        for table in self._registry.tables():
            slots = np.flatnonzero(table.sequences.runs_ahead).astype(np.int32)
            next_step = table.next_step[slots]
            ahead = table.books.is_dirty(slots, next_step) | (table.accepted[slots] > next_step)
            count += int(ahead.sum())
        return count

    async def enroll(self, table: SessionTable, slots: SlotArray) -> None:
        """Give those sessions that began while the store failed a record there.

        Raises:
            StoreUnavailable: It still fails.
            StoreFull: It has as many sessions as it may.
        """
        async with self._one_at_a_time:
            await self._enroll(table, slots)

    async def settled(self) -> None:
        """Wait until what is on its way to the store has been entered in the books."""
        async with self._one_at_a_time:
            pass

    def tell(self, table: SessionTable, slots: SlotArray) -> None:
        """Tell the streams that hold sessions how far these are durable."""
        owners = table.owner[slots]
        for number in np.unique(owners).tolist():
            if number != NO_STREAM:
                mine = slots[owners == number]
                self._streams[number].durable(table.handle[mine], table.books.base_step[mine])

    async def _round(self) -> None:
        began_s = time.monotonic()
        reached: dict[SessionTable, int] = {}
        for stop in range(STOPS):
            for table in self._registry.tables():
                end = table.pool.end * (stop + 1) // STOPS
                changed = table.dirty(reached.get(table, 0), end)
                reached[table] = end
                try:
                    await self.save(table, changed, bytes_per_s=self._bytes_per_s)
                except StoreUnavailable:
                    if not self._keeper.works:
                        raise
            until_next_s = began_s + self._age_s * (stop + 1) / STOPS - time.monotonic()
            await asyncio.sleep(max(0.0, until_next_s))
        self._metrics.checkpoint_age.set(time.monotonic() - began_s)

    def _report(self, error: Exception) -> None:
        found = incident(error)
        self._metrics.errors.labels(found.code, found.reason).inc()

    async def _save_piece(self, table: SessionTable, slots: SlotArray) -> None:
        async with self._one_at_a_time:
            numbers = table.number[slots]
            try:
                await self._enroll(table, slots)
            except StoreFull as error:  # they stay in memory until others have gone
                log.warning("new sessions have no record", extra={"why": str(error)})
            await self._write(table, slots, numbers)

    async def _write(self, table: SessionTable, slots: SlotArray, numbers: IntArray) -> None:
        piece = await table.model.engine.errands.look(lambda: self._copy(table, slots, numbers))
        if piece is None:
            return
        try:
            taken = await self._keeper.write(lambda store: store.write(piece.batch))
        except BaseException:
            table.books.failed(piece.write)
            raise
        table.books.failed(piece.write.part(~taken))
        self._metrics.checkpoints.labels(*table.model.entry).inc(int(taken.sum()))
        self.tell(table, table.books.written(piece.write.part(taken)))
        assert taken.all(), "the store has other sessions than the arena"

    async def _enroll(self, table: SessionTable, slots: SlotArray) -> None:
        slots = slots[(table.number[slots] != 0) & ~table.is_stored[slots] & ~table.frozen[slots]]
        if not len(slots):
            return
        records = table.records(slots)
        await self._keeper.create(records)
        still = table.number[slots] == [record.number for record in records]
        table.is_stored[slots[still]] = True

    def _copy(self, table: SessionTable, slots: SlotArray, numbers: IntArray) -> _Piece | None:
        """Copy states, between two batches; sessions that have gone meanwhile are left out."""
        here = (table.number[slots] == numbers) & table.is_stored[slots] & ~table.frozen[slots]
        here &= table.books.is_dirty(slots, table.next_step[slots])
        here &= table.sequences.may_be_stored(slots, table.next_step[slots])
        slots, numbers = slots[here], numbers[here]
        if not len(slots):
            return None
        sequences = slots[table.sequences.is_sequence[slots]]
        table.books.ack(sequences, table.next_step[sequences])
        idle_s = time.monotonic() - table.last_used_s[slots]
        write = table.books.begin_write(slots, table.next_step[slots])
        batch = StateBatch(
            model=table.key,
            numbers=numbers,
            session_ids=[table.ids[slot] for slot in slots.tolist()],
            rows=write.rows,
            steps=write.steps,
            epochs=table.epoch[slots],
            used_s=time.time() - idle_s,
            states=table.stored_bytes(slots),
            answers=table.sequences.packed_answers(slots, write.steps),
        )
        return _Piece(write, batch)


def _pieces(table: SessionTable, slots: SlotArray) -> list[tuple[SlotArray, int]]:
    """Cut sessions into pieces of about PIECE_BYTES, and say how much each is; none is empty."""
    if not len(slots):
        return []
    answers = table.sequences.answer_bytes[slots]
    sizes = max(1, table.model.runner.arena.slot_bytes) + answers + ANSWER_BYTES * (answers > 0)
    begins_at = np.cumsum(sizes) - sizes
    cuts = np.flatnonzero(np.diff(begins_at // PIECE_BYTES)) + 1
    parts = zip(np.split(slots, cuts), np.split(sizes, cuts), strict=True)
    return [(piece, int(its_sizes.sum())) for piece, its_sizes in parts]
