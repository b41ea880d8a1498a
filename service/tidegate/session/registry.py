"""Which sessions are in memory: id → place, over all loaded versions."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import NamedTuple

from tidegate.engine.pool import LoadedModel
from tidegate.protocol.lifecycle import Condition
from tidegate.session.table import NO_STREAM, SessionTable
from tidegate.telemetry.metrics import Metrics
from tidegate.tensor import SlotArray

SLOT_MASK = (1 << 32) - 1


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
        # Number of the table << 32 | slot: a place as an object would cost a million sessions 64 MB.
        self._places: dict[str, int] = {}
        self._tables: dict[LoadedModel, SessionTable] = {}
        self._numbers: dict[SessionTable, int] = {}
        self._by_number: dict[int, SessionTable] = {}
        self._count = itertools.count()
        self._metrics = metrics

    def tables(self) -> list[SessionTable]:
        """The tables of all versions that have, or had, a session."""
        return list(self._tables.values())

    def table_of(self, model: LoadedModel) -> SessionTable:
        """The table of a version, made at first need."""
        table = self._tables.get(model)
        if table is None:
            table = self._tables[model] = SessionTable(model)
            number = self._numbers[table] = next(self._count)
            self._by_number[number] = table
            self._show(table)
        return table

    def forget_table(self, model: LoadedModel) -> None:
        """The version is unloaded; it must have no session."""
        table = self._tables.pop(model, None)
        if table is None:
            return
        assert table.num_sessions == 0, "a version with sessions is unloaded"
        del self._by_number[self._numbers.pop(table)]
        labels = (model.manifest.name, model.manifest.version)
        for condition in (Condition.ATTACHED, Condition.DETACHED):
            self._metrics.sessions.remove(*labels, condition.name.lower())
        self._metrics.arena_bytes.remove(*labels)
        self._metrics.arena_slots_free.remove(*labels)

    def find(self, session_id: str) -> Place | None:
        """Where a session is kept; None if none of this id is in memory."""
        place = self._places.get(session_id)
        return None if place is None else Place(self._by_number[place >> 32], place & SLOT_MASK)

    def add(self, table: SessionTable, slots: SlotArray) -> None:
        """Sessions have got slots; none of their ids may be in memory already."""
        base = self._numbers[table] << 32
        for slot in slots.tolist():
            self._places[table.ids[slot]] = base | slot

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
