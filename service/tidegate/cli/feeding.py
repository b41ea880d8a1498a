"""Rows in, answers out: what `tidegate stream` does between opening its files and closing them.

Every row that was read has its line in the output before the next chunk is read, and an answer is
acknowledged only then. So the server may forget nothing that the output does not have, and a run that is
killed is continued by the next from its files alone (`cli/replaying.py`).

A row may be several steps, because steps fill the gap before it: its line has the answer to the last of
them. A row that the rules drop is none, and its line stays empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import click
import numpy as np

from tidegate.cli.answers import AnswerFile
from tidegate.cli.rows import joined_steps
from tidegate.client import CallTimedOut, Session
from tidegate.errors import InvalidRequest
from tidegate.model.rows import Row, RowReader

MAX_CALL_STEPS = 4096
"""A call that has so many steps is sent, however few rows they come from: gaps may be long."""

PATIENCE_S = 10.0
"""Longest wait for the store without a word about it."""


@dataclass(frozen=True)
class _Stamped:
    """A row, with its stamp as the file has it."""

    row: Row
    time: str

    @property
    def num_steps(self) -> int:
        return self.row.steps.num_steps


class Feeder:
    """Feeds the rows of a file to a session that takes explicit acknowledgements."""

    def __init__(
        self, session: Session, reader: RowReader, answers: AnswerFile, *, skips_bad_rows: bool
    ) -> None:
        self._session = session
        self._reader = reader
        self._answers = answers
        self._skips_bad_rows = skips_bad_rows
        self._waiting: list[_Stamped] = []
        self._num_steps = 0

    async def feed(self, chunk: int) -> None:
        """Feed all rows that are left, and wait until the server has stored what came of them.

        Args:
            chunk: Rows sent at a time.

        Raises:
            InvalidRequest: A row was refused, by its number, and bad rows are not to be skipped; the rows
                before it are answered.
        """
        try:
            while True:
                try:
                    row = next(self._reader)
                except StopIteration:
                    break
                except InvalidRequest as error:
                    await self._answer_waiting()
                    self._refuse(error, self._reader.time_text)
                    continue
                await self._take(_Stamped(row, self._reader.time_text), chunk)
            await self._answer_waiting()
        finally:
            self._answers.sync()
        await self._flush()

    async def _take(self, stamped: _Stamped, chunk: int) -> None:
        if stamped.num_steps == 0:
            await self._answer_waiting()
            self._answers.write_skipped(stamped.time)
            return
        self._waiting.append(stamped)
        self._num_steps += stamped.num_steps
        if len(self._waiting) == chunk or self._num_steps >= MAX_CALL_STEPS:
            await self._answer_waiting()

    async def _answer_waiting(self) -> None:
        rows, self._waiting, self._num_steps = self._waiting, [], 0
        if rows:
            await self._answer(rows)

    async def _answer(self, rows: Sequence[_Stamped]) -> None:
        first_step = self._session.next_step
        inputs = joined_steps(self._session.model, [stamped.row.steps for stamped in rows])
        try:
            answers = await self._session.run(inputs)
        except InvalidRequest as error:
            if self._session.next_step != first_step:
                span = f"rows {rows[0].row.number} to {rows[-1].row.number}"
                raise InvalidRequest(f"{span}: refused in part: {error}; choose a smaller --chunk") from error
            if len(rows) == 1:
                self._refuse(InvalidRequest(f"row {rows[0].row.number}: {error}"), rows[0].time)
                return
            # Refused whole, before any of its steps: one by one shows which row it was.
            for stamped in rows:
                await self._answer([stamped])
            return
        last_of_row = np.cumsum([stamped.num_steps for stamped in rows]) - 1
        self._answers.write(
            [stamped.time for stamped in rows],
            {name: values[last_of_row] for name, values in answers.items()},
        )
        self._session.ack(self._session.next_step)

    def _refuse(self, error: InvalidRequest, time: str) -> None:
        if not self._skips_bad_rows:
            raise error
        click.echo(f"skipped: {error}", err=True)
        self._answers.write_skipped(time)

    async def _flush(self) -> None:
        try:
            await self._session.flush(timeout_s=PATIENCE_S)
        except CallTimedOut:
            click.echo("all rows are answered; waiting until the server has stored the last steps", err=True)
            await self._session.flush()
