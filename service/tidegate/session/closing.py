"""Giving sessions up: detached by their stream, ended by a client, evicted by the server.

An id is free as soon as its session ends; its slot is when no batch holds it any more, which no lost
connection can prevent.
"""

from __future__ import annotations

import asyncio
import logging
import time

import numpy as np

from tidegate.errors import MessageTooLarge, SessionNotFound, TidegateError
from tidegate.session.frames import Refusals
from tidegate.session.handles import HandleArray, HandleStatus
from tidegate.session.limits import SessionLimits
from tidegate.session.open_request import check_session_id
from tidegate.session.registry import Place, Registry
from tidegate.session.rows import handle_error, judge_handles, others
from tidegate.session.stream import NoticeReason, SessionStream
from tidegate.session.table import NO_STREAM, SessionTable
from tidegate.session.tombstones import Tombstone
from tidegate.telemetry.metrics import Metrics
from tidegate.tensor import SlotArray

log = logging.getLogger(__name__)

LOST = (HandleStatus.DISPLACED, HandleStatus.ENDED)
"""What a handle says once its session is another's or nobody's."""


class Closer:
    """Gives sessions up, for all streams."""

    def __init__(
        self, registry: Registry, streams: dict[int, SessionStream], limits: SessionLimits, metrics: Metrics
    ) -> None:
        self._registry = registry
        self._streams = streams
        self._limits = limits
        self._metrics = metrics

    async def close(
        self, stream: SessionStream, handles: HandleArray, *, end: bool
    ) -> tuple[list[int], Refusals]:
        """Take handles back once the rows sent before have been answered.

        Args:
            stream: Whose handles they are.
            handles: Shape (n,). From now on they take no rows.
            end: Delete the sessions; otherwise they stay, detached.

        Returns:
            The steps that each session had applied, and errors by position.

        Raises:
            MessageTooLarge: More handles than the server takes at a time.
        """
        if len(handles) > self._limits.max_open_sessions:
            raise MessageTooLarge(
                f"handles: expected at most {self._limits.max_open_sessions}, got {len(handles)}"
            )
        refusals = _judge(stream, handles)
        rows = others(len(handles), refusals)
        positions = dict(zip(handles[rows].tolist(), rows.tolist(), strict=True))
        lost = handles[np.isin(stream.handles.status(handles), LOST)]
        stream.handles.take_back(np.setdiff1d(lost, _in_hand(stream)))
        stream.handles.mark(handles[rows], HandleStatus.CLOSING)
        stream.in_hand.update(positions)
        next_steps = [0] * len(handles)
        for table, mine in stream.handles.by_table(handles[rows]):
            closed = await self._answered(stream, table, mine)
            slots = stream.handles.slots(closed)
            for handle, step in zip(closed.tolist(), table.next_step[slots].tolist(), strict=True):
                next_steps[positions[handle]] = step
            for handle in np.setdiff1d(mine, closed):
                status = HandleStatus(int(stream.handles.status(handle)))
                refusals[positions[int(handle)]] = handle_error(status, int(handle))
            if end:
                self._end(table, slots)
            else:
                self.detach(table, slots)
            stream.handles.take_back(mine)
            stream.in_hand.difference_update(mine.tolist())
        return next_steps, refusals

    async def end_session(self, session_id: str) -> int:
        """End a session by its id, whoever holds it; a lost one's id becomes free.

        Returns:
            The steps that it had applied.

        Raises:
            SessionNotFound: No session has this id.
        """
        check_session_id(session_id)
        tombstone = self._registry.tombstones.remove(session_id)
        if tombstone is not None:
            return tombstone.next_step
        place = self._registry.get(session_id)
        self._tell_owner(place, f"session {session_id!r} was ended by its id")
        next_steps = await self._end(place.table, np.array([place.slot], np.int32))
        return next_steps[0]

    def detach(self, table: SessionTable, slots: SlotArray) -> None:
        """Leave sessions in memory without a stream."""
        table.owner[slots] = NO_STREAM
        table.last_used_s[slots] = time.monotonic()

    def evict_idle(self) -> int:
        """Give up detached sessions that nobody has used for too long.

        Returns:
            How many.
        """
        since = time.monotonic() - self._limits.detached_idle_timeout_s
        return sum(self._evict(table, table.idle_since(since)) for table in self._registry.tables())

    def _evict(self, table: SessionTable, idle: SlotArray) -> int:
        slots = idle[table.accepted[idle] == table.next_step[idle]]
        if not len(slots):
            return 0
        text = f"no stream for {self._limits.detached_idle_timeout_s:g} s"
        for slot in slots.tolist():
            self._registry.tombstones.add(table.ids[slot], Tombstone(int(table.next_step[slot]), text))
            self._registry.remove(table.ids[slot])
        table.release(slots)
        self._metrics.evictions.labels("idle").inc(len(slots))
        log.warning("idle sessions evicted", extra={"count": len(slots), "model": table.model.manifest.label})
        return len(slots)

    async def _answered(
        self, stream: SessionStream, table: SessionTable, handles: HandleArray
    ) -> HandleArray:
        """Wait for answers; return the handles whose sessions have not been taken over or ended meanwhile."""
        while True:
            still: HandleArray = handles[stream.handles.status(handles) == HandleStatus.CLOSING]
            slots = stream.handles.slots(still)
            if not (table.accepted[slots] > table.next_step[slots]).any():
                return still
            await table.model.engine.progress()

    def _end(self, table: SessionTable, slots: SlotArray) -> asyncio.Future[list[int]]:
        """Delete sessions.

        Returns:
            The steps that each had applied, once its slot is free; nobody need wait for it.
        """
        ended: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()

        def release() -> None:
            next_steps = table.next_step[slots].tolist()
            table.release(slots)
            if not ended.cancelled():
                ended.set_result(next_steps)

        for slot in slots.tolist():
            self._registry.remove(table.ids[slot])
        table.drop(slots, _ended)
        table.model.engine.when_settled(slots, release)
        return ended

    def _tell_owner(self, place: Place, message: str) -> None:
        if place.owner == NO_STREAM:
            return
        stream, handle = self._streams[place.owner], place.table.handle[place.slot : place.slot + 1]
        stream.handles.mark(handle, HandleStatus.ENDED)
        next_steps = place.table.model.engine.expected_steps(np.array([place.slot], np.int32))
        stream.tell(NoticeReason.ENDED, handle.tolist(), next_steps, message)


def _in_hand(stream: SessionStream) -> HandleArray:
    return np.fromiter(stream.in_hand, np.uint32, len(stream.in_hand))


def _judge(stream: SessionStream, handles: HandleArray) -> Refusals:
    """Refuse handles that stand for nothing, or for a session whose open has not been answered."""
    refusals = judge_handles(stream, handles)
    for i in np.flatnonzero(np.isin(handles, _in_hand(stream))).tolist():
        refusals.setdefault(i, handle_error(HandleStatus.UNKNOWN, int(handles[i])))
    return refusals


def _ended(expected: int) -> TidegateError:
    return SessionNotFound(f"the session was ended before step {expected}")
