"""Answers that wait until the states that they led to are stored.

All that wait share a commit, and what comes while one is under way shares the next. What could not be stored did not
happen: the sequence goes back to what the store has, and its answers and all behind them are refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from tidegate.errors import StoreUnavailable
from tidegate.session.checkpointing import Checkpointer
from tidegate.session.keeper import StoreKeeper
from tidegate.session.sequences.answering import Answers
from tidegate.session.sequences.refusals import not_stored
from tidegate.session.sequences.request import SequenceAnswer
from tidegate.session.sequences.row import Row
from tidegate.session.whole import begin
from tidegate.telemetry.incidents import incident

MAX_TRIES = 10
"""A state is not copied while somebody tries to end its sequence."""

PATIENCE_S = 0.01
"""Longest wait for answers that the engine keeps back for others of their frame, whose stream may be paused."""


class _Withheld(NamedTuple):
    row: Row
    answer: SequenceAnswer
    num_tries: int = 0


class Storing:
    """Withholds answers, for all model versions. The event loop owns it."""

    def __init__(
        self, checkpointer: Checkpointer, keeper: StoreKeeper, spoilt: Callable[[str], None]
    ) -> None:
        """Nothing is withheld.

        Args:
            checkpointer: Stores states.
            keeper: The store.
            spoilt: Told of a sequence, by its id, that must leave memory.
        """
        self._checkpointer = checkpointer
        self._keeper = keeper
        self._spoilt = spoilt
        self._waiting: dict[Answers, list[_Withheld]] = {}
        self._is_storing = False

    @property
    def is_busy(self) -> bool:
        """Whether any answer waits."""
        return self._is_storing

    def withhold(self, answers: Answers, row: Row, answer: SequenceAnswer) -> None:
        """Let an answer leave once its state is stored."""
        self._waiting.setdefault(answers, []).append(_Withheld(row, answer))
        if not self._is_storing:
            self._is_storing = True
            begin(self._run())

    async def _run(self) -> None:
        while self._waiting:
            waiting, self._waiting = self._waiting, {}
            for answers, group in waiting.items():
                await self._store(answers, group)
        self._is_storing = False

    async def _store(self, answers: Answers, group: list[_Withheld]) -> None:
        table, failed = answers.table, False
        slots = np.array(sorted({w.row.slot for w in group if _is_here(answers, w.row)}), np.int32)
        try:
            await self._checkpointer.save(table, slots)
        except StoreUnavailable:  # said by the keeper
            failed = True
        except Exception as error:  # a mistake of ours must not keep answers back for ever
            incident(error)
            failed = True
        # A sweep may be storing some of them: only what it has left alone is known not to be stored.
        await self._checkpointer.settled()
        stored = dict(zip(slots.tolist(), table.books.newest_stored(slots)[0].tolist(), strict=True))
        late: list[_Withheld] = []
        spoilt: set[int] = set()
        for row, answer, num_tries in group:
            # What has left memory was stored before, or has been ended since.
            if not _is_here(answers, row) or stored[row.slot] >= row.next_step:
                answers.end(row, answer)
            elif row.slot in spoilt or failed or num_tries == MAX_TRIES or not table.is_stored[row.slot]:
                spoilt.add(row.slot)
                answers.end(row, not_stored(table, row.slot))
            else:
                # Where a later step has run whose answer is not there yet, nothing can be copied.
                late.append(_Withheld(row, answer, num_tries + _is_settled(answers, row)))
        for slot in spoilt:
            self._spoil(answers, slot)
        if late:
            is_idle = not self._waiting and not any(_is_settled(answers, w.row) for w in late)
            self._waiting[answers] = late + self._waiting.get(answers, [])
            await (self._progress(answers) if is_idle else self._keeper.barrier())

    async def _progress(self, answers: Answers) -> None:
        """Wait until more of the engine's answers may be there."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                await answers.table.model.engine.progress()

    def _spoil(self, answers: Answers, slot: int) -> None:
        """Refuse all that is known of a sequence, and have it leave memory."""
        table, error = answers.table, not_stored(answers.table, slot)
        table.sequences.spoil(slot)
        waiting = self._waiting.get(answers, [])
        mine = [w for w in waiting if w.row.slot == slot]
        if mine:
            self._waiting[answers] = [w for w in waiting if w.row.slot != slot]
        for withheld in mine:
            answers.end(withheld.row, error)
        answers.gathering.drop(slot, error)
        self._spoilt(table.ids[slot])


def _is_settled(answers: Answers, row: Row) -> bool:
    """Whether the sequence of a row stands at the end of a request whose answer is there."""
    table, slot = answers.table, row.slot
    return bool(table.sequences.settled.item(slot) == table.next_step.item(slot))


def _is_here(answers: Answers, row: Row) -> bool:
    """Whether the sequence of a row still has its slot."""
    return bool(answers.table.number.item(row.slot) == row.number)
