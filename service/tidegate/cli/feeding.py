"""Rows in, answers out: what `tidegate stream` does between opening its files and closing them.

Every row that was read has its line in the output before the next chunk is read, so what is on the
disk when the command stops is what was answered.
"""

from __future__ import annotations

from dataclasses import dataclass

import click
import numpy as np

from tidegate.cli.answers import AnswerFile
from tidegate.client import Session
from tidegate.errors import InvalidRequest
from tidegate.model.time_rules import Row, RowReader


@dataclass(frozen=True)
class _Stamped:
    """A row, with its stamp as the file has it."""

    row: Row
    time: str


class Feeder:
    """Feeds the rows of a file to a session."""

    def __init__(
        self, session: Session, reader: RowReader, answers: AnswerFile, *, skips_bad_rows: bool
    ) -> None:
        self._session = session
        self._reader = reader
        self._answers = answers
        self._skips_bad_rows = skips_bad_rows

    async def feed(self, chunk: int) -> None:
        """Feed all rows and wait until their answers are on the disk.

        Args:
            chunk: Rows sent at a time.

        Raises:
            InvalidRequest: A row was refused, by its number, and bad rows are not to be skipped; the rows
                before it are answered.
        """
        rows: list[_Stamped] = []
        try:
            while True:
                try:
                    rows.append(_Stamped(next(self._reader), self._reader.time_text))
                except StopIteration:
                    break
                except InvalidRequest as error:
                    await self._answer(rows)
                    rows = []
                    self._refuse(error, self._reader.time_text)
                if len(rows) == chunk:
                    await self._answer(rows)
                    rows = []
            await self._answer(rows)
        finally:
            self._answers.sync()

    async def _answer(self, rows: list[_Stamped]) -> None:
        if not rows:
            return
        first_step = self._session.next_step
        inputs = {
            spec.name: np.stack([stamped.row.values[i] for stamped in rows])
            for i, spec in enumerate(self._session.model.inputs)
        }
        try:
            self._answers.write([stamped.time for stamped in rows], await self._session.run(inputs))
        except InvalidRequest as error:
            if len(rows) == 1:
                self._refuse(InvalidRequest(f"row {rows[0].row.number}: {error}"), rows[0].time)
                return
            if self._session.next_step != first_step:
                span = f"rows {rows[0].row.number} to {rows[-1].row.number}"
                raise InvalidRequest(f"{span}: refused in part: {error}; choose a smaller --chunk") from error
            # Refused whole, before any of its steps: one by one shows which row it was.
            for stamped in rows:
                await self._answer([stamped])

    def _refuse(self, error: InvalidRequest, time: str) -> None:
        if not self._skips_bad_rows:
            raise error
        click.echo(f"skipped: {error}", err=True)
        self._answers.write_skipped(time)
