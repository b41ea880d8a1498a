"""Requests of sequences that wait for the next batch of their model version.

They are gathered until the engine forms a batch, and get their step numbers only then: all that came meanwhile
goes in a few frames, and a request that was refused leaves no gap before those behind it.

A request is applied whole or not at all. One of several steps may be cut into slices, and fail in a later one: so
it waits until those before it are answered, and the state that they leave is copied, to be put back if it fails.
Until then nothing else could be stored of its sequence, and answers that wait for the store would wait for its end.

The event loop owns it.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import numpy as np

from tidegate.engine.frame import EngineFrame, Part, Source
from tidegate.errors import SessionNotFound, TidegateError
from tidegate.protocol.outputs import OutputSelection
from tidegate.protocol.sequences import check_step, is_repeat, unknown
from tidegate.session.sequences.kept import digest_of
from tidegate.session.sequences.refusals import expired, not_stored
from tidegate.session.sequences.row import Row
from tidegate.session.table import SessionTable

Kind = tuple[Source, int, float | None]
"""What the rows of a frame have in common: source, number of steps, deadline."""


class Gathering:
    """The gathered requests of one model version, and those of its sequences' requests that are at work."""

    def __init__(
        self,
        table: SessionTable,
        *,
        on_part: Callable[[list[Row], Part], None],
        repeat: Callable[[Row, Row | None], None],
        refuse: Callable[[Row, TidegateError], None],
    ) -> None:
        """Gather for a version; its engine asks for the rows.

        Args:
            table: Its sequences.
            on_part: Takes the engine's answers to the rows of a frame.
            repeat: Answers a row like the one before it that it repeats; None for the kept answer.
            refuse: Answers a row with an error.
        """
        self._table = table
        self._on_part = on_part
        self._repeat = repeat
        self._refuse = refuse
        self._arrivals = itertools.count(1)
        self._rows: list[Row] = []
        self._in_order = True
        # By the sequence's number: once stored it may leave before its answer does, and another take its slot.
        # A row that waits until nothing of its sequence is at work, and those behind it.
        self._held_back: dict[int, list[Row]] = {}
        # Rows that were accepted and are not answered, in their order.
        self._at_work: dict[int, list[Row]] = {}
        table.model.engine.feed(self)

    def __bool__(self) -> bool:
        """Whether any row may be ready."""
        return bool(self._rows)

    @property
    def is_busy(self) -> bool:
        """Whether any row is gathered or at work."""
        return bool(self._rows or self._held_back or self._at_work)

    def add(self, row: Row) -> None:
        """Take a row of a sequence that is in memory; rows of a sequence keep their order."""
        row.arrival = next(self._arrivals)
        self._table.sequences.gathered[row.slot] += 1
        self._rows.append(row)
        self._table.model.engine.wake()

    def take(self) -> list[EngineFrame]:
        """Number what may run, and put it into frames."""
        rows, self._rows = self._rows, []
        if not self._in_order:
            rows.sort(key=lambda row: row.arrival)
            self._in_order = True
        groups: list[list[Row]] = []
        positions: dict[Kind, int] = {}
        # A frame may only wait for frames that are queued before it.
        last_position: dict[int, int] = {}
        now_s = time.monotonic()
        for row in rows:
            if not self._accepts(row, now_s):
                continue
            kind = (row.request.source, row.num_steps, row.deadline_s)
            position = positions.get(kind, -1)
            if position <= last_position.get(row.slot, -1):
                position = positions[kind] = len(groups)
                groups.append([])
            groups[position].append(row)
            last_position[row.slot] = position
        return [self._frame(group) for group in groups]

    def ended(self, row: Row) -> None:
        """A row that was accepted is answered or refused."""
        rows = self._at_work[row.number]
        rows.remove(row)
        if rows:
            return
        del self._at_work[row.number]
        held_back = self._held_back.pop(row.number, None)
        if held_back is not None:
            self._rows += held_back
            self._in_order = False
            self._table.model.engine.wake()

    def again(self, row: Row) -> None:
        """A row that was accepted could not run because of one before it: it gets another number.

        To be called by the engine's answer, after which it forms a batch.
        """
        self.ended(row)
        self._table.sequences.gathered[row.slot] += 1
        self._rows.append(row)
        self._in_order = False

    def newest(self, slot: int) -> Row | None:
        """The row of a sequence that came last, if any is gathered or at work."""
        number = self._table.number.item(slot)
        mine = [row for row in self._rows if row.number == number]
        mine += [*self._held_back.get(number, ()), *self._at_work.get(number, ())]
        return max(mine, key=lambda row: row.arrival, default=None)

    def drop(self, slot: int, error: TidegateError) -> None:
        """Refuse what is gathered of a sequence."""
        number = self._table.number.item(slot)
        mine = [row for row in self._rows if row.number == number] + self._held_back.pop(number, [])
        self._rows = [row for row in self._rows if row.number != number]
        self._table.sequences.gathered[slot] = 0
        for row in mine:
            self._refuse(row, error)

    def check_integrity(self) -> None:
        """Raise AssertionError if rows are miscounted."""
        gathered = self._table.sequences.gathered
        rows = [*self._rows, *(row for held_back in self._held_back.values() for row in held_back)]
        here = [row.slot for row in rows if self._table.number.item(row.slot) == row.number]
        assert np.array_equal(np.bincount(here, minlength=len(gathered)), gathered), "rows are miscounted"

    def _accepts(self, row: Row, now_s: float) -> bool:
        """Whether a row goes to the engine now; else it is answered, or held back."""
        table, slot = self._table, row.slot
        if table.number.item(slot) != row.number:
            self._refuse(row, _ended(row))
            return False
        if table.sequences.is_spoilt(slot):
            table.sequences.gathered[slot] -= 1
            self._refuse(row, not_stored(table, slot))
            return False
        if row.number in self._held_back or (row.num_steps > 1 and row.number in self._at_work):
            self._held_back.setdefault(row.number, []).append(row)
            return False
        table.sequences.gathered[slot] -= 1
        try:
            if row.deadline_s is not None and row.deadline_s <= now_s:
                raise expired(row.request.arrived_s, now_s)
            if row.request.request_id and self._repeats(row):
                return False
            first_step = table.accepted.item(slot)
            check_step(row.request.step, first_step)
        except TidegateError as error:
            self._refuse(row, error)
            return False
        self._accept(row, first_step)
        return True

    def _repeats(self, row: Row) -> bool:
        """Whether a row is the last request over again; then it is answered, or will be with that."""
        row.digest = digest_of(row.inputs)
        request_id, at_work = row.request.request_id, self._at_work.get(row.number)
        if at_work is not None:
            last = at_work[-1]
            if not is_repeat(request_id, row.digest, last.request.request_id, last.digest):
                return False
            self._repeat(row, last)
            return True
        kept = self._table.sequences.answer(row.slot)
        if kept is None or not is_repeat(request_id, row.digest, kept.request_id, kept.digest):
            return False
        self._repeat(row, None)
        return True

    def _accept(self, row: Row, first_step: int) -> None:
        table, slot = self._table, row.slot
        row.first_step = first_step
        table.accepted[slot] = row.next_step
        table.last_used_s[slot] = row.request.arrived_s
        at_work = self._at_work.get(row.number)
        if at_work is None:
            self._at_work[row.number] = [row]
        else:
            at_work.append(row)
        if row.num_steps > 1:
            row.state = table.model.runner.arena.read(np.array([slot], np.int32))

    def _frame(self, rows: list[Row]) -> EngineFrame:
        first = rows[0]
        if len(rows) == 1:
            inputs = first.inputs
        else:
            inputs = [np.concatenate(arrays) for arrays in zip(*[row.inputs for row in rows], strict=True)]
        return EngineFrame(
            np.array([row.slot for row in rows], np.int32),
            np.array([row.first_step for row in rows], np.int64),
            inputs,
            outputs=OutputSelection.ALL,
            source=first.request.source,
            arrived_s=first.request.arrived_s,
            deadline_s=first.deadline_s,
            on_part=lambda part: self._on_part(rows, part),
        )


def _ended(row: Row) -> SessionNotFound:
    return unknown(str(row.request.key))
