"""Giving sessions up: detached by their stream, or ended by a client.

An ended session goes from the store first, so that no crash brings it back. Its id is free then; its
slot is when no batch holds it any more, which no lost connection can prevent.
"""

from __future__ import annotations

import asyncio
import time

import numpy as np

from tidegate.errors import MessageTooLarge, SessionNotFound, StoreUnavailable, TidegateError
from tidegate.protocol.lifecycle import Event
from tidegate.session.checkpointing import Checkpointer
from tidegate.session.finding import Finder
from tidegate.session.frames import Refusals
from tidegate.session.handles import HandleArray, HandleStatus
from tidegate.session.holds import Holds
from tidegate.session.keeper import StoreKeeper
from tidegate.session.limits import SessionLimits
from tidegate.session.open_request import check_session_id
from tidegate.session.registry import Place, Registry
from tidegate.session.rows import handle_error, judge_handles, others
from tidegate.session.stores.store import StoredSession
from tidegate.session.stream import NoticeReason, SessionStream
from tidegate.session.table import NO_STREAM, SessionTable
from tidegate.session.whole import to_the_end
from tidegate.tensor import SlotArray

LOST = (HandleStatus.DISPLACED, HandleStatus.ENDED)
"""What a handle says once its session is another's or nobody's."""


class Closer:
    """Gives sessions up, for all streams."""

    def __init__(
        self,
        registry: Registry,
        keeper: StoreKeeper,
        checkpointer: Checkpointer,
        finder: Finder,
        holds: Holds,
        streams: dict[int, SessionStream],
        limits: SessionLimits,
    ) -> None:
        self._registry = registry
        self._keeper = keeper
        self._checkpointer = checkpointer
        self._finder = finder
        self._holds = holds
        self._streams = streams
        self._limits = limits

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
            if end:
                closed, steps = await to_the_end(
                    self._end_handles(stream, table, closed, positions, refusals)
                )
            else:
                slots = stream.handles.slots(closed)
                steps = table.next_step[slots].tolist()
                self.detach(table, slots)
            for handle, step in zip(closed.tolist(), steps, strict=True):
                next_steps[positions[handle]] = step
            for handle in np.setdiff1d(mine, closed):
                status = HandleStatus(int(stream.handles.status(handle)))
                refusals.setdefault(positions[int(handle)], handle_error(status, int(handle)))
            stream.handles.take_back(mine)
            stream.in_hand.difference_update(mine.tolist())
        return next_steps, refusals

    async def end_session(self, session_id: str) -> int:
        """End a session by its id, whoever holds it; a lost one's id becomes free.

        Returns:
            The steps that it had applied.

        Raises:
            SessionNotFound: No session has this id.
            StoreUnavailable: The store could not forget it; it goes on.
        """
        check_session_id(session_id)
        return await to_the_end(self._end_by_id(session_id))

    async def _end_by_id(self, session_id: str) -> int:
        async with self._holds.take([session_id]):
            known = (await self._finder.find([session_id])).get(session_id)
            self._finder.require(session_id, known, Event.END)
            if isinstance(known, Place):
                slots = np.array([known.slot], np.int32)
                await self._forget(known.table, slots)
                self._tell_owner(known, f"session {session_id!r} was ended by its id")
                # The id is free; the steps that still run are counted before they are told.
                ended = self._end(known.table, slots)
            else:
                assert isinstance(known, StoredSession), "only a known session can be ended"
                await self._keeper.write(lambda store: store.end([known.number]))
                return known.next_step if known.tombstone is None else known.tombstone.next_step
        return (await ended)[0]

    def detach(self, table: SessionTable, slots: SlotArray) -> None:
        """Leave sessions in memory without a stream."""
        table.owner[slots] = NO_STREAM
        table.last_used_s[slots] = time.monotonic()

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

    async def _end_handles(
        self,
        stream: SessionStream,
        table: SessionTable,
        handles: HandleArray,
        positions: dict[int, int],
        refusals: Refusals,
    ) -> tuple[HandleArray, list[int]]:
        """End sessions of a stream.

        Returns:
            The handles of those that were its own until the end, and the steps that each had applied.
        """
        ids = [table.ids[slot] for slot in stream.handles.slots(handles).tolist()]
        async with self._holds.take(ids):
            mine: HandleArray = handles[stream.handles.status(handles) == HandleStatus.CLOSING]
            slots = stream.handles.slots(mine)
            try:
                await self._forget(table, slots)
            except StoreUnavailable as error:
                self.detach(table, slots)
                refusals.update({positions[handle]: error for handle in mine.tolist()})
                return mine[:0], []
            steps: list[int] = table.next_step[slots].tolist()
            # The stream may be lost before the close goes on, and must not give these up once more.
            stream.handles.mark(mine, HandleStatus.ENDED)
            self._end(table, slots)
            return mine, steps

    async def _forget(self, table: SessionTable, slots: SlotArray) -> None:
        """Delete sessions from the store; they are not checkpointed any more."""
        numbers = table.number[slots].tolist()
        table.frozen[slots] = True
        try:
            await self._checkpointer.settled()
            await self._keeper.write(lambda store: store.end(numbers))
        except BaseException:
            table.frozen[slots] = False
            raise

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

        self._registry.remove(table.ids[slot] for slot in slots.tolist())
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
