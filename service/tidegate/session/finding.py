"""What the server knows of an id: a session in memory, one in the store, a lost one, or nothing."""

from __future__ import annotations

from collections.abc import Sequence

from tidegate.errors import SessionBusy, SessionExists, SessionLost, SessionNotFound, TidegateError
from tidegate.protocol.lifecycle import Condition, Event, allowed
from tidegate.session.keeper import StoreKeeper
from tidegate.session.registry import Place, Registry
from tidegate.session.stores.store import StoredSession

Known = Place | StoredSession | None


class Finder:
    """Looks ids up, in memory first. Whoever asks holds the ids, so the answer stays true."""

    def __init__(self, registry: Registry, keeper: StoreKeeper) -> None:
        self._registry = registry
        self._keeper = keeper

    async def find(self, session_ids: Sequence[str]) -> dict[str, Known]:
        """What is known of each id.

        Raises:
            StoreUnavailable: The store cannot be read, and an id is not in memory.
        """
        known: dict[str, Known] = {i: self._registry.find(i) for i in session_ids}
        absent = [session_id for session_id, place in known.items() if place is None]
        if absent:
            known |= await self._keeper.read(lambda store: store.find(absent))
        return known

    def condition(self, known: Known) -> Condition:
        """Where a session is in its life."""
        if known is None:
            return Condition.UNKNOWN
        if isinstance(known, Place):
            return self._registry.condition(known)
        return Condition.GONE if known.tombstone is not None else Condition.PASSIVATED

    def require(self, session_id: str, known: Known, event: Event) -> None:
        """Raise what forbids an event, if the life of the session does not allow it now.

        Raises:
            SessionLost: Its state was given up.
            SessionNotFound: No session has this id.
            SessionExists: It is to be created or imported, and exists.
            SessionBusy: A single call is to step it, and a stream holds it.
        """
        if not allowed(self.condition(known), event):
            raise _refusal(session_id, known, event)


def _refusal(session_id: str, known: Known, event: Event) -> TidegateError:
    if known is None:
        return SessionNotFound(f"no session {session_id!r}")
    if isinstance(known, StoredSession) and known.tombstone is not None:
        lost = known.tombstone
        return SessionLost(
            f"session {session_id!r} was lost after {lost.next_step} steps: {lost.reason}; "
            "close it to use the id again",
            next_step=lost.next_step,
            durable_step=lost.durable_step,
        )
    if event in (Event.CREATE, Event.IMPORT):
        return SessionExists(f"session {session_id!r} exists, at step {known.next_step}")
    return SessionBusy(f"a stream holds session {session_id!r}: step it there, or resume it")
