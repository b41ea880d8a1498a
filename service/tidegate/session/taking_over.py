"""A resume of a session in memory: it is taken from whoever holds it, between two batches.

What waits for it is dropped, what runs is written back, and the state that serves the newer client is
chosen. A session that no state of ours can serve stays with whoever holds it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tidegate.errors import Displaced, StoreUnavailable, TidegateError
from tidegate.protocol.checkpoints import NO_HEAD, NO_ROW
from tidegate.protocol.resume import NO_STATE, UNSET, choose_steps, no_state_error
from tidegate.session.checkpointing import Checkpointer
from tidegate.session.choosing import Reach
from tidegate.session.handles import HandleStatus
from tidegate.session.keeper import StoreKeeper
from tidegate.session.returning import Claimant, Returner
from tidegate.session.stores.changes import FORGET_NOTHING
from tidegate.session.stream import NoticeReason, SessionStream
from tidegate.session.table import NO_STREAM, SessionTable
from tidegate.tensor import IntArray, SlotArray


class TakeOver:
    """Takes sessions from streams. Whoever calls this holds the ids."""

    def __init__(
        self,
        keeper: StoreKeeper,
        checkpointer: Checkpointer,
        returner: Returner,
        streams: dict[int, SessionStream],
    ) -> None:
        self._keeper = keeper
        self._checkpointer = checkpointer
        self._returner = returner
        self._streams = streams

    async def take(
        self, table: SessionTable, slots: SlotArray, reaches: Sequence[Reach], claimant: Claimant
    ) -> list[TidegateError | None]:
        """Take sessions over, and put them where their new clients can go on.

        Args:
            table: Whose sessions they are.
            slots: Shape (n,), no two alike.
            reaches: From where on each client can go on.
            claimant: The client.

        Returns:
            For each, why it was not taken over, or None.
        """
        have = np.array([r.have for r in reaches], np.int64)
        held_from = np.array([r.held_from for r in reaches], np.int64)
        books = table.books
        # What the batch that runs leaves is what there will be to choose from.
        expected = np.array(table.model.engine.expected_steps(slots), np.int64)
        stored = np.array([expected, books.base_step[slots], books.head_step[slots]])
        can_begin = books.base_row[slots] == NO_ROW
        served = choose_steps(stored, have, held_from, can_begin) != NO_STATE
        errors: list[TidegateError | None] = [None] * len(slots)
        for n in np.flatnonzero(~served).tolist():
            steps, durable_step = stored[:, n].tolist(), int(stored[1, n])
            errors[n] = no_state_error(
                table.ids[slots[n]], reaches[n].have, reaches[n].held_from, steps, durable_step
            )
        self._displace(table, slots[served])
        await table.model.engine.settle(slots[served])
        live = table.next_step[slots]
        goes_on = served & (choose_steps(live[np.newaxis], have, held_from, can_begin) == live)
        _give_up_bases(table, slots[goes_on], np.where(held_from == UNSET, live, held_from)[goes_on])
        await self._claim(table, slots[goes_on], claimant)
        await self._store(table, slots[goes_on & (have == UNSET) & (held_from == UNSET)])
        back = np.flatnonzero(served & ~goes_on)
        if len(back):
            rewound = await self._rewind(table, slots[back], [reaches[n] for n in back.tolist()], claimant)
            for n, error in zip(back.tolist(), rewound, strict=True):
                errors[n] = error
        return errors

    def _displace(self, table: SessionTable, slots: SlotArray) -> None:
        """Take sessions from the streams that hold them, and drop what waits there."""
        table.drop(slots, _displaced)
        owners = table.owner[slots]
        for number in np.unique(owners).tolist():
            if number == NO_STREAM:
                continue
            older, theirs = self._streams[number], slots[owners == number]
            handles = table.handle[theirs]
            older.handles.mark(handles, HandleStatus.DISPLACED)
            what = (
                f"session {table.ids[theirs[0]]!r} was"
                if len(theirs) == 1
                else f"{len(theirs)} sessions were"
            )
            older.tell(
                NoticeReason.DISPLACED,
                handles.tolist(),
                table.model.engine.expected_steps(theirs),
                f"{what} resumed by another stream",
            )
        table.owner[slots] = NO_STREAM

    async def _claim(self, table: SessionTable, slots: SlotArray, claimant: Claimant) -> None:
        """Renew the epochs of sessions that go on from their live states.

        While the store does not work they keep the epochs that it knows: nothing has been forgotten, so
        these still tell the truth.
        """
        slots = slots[table.is_stored[slots]]
        if not len(slots):
            return
        claims = [claimant.claim(number, FORGET_NOTHING) for number in table.number[slots].tolist()]
        # A state copied under the old epoch would be refused after the claim.
        table.frozen[slots] = True
        try:
            await self._checkpointer.settled()
            await self._keeper.write(lambda store: store.claim(claims))
            table.epoch[slots] = claimant.epoch
        except StoreUnavailable:  # said by the keeper
            return
        finally:
            table.frozen[slots] = False

    async def _store(self, table: SessionTable, slots: SlotArray) -> None:
        """Store the live states of sessions whose clients can go on from there alone, before they are told."""
        self._checkpointer.tell(table, table.books.ack(slots, table.next_step[slots]))
        try:
            await self._checkpointer.save(table, slots)
        except StoreUnavailable:  # said by the keeper; the durable step says the rest
            return

    async def _rewind(
        self, table: SessionTable, slots: SlotArray, reaches: list[Reach], claimant: Claimant
    ) -> list[TidegateError | None]:
        try:
            errors = await self._returner.rewind(table, slots, reaches, claimant)
        except TidegateError as error:
            return [error] * len(slots)
        table.epoch[slots[[error is None for error in errors]]] = claimant.epoch
        return errors


def _give_up_bases(table: SessionTable, slots: SlotArray, lowest: IntArray) -> None:
    """Let heads be bases where the clients can send no inputs from the bases on.

    A session that came back for a look, or for a client that said little, may have the wrong one of its
    two states for its base: the next write would go over the one that its client was told of.
    """
    base, head = table.books.base_step[slots], table.books.head_step[slots]
    useless = (base < lowest) & (head != NO_HEAD)
    table.books.ack(slots[useless], head[useless])


def _displaced(next_step: int) -> Displaced:
    return Displaced(f"another stream has resumed the session at step {next_step}", next_step=next_step)
