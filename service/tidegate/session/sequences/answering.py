"""What the engine says of sequences' rows becomes answers.

With a durable store and answers that wait for it, an answer is handed on to be withheld; else it leaves at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tidegate.engine.frame import Part
from tidegate.engine.pool import LoadedModel
from tidegate.errors import ModelMismatch, TidegateError, WrongStep
from tidegate.protocol.sequences import not_kept
from tidegate.session.limits import SessionLimits
from tidegate.session.sequences.gathering import Gathering
from tidegate.session.sequences.kept import KeptAnswer
from tidegate.session.sequences.reading import Reader
from tidegate.session.sequences.refusals import not_stored
from tidegate.session.sequences.request import Outcome, SequenceAnswer, SequenceRequest
from tidegate.session.sequences.row import Row
from tidegate.session.table import SessionTable
from tidegate.tensor import Array

Withhold = Callable[["Answers", Row, SequenceAnswer], None]


class Answers:
    """The answers of one model version's sequences.

    Attributes:
        table: The sequences.
        gathering: Their requests.
        reader: Reads these.
    """

    def __init__(
        self,
        table: SessionTable,
        withhold: Withhold | None,
        limits: SessionLimits,
        count_repeat: Callable[[], None],
    ) -> None:
        """Answer for a version.

        Args:
            table: Its sessions.
            withhold: Takes answers that must not leave yet, to end their rows later; None if none must wait.
            limits: The operator's settings.
            count_repeat: Told of every request that is answered without being applied again.
        """
        self.table = table
        self.reader = Reader(table.model, limits)
        self._count_repeat = count_repeat
        self.gathering = Gathering(table, on_part=self._take, repeat=self._repeat, refuse=_refuse)
        self._withhold = withhold

    def row(self, request: SequenceRequest, slot: int) -> Row:
        """The steps that a request brings to a sequence.

        Raises:
            ModelMismatch: The sequence is pinned to another version than the one named.
            InvalidRequest: As `Reader.read`.
            MessageTooLarge: As `Reader.read`.
        """
        table = self.table
        if request.version and request.version != table.key.version:
            raise ModelMismatch(
                f"model_version: {request.key} is pinned to {table.key.version!r}, got {request.version!r}"
            )
        return Row(request, slot, table.number.item(slot), self.reader.read(request))

    def end(self, row: Row, outcome: Outcome) -> None:
        """What became of a row that was accepted."""
        self.gathering.ended(row)
        row.end(outcome)

    def _take(self, rows: list[Row], part: Part) -> None:
        chosen = rows if isinstance(part.rows, slice) else [rows[i] for i in part.rows.tolist()]
        if part.errors:
            self._take_back(chosen)
            for row, error in zip(chosen, part.errors, strict=True):
                self._refused(row, error)
        elif part.num_steps == chosen[0].num_steps:
            for i, row in enumerate(chosen):
                self._applied(row, [o[i : i + 1] for o in part.outputs])
        else:
            for i, row in enumerate(chosen):
                # Copied: a piece may wait long for the others, and a view holds all of its batch.
                row.pieces.append([o[i : i + 1].copy() for o in part.outputs])
                if part.step_offset + part.num_steps == row.num_steps:
                    self._applied(row, _joined(row.pieces))

    def _applied(self, row: Row, outputs: list[Array]) -> None:
        """All steps of a row have run."""
        columns, slot, request_id = self.table.sequences, row.slot, row.request.request_id
        row.state = None
        if columns.is_spoilt(slot):
            self.end(row, not_stored(self.table, slot))
            return
        columns.settled[slot] = row.next_step
        if request_id:
            columns.keep(slot, KeptAnswer.of(request_id, row.digest, row.first_step, outputs))
        elif columns.answer(slot) is not None:
            columns.keep(slot, None)
        answer = SequenceAnswer(self.table.model, row.first_step, outputs)
        if self._withhold is None:
            self.end(row, answer)
        else:
            self._withhold(self, row, answer)

    def _take_back(self, rows: list[Row]) -> None:
        """What comes next begins where the first refused row stands."""
        slots = np.array([row.slot for row in rows], np.int32)
        self.table.take_back(slots, np.array([row.first_step for row in rows], np.int64))

    def _refused(self, row: Row, error: TidegateError) -> None:
        if row.pieces and row.state is not None:
            self.table.put_back(
                np.array([row.slot], np.int32), np.array([row.first_step], np.int64), row.state
            )
        row.pieces, row.state = [], None
        if isinstance(error, WrongStep):  # for one that was refused before it
            self.gathering.again(row)
        else:
            self.end(row, error)

    def _repeat(self, row: Row, of: Row | None) -> None:
        self._count_repeat()
        if of is not None:
            of.repeated_by(row)
            return
        kept = self.table.sequences.answer(row.slot)
        assert kept is not None, "what is repeated is not kept"
        row.end(kept_outcome(self.table.model, kept))


def kept_outcome(model: LoadedModel, kept: KeptAnswer) -> Outcome:
    """The answer to a request that the version has answered before."""
    outputs = kept.arrays(model.manifest)
    if outputs is None:
        return not_kept(kept.first_step, kept.num_steps)
    return SequenceAnswer(model, kept.first_step, outputs)


def _joined(pieces: Sequence[list[Array]]) -> list[Array]:
    return [np.concatenate(arrays, axis=1) for arrays in zip(*pieces, strict=True)]


def _refuse(row: Row, error: TidegateError) -> None:
    row.end(error)
