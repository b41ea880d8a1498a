"""The rows that an earlier run of `tidegate stream` answered: how many steps they were, and what was in them.

The output file says which rows are done, and the input and the model's rules say what steps they made: a
row may be several, because steps fill the gap before it, and a dropped or refused one is none. Nothing
but the two files is needed to know where the session stands.

What the server may lack is held, to be sent again: the steps that it says it has not stored. So a run that
goes on far down a long file holds little; only of a store in memory, which reports nothing as stored, it
holds all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tidegate.cli.kept_answers import KeptAnswers
from tidegate.client import Session
from tidegate.errors import ConfigError, InvalidRequest
from tidegate.model.rows import RowReader
from tidegate.model.steps import Steps
from tidegate.tensor import Array

BLOCK_ROWS = 1024
"""Rows held in one array, and sent at a time."""


@dataclass(frozen=True)
class AnsweredSteps:
    """The steps whose answers are in the output.

    Attributes:
        first_step: Of the first that is held.
        next_step: Behind the last of them.
        held: Per input, blocks `[steps, step_shape...]` of what may have to be sent again, in order.
    """

    first_step: int
    next_step: int
    held: list[tuple[Array, ...]]


def read_answered(reader: RowReader, kept: KeptAnswers, *, stored_step: int) -> AnsweredSteps:
    """Pass over the rows that have their line in the output.

    Args:
        reader: The input, from its first row on; afterwards it stands behind them.
        kept: The output.
        stored_step: The server has stored the session up to this step; what is below is not held.

    Raises:
        ConfigError: The input has fewer rows, or others.
        InvalidRequest: A row that has answers is refused.
    """
    book = _Book(kept.first_step, stored_step)
    for number, is_answered in enumerate(kept.answered):
        try:
            row = next(reader)
        except StopIteration:
            raise _other_input(
                f"one row per row of the input, got {len(kept.answered)} for {number}"
            ) from None
        except InvalidRequest:
            if is_answered:
                raise
            continue
        if is_answered and row.steps.num_steps == 0:
            raise _other_input(f"no answer to row {row.number}, which is dropped, got one")
        if is_answered:
            book.add(row.steps)
    return book.closed()


async def send_again(answered: AnsweredSteps, session: Session) -> None:
    """Send the server what it lacks of them; the answers are in the output already.

    Raises:
        ConfigError: The session stands where the files cannot have brought it.
    """
    step = answered.first_step
    for block in answered.held:
        lacking = max(0, session.next_step - step)
        step += len(block[0])
        if session.next_step < step:
            specs = session.model.inputs
            inputs = {spec.name: values[lacking:] for spec, values in zip(specs, block, strict=True)}
            await session.run(inputs, outputs="none")
            session.ack(session.next_step)
    if session.next_step != answered.next_step:
        raise ConfigError(
            f"output: expected a session at step {answered.next_step}, where its answers end, "
            f"got one at step {session.next_step}"
        )


class _Book:
    """Counts steps, and holds those that the server has not stored, in arrays without an object per row."""

    def __init__(self, first_step: int, stored_step: int) -> None:
        self._stored_step = stored_step
        self._next_step = first_step
        self._first_held = first_step
        self._rows: list[Steps] = []
        self._blocks: list[tuple[Array, ...]] = []

    def add(self, steps: Steps) -> None:
        self._next_step += steps.num_steps
        if self._next_step <= self._stored_step:
            self._first_held = self._next_step
            return
        self._rows.append(steps)
        if len(self._rows) == BLOCK_ROWS:
            self._close_block()

    def closed(self) -> AnsweredSteps:
        self._close_block()
        return AnsweredSteps(self._first_held, self._next_step, self._blocks)

    def _close_block(self) -> None:
        if self._rows:
            by_input = zip(*(steps.values for steps in self._rows), strict=True)
            self._blocks.append(tuple(np.concatenate(values) for values in by_input))
            self._rows = []


def _other_input(expected: str) -> ConfigError:
    return ConfigError(f"output: expected {expected}: it belongs to another input")
