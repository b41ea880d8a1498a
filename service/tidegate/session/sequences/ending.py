"""Sequences leave: ended by a request, begun anew, or back to what the store has.

An ended sequence is deleted from the store after its last answer has left. A store that fails keeps it for now:
it is deleted when the store works again, and before anything else is done under its id. A crash in between
brings it back as it was after its last request. Whoever calls this holds the id.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from tidegate.errors import StoreUnavailable
from tidegate.session.checkpointing import Checkpointer
from tidegate.session.keeper import StoreKeeper
from tidegate.session.registry import Place, Registry
from tidegate.session.sequences.kept import KeptAnswer
from tidegate.session.sequences.refusals import not_stored
from tidegate.session.sequences.sharing import Shared
from tidegate.session.stores.changes import ModelKey

MAX_KEPT_ENDS = 1024
"""Last answers of ended sequences that are kept for a client that repeats its last request."""


class LastAnswer(NamedTuple):
    """The last answer of a sequence that has ended, and the version that gave it."""

    model: ModelKey
    answer: KeptAnswer


class Ender:
    """Lets sequences leave, for all model versions. The event loop owns it."""

    def __init__(self, registry: Registry, keeper: StoreKeeper, checkpointer: Checkpointer) -> None:
        self._registry = registry
        self._keeper = keeper
        self._checkpointer = checkpointer
        self._deletions: Shared[int, None] = Shared(self._delete)
        # Ids of sequences that have ended, and that the store could not delete.
        self._undeleted: dict[str, int] = {}
        self._last_answers: OrderedDict[str, LastAnswer] = OrderedDict()

    async def end(self, place: Place) -> None:
        """End a sequence in memory that has nothing at work; it is gone from memory when this returns."""
        table, slot = place
        kept = table.sequences.answer(slot)
        if kept is not None:
            self._keep(table.ids[slot], LastAnswer(table.key, kept))
        table.frozen[slot] = True
        await self._delete_and_leave(place)

    async def end_for_another(self, place: Place) -> None:
        """End a sequence in memory that has nothing at work, for one that begins under its id.

        Raises:
            StoreUnavailable: The store keeps it, so it goes on.
        """
        table, slot = place
        table.frozen[slot] = True
        try:
            await self._deletions.ask(table.number.item(slot))
        except BaseException:
            table.frozen[slot] = False
            raise
        self._leave(place)

    async def leave_unsaved(self, session_id: str) -> None:
        """Have a spoilt sequence leave memory; the store has it as it was before, if it had begun by then."""
        place = self._registry.find(session_id)
        if place is None or not place.table.sequences.is_spoilt(place.slot):
            return
        table, slot = place
        slots = np.array([slot], np.int32)
        table.frozen[slot] = True
        table.drop(slots, lambda _: not_stored(table, slot))
        await table.model.engine.settle(slots)
        await self._checkpointer.settled()
        if table.books.newest_stored(slots)[0].item() == 0:
            await self._delete_and_leave(place)
        else:
            self._leave(place)

    async def forget(self, session_id: str, number: int) -> None:
        """Delete a sequence that is only in the store, or of which only a tombstone is left.

        Raises:
            StoreUnavailable: It is still there.
        """
        self._undeleted[session_id] = number
        try:
            await self.finish(session_id)
        finally:
            self._undeleted.pop(session_id, None)

    async def finish(self, session_id: str) -> None:
        """Delete a sequence that has ended and that the store could not delete then; else do nothing.

        Raises:
            StoreUnavailable: It still cannot.
        """
        number = self._undeleted.get(session_id)
        if number is not None:
            await self._deletions.ask(number)
            self._undeleted.pop(session_id, None)

    async def finish_all(self) -> None:
        """Delete what could not be deleted before, if the store works by now."""
        numbers = dict(self._undeleted)
        if numbers:
            with suppress(StoreUnavailable):  # said by the keeper
                await self._delete(list(numbers.values()))
                for session_id in numbers:
                    self._undeleted.pop(session_id, None)

    def last_answer(self, session_id: str) -> LastAnswer | None:
        """The last answer of a sequence that has ended, if it is kept."""
        return self._last_answers.get(session_id)

    def begun(self, session_id: str) -> None:
        """Another sequence has begun under the id: the last answer of the one before is of no use."""
        self._last_answers.pop(session_id, None)

    def _keep(self, session_id: str, last: LastAnswer) -> None:
        self._last_answers.pop(session_id, None)
        self._last_answers[session_id] = last
        if len(self._last_answers) > MAX_KEPT_ENDS:
            self._last_answers.popitem(last=False)

    async def _delete_and_leave(self, place: Place) -> None:
        table, slot = place
        if not table.is_stored[slot]:  # it may be on its way there
            await self._checkpointer.settled()
        # What the store never had is not remembered: no end of such may come while the store fails.
        if table.is_stored[slot]:
            self._undeleted[table.ids[slot]] = table.number.item(slot)
            with suppress(StoreUnavailable):  # said by the keeper; it is tried again
                await self.finish(table.ids[slot])
        self._leave(place)

    def _leave(self, place: Place) -> None:
        table, slot = place
        self._registry.remove([table.ids[slot]])
        table.release(np.array([slot], np.int32))

    async def _delete(self, numbers: list[int]) -> Sequence[None]:
        # What is on its way to the store must not come to a slot that has another session by then.
        await self._checkpointer.settled()
        await self._keeper.write(lambda store: store.end(numbers))
        return [None] * len(numbers)
