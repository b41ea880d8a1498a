"""Sessions go back to stored states.

Some are only in the store; of others the client has answers only up to an earlier step than the live one.

What lies above the chosen step is forgotten in the store before anything changes in memory, so that a
crash in between leaves either the old course of the session or the new one, never a mixture. Whoever
calls this holds the ids.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tidegate.engine.pool import ModelPool
from tidegate.errors import SessionLost, StoreUnavailable, TidegateError
from tidegate.protocol.checkpoints import NO_ROW
from tidegate.protocol.lifecycle import Event
from tidegate.protocol.resume import no_state_error
from tidegate.session.checkpointing import Checkpointer
from tidegate.session.choosing import NEWEST, Chosen, Reach, choose
from tidegate.session.finding import Finder
from tidegate.session.holds import Holds
from tidegate.session.keeper import StoreKeeper
from tidegate.session.passivating import Passivator
from tidegate.session.registry import Place, Registry
from tidegate.session.stores.changes import Claim, ModelKey
from tidegate.session.stores.store import StoredSession
from tidegate.session.table import SessionTable
from tidegate.telemetry.metrics import Metrics
from tidegate.tensor import SlotArray


@dataclass(frozen=True, slots=True)
class Claimant:
    """Who resumes sessions.

    Attributes:
        opener: The client instance.
        attempt: Its connection count.
        epoch: What the sessions' epochs are to be.
        used_s: Unix time.
    """

    opener: bytes
    attempt: int
    epoch: int
    used_s: float

    def claim(self, number: int, forget_above: int) -> Claim:
        """Its claim on one session."""
        return Claim(number, self.epoch, self.opener, self.attempt, self.used_s, forget_above)


class Returner:
    """Brings sessions back to what the store has of them."""

    def __init__(
        self,
        pool: ModelPool,
        registry: Registry,
        keeper: StoreKeeper,
        checkpointer: Checkpointer,
        passivator: Passivator,
        finder: Finder,
        holds: Holds,
        metrics: Metrics,
        *,
        retry_after_s: float,
    ) -> None:
        self._pool = pool
        self._registry = registry
        self._keeper = keeper
        self._checkpointer = checkpointer
        self._passivator = passivator
        self._finder = finder
        self._holds = holds
        self._metrics = metrics
        self._retry_after_s = retry_after_s

    @asynccontextmanager
    async def present(self, session_id: str, event: Event) -> AsyncIterator[Place]:
        """Hold a session in memory for as long as the block lasts, bringing it back if need be.

        Args:
            session_id: Its id; nobody may hold it already in the same piece of work.
            event: What is to be done to it.

        Raises:
            SessionNotFound: No session has this id.
            SessionLost: Its state was given up.
            SessionBusy: A stream holds it, and the event does not go with that.
            ArenaFull: There is no room for it.
            StoreUnavailable: The store cannot be read.
        """
        async with self._holds.take([session_id]):
            known = (await self._finder.find([session_id])).get(session_id)
            self._finder.require(session_id, known, event)
            assert known is not None, "an unknown session was let through"
            yield await self.bring_in(known)

    async def bring_in(self, known: Place | StoredSession) -> Place:
        """Let a session be in memory, at its newest state.

        Raises:
            TidegateError: As `present`.
        """
        if isinstance(known, Place):
            return known
        (outcome,) = await self.restore([known], [NEWEST], None)
        if isinstance(outcome, TidegateError):
            raise outcome
        return outcome

    async def restore(
        self, sessions: Sequence[StoredSession], reaches: Sequence[Reach], claimant: Claimant | None
    ) -> list[Place | TidegateError]:
        """Bring sessions back from the store, detached.

        Args:
            sessions: None of them is in memory.
            reaches: From where on each can go on.
            claimant: Who resumes them; None for a look at the newest state.

        Returns:
            For each, where it is now, or why it is not.
        """
        results: dict[int, Place | TidegateError] = {}
        for key in {session.model: None for session in sessions}:
            mine = [i for i, session in enumerate(sessions) if session.model == key]
            group = [sessions[i] for i in mine]
            try:
                await self._pool.resolve(*key)  # which may take seconds, so before the others have to wait
                async with self._passivator.room:
                    outcome = await self._restore_of_one(key, group, [reaches[i] for i in mine], claimant)
            except TidegateError as error:
                outcome = [error] * len(mine)
            results.update(zip(mine, outcome, strict=True))
        return [results[i] for i in range(len(sessions))]

    async def rewind(
        self, table: SessionTable, slots: SlotArray, reaches: Sequence[Reach], claimant: Claimant
    ) -> list[TidegateError | None]:
        """Put live sessions back to earlier states, if the store has them.

        Args:
            table: Whose sessions they are.
            slots: Sessions that no stream holds and nothing runs for, shape (n,).
            reaches: From where on each can go on; not from its live state.
            claimant: Who resumes them.

        Returns:
            For each, why it stays as it is, or None.
        """
        await self._checkpointer.enroll(table, slots)
        table.frozen[slots] = True
        try:
            await self._checkpointer.settled()
            ids = [table.ids[slot] for slot in slots.tolist()]
            stored = await self._keeper.read(lambda store: store.find(ids))
            errors: list[TidegateError | None] = [None] * len(ids)
            known = [i for i, session_id in enumerate(ids) if _is_sound(stored.get(session_id))]
            group = [stored[ids[i]] for i in known]
            good, chosen, refused = choose(group, [reaches[i] for i in known], for_look=False)
            for i in set(range(len(ids))) - set(known):
                live = [int(table.next_step[slots[i]])]
                errors[i] = no_state_error(ids[i], reaches[i].have, reaches[i].held_from, live, 0)
            for i, error in refused.items():
                errors[known[i]] = error
            where = slots[[known[i] for i in good]]
            found = await self._fetch(table, chosen)
            for i, session in zip(good, chosen.sessions, strict=True):
                if session.session_id not in found:
                    errors[known[i]] = _unreadable(session)
            kept = [n for n, session in enumerate(chosen.sessions) if session.session_id in found]
            if kept:
                chosen = chosen.take(kept)
                await self._claim(chosen, claimant)
                states = table.states_of([found[s.session_id] for s in chosen.sessions])
                table.put_back(where[kept], chosen.steps, states)
                _enter(table, where[kept], chosen)
        finally:
            table.frozen[slots] = False
        return errors

    async def _restore_of_one(
        self,
        key: ModelKey,
        sessions: list[StoredSession],
        reaches: list[Reach],
        claimant: Claimant | None,
    ) -> list[Place | TidegateError]:
        good, chosen, refused = choose(sessions, reaches, for_look=claimant is None)
        results: dict[int, Place | TidegateError] = dict(refused)
        loaded = await self._pool.resolve(*key)
        table = self._registry.table_of(loaded)
        with loaded.in_use():
            await self._passivator.make_room(table, len(good))
            # Before anything is forgotten in the store for a session that finds no room.
            room = table.pool.num_free
            results |= {i: table.full(self._retry_after_s) for i in good[room:]}
            good, chosen = good[:room], chosen.take(range(len(good))[:room])
            found = await self._fetch(table, chosen)
            kept = [n for n, session in enumerate(chosen.sessions) if session.session_id in found]
            results |= {i: _unreadable(sessions[i]) for i in good if sessions[i].session_id not in found}
            good, chosen = [good[n] for n in kept], chosen.take(kept)
            epoch = None
            if claimant is not None and good:
                try:
                    await self._claim(chosen, claimant)
                    epoch = claimant.epoch
                except StoreUnavailable as error:
                    kept = _need_no_claim(chosen, claimant)
                    results |= dict.fromkeys(good, error)
                    good, chosen = [good[n] for n in kept], chosen.take(kept)
        room = table.pool.num_free
        results |= {i: table.full(self._retry_after_s) for i in good[room:]}
        good, chosen = good[:room], chosen.take(range(len(good))[:room])
        if good:
            slots = self._put_in(table, chosen, found, epoch)
            results |= {i: Place(table, slot) for i, slot in zip(good, slots.tolist(), strict=True)}
        return [results[i] for i in range(len(sessions))]

    def _put_in(
        self, table: SessionTable, chosen: Chosen, found: dict[str, bytes | None], epoch: int | None
    ) -> SlotArray:
        """Give sessions slots and states; None for the epochs that they have."""
        slots = table.restore(
            chosen.sessions, chosen.steps, table.states_of([found[s.session_id] for s in chosen.sessions])
        )
        _enter(table, slots, chosen)
        if epoch is not None:
            table.epoch[slots] = epoch
        self._registry.add(table, slots)
        self._metrics.returns.labels(*table.model.entry).inc(len(slots))
        return slots

    async def _fetch(self, table: SessionTable, chosen: Chosen) -> dict[str, bytes | None]:
        """Read the chosen states, None for the initial one.

        Returns:
            By id; a state that turns out damaged is missing.
        """
        wanted = [
            (session.number, session.session_id, row)
            for session, row in zip(chosen.sessions, chosen.rows.tolist(), strict=True)
            if row != NO_ROW
        ]
        states = await self._keeper.read(lambda store: store.read(wanted, table.key)) if wanted else []
        found: dict[str, bytes | None] = {
            s.session_id: None
            for s, row in zip(chosen.sessions, chosen.rows.tolist(), strict=True)
            if row == NO_ROW
        }
        size = table.model.runner.arena.slot_bytes
        for (_, session_id, _), state in zip(wanted, states, strict=True):
            if state is not None and len(state) == size:
                found[session_id] = state
        return found

    async def _claim(self, chosen: Chosen, claimant: Claimant) -> None:
        """Renew the epochs of sessions, and forget in the store what lies above their chosen states."""
        claims = [
            claimant.claim(session.number, step)
            for session, step in zip(chosen.sessions, chosen.steps.tolist(), strict=True)
        ]
        await self._keeper.write(lambda store: store.claim(claims))


def _need_no_claim(chosen: Chosen, claimant: Claimant) -> list[int]:
    """Which sessions may go on under the epochs that they have, while the store cannot renew these.

    Those of which nothing lies above the chosen state, where the client opened them last: it is the only one
    that was told the epoch, so nobody takes what it does from now on for a course that another has seen.
    """
    return [
        n
        for n, (session, step) in enumerate(zip(chosen.sessions, chosen.steps.tolist(), strict=True))
        if claimant.opener and claimant.opener == session.opener
        if session.next_step == step and not session.damage
    ]


def _is_sound(session: StoredSession | None) -> bool:
    """Whether the store has a record of a session in memory; a damaged one could not be claimed."""
    return session is not None and session.tombstone is None


def _enter(table: SessionTable, slots: SlotArray, chosen: Chosen) -> None:
    """Take what the store has of sessions over into the books."""
    table.books.returned(slots, chosen.base_steps, chosen.base_rows, chosen.head_steps)


def _unreadable(session: StoredSession) -> SessionLost:
    return SessionLost(
        f"session {session.session_id!r}: its stored state cannot be read: {session.damage or 'damaged'}",
        next_step=session.next_step,
    )
