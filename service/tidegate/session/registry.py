"""Which sessions are in memory: id → place, over all loaded versions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from tidegate.engine.pool import LoadedModel
from tidegate.protocol.lifecycle import Condition
from tidegate.session.table import NO_STREAM, SessionTable
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
    """The sessions in memory."""

    def __init__(self, metrics: Metrics) -> None:
        self._places: dict[str, Place] = {}
        self._tables: dict[LoadedModel, SessionTable] = {}
        self._metrics = metrics

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
        """Where a session is kept; None if none of this id is in memory."""
        return self._places.get(session_id)

    def add(self, table: SessionTable, slots: SlotArray) -> None:
        """Sessions have got slots; none of their ids may be in memory already."""
        for slot in slots.tolist():
            self._places[table.ids[slot]] = Place(table, slot)

    def condition(self, place: Place) -> Condition:
        """Where a session in memory is in its life."""
        return Condition.DETACHED if place.owner == NO_STREAM else Condition.ATTACHED

    def remove(self, session_ids: Iterable[str]) -> None:
        """Sessions are in memory no more; their slots are released separately."""
        for session_id in session_ids:
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
