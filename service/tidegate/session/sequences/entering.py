"""Sequences come into memory: begun, or back from the store. Whoever calls this holds the id.

Where answers leave before their states are stored, the store is told so first, by a mark: if the process then
dies without having stored everything, whoever finds the mark knows that steps may be missing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from tidegate.engine.pool import LoadedModel
from tidegate.errors import TidegateError
from tidegate.session.choosing import NEWEST, Reach
from tidegate.session.creating import Creator
from tidegate.session.keeper import StoreKeeper
from tidegate.session.limits import SessionLimits
from tidegate.session.passivating import Passivator
from tidegate.session.registry import Place, Registry
from tidegate.session.returning import Claimant, Returner
from tidegate.session.sequences.kept import KeptAnswer
from tidegate.session.sequences.key import SequenceKey
from tidegate.session.sequences.sharing import Shared
from tidegate.session.stores.changes import ModelKey
from tidegate.session.stores.store import StoredSession
from tidegate.session.table import SessionTable
from tidegate.tensor import SlotArray


class Entry:
    """The way of sequences into memory, for all model versions. The event loop owns it."""

    def __init__(
        self,
        registry: Registry,
        keeper: StoreKeeper,
        passivator: Passivator,
        creator: Creator,
        returner: Returner,
        limits: SessionLimits,
        *,
        runs_ahead: bool,
    ) -> None:
        """Prepare.

        Args:
            registry: Which sessions are in memory.
            keeper: The store.
            passivator: Makes room.
            creator: Makes sessions.
            returner: Brings sessions back.
            limits: The operator's settings.
            runs_ahead: Answers leave before their states are stored, in a store that outlives the process.
        """
        self._registry = registry
        self._keeper = keeper
        self._passivator = passivator
        self._limits = limits
        self._creator = creator
        self._returner = returner
        self._runs_ahead = runs_ahead
        self._returns: Shared[StoredSession, Place | TidegateError] = Shared(self._restore)
        self._marks: Shared[int, None] = Shared(self._mark)

    async def check_room(self, loaded: LoadedModel) -> None:
        """Refuse to begin a sequence where there will be no room for it, before another is ended for it.

        Raises:
            ArenaFull: No slot is free, nor can be made so.
        """
        table = self._registry.table_of(loaded)
        async with self._passivator.room:
            await self._passivator.make_room(table, 1)
            if not table.pool.num_free:
                raise table.full(self._limits.retry_after_s)

    async def create(self, key: SequenceKey, loaded: LoadedModel) -> Place:
        """Make a sequence with the initial state.

        Raises:
            ArenaFull: No slot is free for it.
            StoreFull: As many sessions are known as may be.
        """
        manifest = loaded.manifest
        model = ModelKey(manifest.name, manifest.version, manifest.sha256)
        claimant = Claimant(b"", 0, self._keeper.new_epoch(), time.time())
        (made,) = await self._creator.create(model, [key.session_id], claimant, self._prepare)
        if isinstance(made, TidegateError):
            raise made
        return made

    async def bring_in(self, stored: StoredSession, *, is_sure: bool) -> Place:
        """Let a sequence that the store has be in memory, ready for its next step.

        Args:
            stored: What the store has.
            is_sure: Its client says that it stands at the newest state of the store, which may be older than the
                newest that should be there.

        Raises:
            SessionLost: That state cannot be used.
            ArenaFull: There is no room for it.
            StoreUnavailable: The store fails.
            ModelNotFound: Its version has left the repository.
            PackageError: Its version is refused now.
        """
        place = self._registry.find(stored.session_id)  # somebody may have had a look at it
        if place is None:
            outcome = await (self._go_back(stored) if is_sure else self._returns.ask(stored))
            if isinstance(outcome, TidegateError):
                raise outcome
            place = outcome
        await self._settle_mark(stored)
        kept = await self._last_answer(place, stored)
        slots = np.array([place.slot], np.int32)
        place.table.sequences.begin(slots, place.next_step, runs_ahead=self._runs_ahead)
        place.table.sequences.keep(place.slot, kept)
        return place

    def _prepare(self, table: SessionTable, slots: SlotArray) -> None:
        table.sequences.begin(slots, 0, runs_ahead=self._runs_ahead)

    async def _restore(self, sessions: list[StoredSession]) -> list[Place | TidegateError]:
        return await self._returner.restore(sessions, [NEWEST] * len(sessions), None)

    async def _go_back(self, stored: StoredSession) -> Place | TidegateError:
        """Let a sequence stand at the newest state that is left of it, and forget that there was a newer one."""
        epoch = self._keeper.new_epoch(stored.epoch)
        claimant = Claimant(b"", 0, epoch, time.time())
        reach = Reach(stored.next_step, stored.next_step)
        (outcome,) = await self._returner.restore([stored], [reach], claimant)
        return outcome

    async def _settle_mark(self, stored: StoredSession) -> None:
        """Have the store know whether answers will leave early from now on."""
        if self._runs_ahead:
            await self._marks.ask(stored.number)
        elif stored.may_have_lost_steps:
            await self._keeper.write(lambda store: store.unmark_ahead([stored.number]))

    async def _mark(self, numbers: list[int]) -> Sequence[None]:
        await self._keeper.write(lambda store: store.mark_ahead(numbers))
        return [None] * len(numbers)

    async def _last_answer(self, place: Place, stored: StoredSession) -> KeptAnswer | None:
        wanted, model = [(stored.number, stored.session_id)], place.table.key
        (packed,) = await self._keeper.read(lambda store: store.read_answers(wanted, model))
        kept = None if packed is None else KeptAnswer.unpack(packed)
        return kept if kept is not None and kept.next_step == place.next_step else None
