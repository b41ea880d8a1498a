"""Rows in, answers out: what `tidegate stream` does between opening its files and closing them.

Every row that was read has its line in the output before the next chunk is read, and an answer is
acknowledged only then. So the server may forget nothing that the output does not have, and a run that is
killed is continued by the next from its files alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import click
import numpy as np

from tidegate.cli.answers import AnswerFile
from tidegate.cli.kept_answers import KeptAnswers
from tidegate.client import CallTimedOut, Session
from tidegate.errors import ConfigError, InvalidRequest
from tidegate.model.time_rules import Row, RowReader
from tidegate.tensor import Array

REPLAY_ROWS = 1024
"""Rows sent at a time whose answers the output has already."""

PATIENCE_S = 10.0
"""Longest wait for the store without a word about it."""


@dataclass(frozen=True)
class _Stamped:
    """A row, with its stamp as the file has it."""

    row: Row
    time: str


class Feeder:
    """Feeds the rows of a file to a session that takes explicit acknowledgements."""

    def __init__(
        self, session: Session, reader: RowReader, answers: AnswerFile, *, skips_bad_rows: bool
    ) -> None:
        self._session = session
        self._reader = reader
        self._answers = answers
        self._skips_bad_rows = skips_bad_rows

    async def replay(self, kept: KeptAnswers) -> None:
        """Pass over the rows that have their line in the output, and send what the server lacks of them.

        Raises:
            ConfigError: The input has fewer rows.
            InvalidRequest: A row that has answers is refused.
        """
        step = kept.first_step
        rows: list[Row] = []
        for number, is_answered in enumerate(kept.answered):
            try:
                row = next(self._reader)
            except StopIteration:
                raise ConfigError(
                    f"output: expected at most one row per row of the input, got {len(kept.answered)} for "
                    f"{number}: it belongs to another input"
                ) from None
            except InvalidRequest:
                if is_answered:
                    raise
                continue
            if is_answered and step >= self._session.next_step + len(rows):
                rows.append(row)
            step += is_answered
            if len(rows) == REPLAY_ROWS:
                await self._send_again(rows)
                rows = []
        await self._send_again(rows)
        assert self._session.next_step == kept.next_step, "rows were sent twice, or not at all"

    async def feed(self, chunk: int) -> None:
        """Feed all rows that are left, and wait until the server has stored what came of them.

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
        await self._flush()

    async def _send_again(self, rows: list[Row]) -> None:
        if rows:
            await self._session.run(self._inputs(rows), outputs="none")
            self._session.ack(self._session.next_step)

    async def _answer(self, rows: list[_Stamped]) -> None:
        if not rows:
            return
        first_step = self._session.next_step
        inputs = self._inputs([stamped.row for stamped in rows])
        try:
            answers = await self._session.run(inputs)
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
            return
        self._answers.write([stamped.time for stamped in rows], answers)
        self._session.ack(self._session.next_step)

    def _inputs(self, rows: Sequence[Row]) -> dict[str, Array]:
        specs = self._session.model.inputs
        return {spec.name: np.stack([row.values[i] for row in rows]) for i, spec in enumerate(specs)}

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
