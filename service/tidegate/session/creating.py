"""New sessions: a slot in memory and a record in the store, both before anybody is told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from tidegate.engine.pool import ModelPool
from tidegate.errors import StoreFull, StoreUnavailable, TidegateError
from tidegate.session.keeper import StoreKeeper
from tidegate.session.passivating import Passivator
from tidegate.session.registry import Place, Registry
from tidegate.session.returning import Claimant
from tidegate.session.stores.changes import ModelKey
from tidegate.session.table import SessionTable
from tidegate.session.whole import to_the_end
from tidegate.tensor import SlotArray

Prepare = Callable[[SessionTable, SlotArray], None]
"""Enters in the table what the records of new sessions are to say of them."""


class Creator:
    """Makes sessions, for all who may. Whoever calls this holds the ids, and knows that they are free."""

    def __init__(
        self,
        pool: ModelPool,
        registry: Registry,
        keeper: StoreKeeper,
        passivator: Passivator,
        *,
        retry_after_s: float,
    ) -> None:
        self._pool = pool
        self._registry = registry
        self._keeper = keeper
        self._passivator = passivator
        self._retry_after_s = retry_after_s

    @asynccontextmanager
    async def version(self, name: str, version: str, sha256: str) -> AsyncIterator[ModelKey]:
        """The version that new sessions are to be pinned to; it stays loaded for as long as the block lasts.

        Args:
            name: Name of the model.
            version: Its version; "latest" or "" for the newest.
            sha256: Its hash; "" for any.

        Raises:
            ModelNotFound: There is no such model or version.
            ModelMismatch: The version has another hash.
            PackageError: The version is refused at load.
        """
        loaded = await self._pool.resolve(name, version, sha256)
        with loaded.in_use():
            yield ModelKey(loaded.manifest.name, loaded.manifest.version, loaded.manifest.sha256)

    async def create(
        self, model: ModelKey, ids: Sequence[str], claimant: Claimant, prepare: Prepare | None = None
    ) -> list[Place | TidegateError]:
        """Make sessions with the initial state, detached.

        While the store does not work they are in memory only, and get their records when it does.

        Args:
            model: The version to pin them to.
            ids: Ids that no session has.
            claimant: Who creates them.
            prepare: Called once they have slots, before they have records.

        Returns:
            For each, where it is, or why it is not.

        Raises:
            ModelNotFound: The version has left the repository.
            PackageError: It has been unloaded, and is refused now.
        """
        loaded = await self._pool.resolve(*model)
        table = self._registry.table_of(loaded)
        with loaded.in_use():
            async with self._passivator.room:
                await self._passivator.make_room(table, len(ids))
                made = list(ids[: table.pool.num_free])
                slots = self._begin(table, made, claimant)
                if prepare is not None:
                    prepare(table, slots)
            places = await to_the_end(self._keep(table, slots, made)) if made else []
        return [*places, *(table.full(self._retry_after_s) for _ in ids[len(made) :])]

    def _begin(self, table: SessionTable, ids: list[str], claimant: Claimant) -> SlotArray:
        """Give new sessions slots; a sweep must not give them records before they are kept."""
        slots = table.create(
            ids,
            self._keeper.new_numbers(len(ids)),
            creator=claimant.opener,
            attempt=claimant.attempt,
            epoch=claimant.epoch,
        )
        table.frozen[slots] = True
        self._registry.add(table, slots)
        return slots

    async def _keep(
        self, table: SessionTable, slots: SlotArray, ids: list[str]
    ) -> list[Place | TidegateError]:
        try:
            await self._enroll(table, slots)
        except StoreFull as error:
            self._registry.remove(ids)
            table.release(slots)
            return [error] * len(ids)
        return [Place(table, slot) for slot in slots.tolist()]

    async def _enroll(self, table: SessionTable, slots: SlotArray) -> None:
        """Give new sessions their records."""
        try:
            records = table.records(slots)
            await self._keeper.create(records)
            table.is_stored[slots] = True
        except StoreUnavailable:  # said by the keeper; the sweep will try again
            table.is_stored[slots] = False
        finally:
            table.frozen[slots] = False
