"""Which sessions exist: id → place, over all loaded versions, and the ids of lost ones."""

from __future__ import annotations

from typing import NamedTuple

from tidegate.engine.pool import LoadedModel
from tidegate.errors import SessionBusy, SessionExists, SessionNotFound
from tidegate.protocol.lifecycle import Condition, Event, allowed
from tidegate.session.table import NO_STREAM, SessionTable
from tidegate.session.tombstones import Tombstones
from tidegate.telemetry.metrics import Metrics
from tidegate.tensor import SlotArray


class Place(NamedTuple):
    """Where a session is kept."""

    table: SessionTable
    slot: int

    @property
    def owner(self) -> int:
        """Number of the stream that holds it, or NO_STREAM."""
        return int(self.table.owner[self.slot])

    @property
    def next_step(self) -> int:
        """Steps applied."""
        return int(self.table.next_step[self.slot])


class Registry:
    """All sessions of the server.

    Attributes:
        tombstones: Ids of sessions whose state is lost.
    """

    def __init__(self, max_tombstones: int, metrics: Metrics) -> None:
        self.tombstones = Tombstones(max_tombstones)
        self._places: dict[str, Place] = {}
        self._tables: dict[LoadedModel, SessionTable] = {}
        self._metrics = metrics
        metrics.tombstones.set_function(lambda: len(self.tombstones))

    def tables(self) -> list[SessionTable]:
        """The tables of all versions that have, or had, a session."""
        return list(self._tables.values())

    def table_of(self, model: LoadedModel) -> SessionTable:
        """The table of a version, made at first need."""
        table = self._tables.get(model)
        if table is None:
            table = self._tables[model] = SessionTable(model)
            self._show(table)
        return table

    def forget_table(self, model: LoadedModel) -> None:
        """The version is unloaded; it must have no session."""
        table = self._tables.pop(model, None)
        if table is None:
            return
        assert table.num_sessions == 0, "a version with sessions is unloaded"
        labels = (model.manifest.name, model.manifest.version)
        for condition in (Condition.ATTACHED, Condition.DETACHED):
            self._metrics.sessions.remove(*labels, condition.name.lower())
        self._metrics.arena_bytes.remove(*labels)
        self._metrics.arena_slots_free.remove(*labels)

    def find(self, session_id: str) -> Place | None:
        """Where a session is kept; None if the server has none of this id."""
        return self._places.get(session_id)

    def get(self, session_id: str) -> Place:
        """Where a session is kept.

        Raises:
            SessionLost: Its state was given up.
            SessionNotFound: No session has this id.
        """
        place = self._places.get(session_id)
        if place is not None:
            return place
        tombstone = self.tombstones.get(session_id)
        if tombstone is not None:
            raise tombstone.error(session_id)
        raise SessionNotFound(f"no session {session_id!r}")

    def require(self, session_id: str, event: Event) -> None:
        """Raise what forbids the event, if the life of the session does not allow it now.

        Raises:
            SessionLost: Its state was given up.
            SessionNotFound: No session has this id.
            SessionExists: It is to be created, and exists.
            SessionBusy: A single call is to step it, and a stream holds it.
        """
        if allowed(self.condition(session_id), event):
            return
        place = self.get(session_id)
        if event is Event.CREATE:
            raise SessionExists(f"session {session_id!r} exists, at step {place.next_step}")
        raise SessionBusy(f"a stream holds session {session_id!r}: step it there, or resume it")

    def condition(self, session_id: str) -> Condition:
        """Where the session of an id is in its life."""
        place = self._places.get(session_id)
        if place is not None:
            return Condition.DETACHED if place.owner == NO_STREAM else Condition.ATTACHED
        return Condition.GONE if self.tombstones.get(session_id) else Condition.UNKNOWN

    def create(self, table: SessionTable, ids: list[str], creator: bytes) -> SlotArray:
        """Make new sessions, detached; none of the ids may be known.

        Raises:
            ArenaFull: There are fewer free slots; nothing was created.
        """
        slots = table.create(ids, creator)
        self._places.update(zip(ids, (Place(table, s) for s in slots.tolist()), strict=True))
        return slots

    def remove(self, session_id: str) -> None:
        """The id names no session any more; its slot is released separately."""
        del self._places[session_id]

    def ids(self) -> list[str]:
        """The ids of all sessions, in no particular order."""
        return list(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def _show(self, table: SessionTable) -> None:
        labels = (table.model.manifest.name, table.model.manifest.version)
        sessions = self._metrics.sessions
        sessions.labels(*labels, "attached").set_function(lambda: table.num_attached)
        sessions.labels(*labels, "detached").set_function(lambda: table.num_sessions - table.num_attached)
        self._metrics.arena_bytes.labels(*labels).set_function(
            lambda: table.model.runner.arena.allocated_bytes
        )
        self._metrics.arena_slots_free.labels(*labels).set_function(lambda: table.pool.num_free)
