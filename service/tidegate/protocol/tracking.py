"""What one call has sent and what has come back: cut into frames going out, put together coming in.

A *call* is the next T steps of n sessions, as an application asks for them. It may need several
frames (the server limits rows, steps and bytes), and a frame may be answered in several pieces, by
rows and by steps. `StepCall` keeps the account for all of it; a *tile* is the part of a call that one
frame carries.

What always holds: the steps of a row leave in order; a row that was refused sends nothing more; the
outputs of what has not been answered, or was refused, are NaN where the type has one; a step that was
answered is not asked for again, also when the connection broke and `restart` sends the rest once more.

No I/O, no clock, no messages: the client's stream feeds it with what it read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tidegate.errors import InternalError, TidegateError
from tidegate.protocol.cutting import Cut, FrameCaps, classes, cut
from tidegate.protocol.outputs import OutputSelection
from tidegate.tensor import Array, BoolArray, DType, IntArray, num_elements


@dataclass(frozen=True, slots=True)
class TensorForm:
    """Type and shape of an input or output for one step of one session."""

    dtype: DType
    step_shape: tuple[int, ...]

    @property
    def step_bytes(self) -> int:
        """Bytes of one step of one session."""
        return num_elements(self.step_shape) * self.dtype.numpy.itemsize


@dataclass(frozen=True, slots=True)
class Tile:
    """The part of a call that one frame carries.

    Attributes:
        rows: Positions in the call, shape (rows,), ascending.
        offset: Steps of the call before the first one here.
        num_steps: Steps of each row here.
        selection: Which answers the frame asks for.
    """

    rows: IntArray
    offset: int
    num_steps: int
    selection: OutputSelection


class StepCall:
    """The account of one call.

    Attributes:
        num_steps: T, the steps of each row.
        selection: Which answers the caller wants.
        outputs: Per model output, shape (n, T, step_shape...); (n, 1, ...) for LAST, (n, 0, ...) for NONE.
        first_steps: Number of each row's first step, shape (n,), int64.
        sent: Steps of each row that have left, shape (n,), int64.
        applied: Steps of each row that are known to be applied, shape (n,), int64.
        errors: The first error of each refused row, by position.
    """

    def __init__(
        self,
        first_steps: IntArray,
        inputs: Sequence[Array],
        outputs: Sequence[TensorForm],
        selection: OutputSelection = OutputSelection.ALL,
        refused: Mapping[int, TidegateError] | None = None,
    ) -> None:
        """Start the account.

        Args:
            first_steps: Number of each row's first step, shape (n,).
            inputs: Per model input, shape (n, T, step_shape...), n and T at least 1.
            outputs: What the model gives for one step.
            selection: Which answers the caller wants.
            refused: Rows that are not to be sent at all, with the reason.
        """
        num_rows, self.num_steps = inputs[0].shape[:2]
        self.first_steps = first_steps
        self.selection = selection
        self.errors: dict[int, TidegateError] = dict(refused or {})
        self.sent: IntArray = np.zeros(num_rows, np.int64)
        self.applied: IntArray = np.zeros(num_rows, np.int64)
        self._inputs = inputs
        self._forms = outputs
        answered = {OutputSelection.ALL: self.num_steps, OutputSelection.LAST: 1, OutputSelection.NONE: 0}[
            selection
        ]
        self.outputs = [_unanswered(form, num_rows, answered) for form in outputs]
        self._live: BoolArray = np.ones(num_rows, np.bool_)
        self._live[list(self.errors)] = False
        self._cuts: Iterator[Cut] | None = None

    @property
    def num_rows(self) -> int:
        """Number of sessions, n."""
        return len(self.first_steps)

    @property
    def is_over(self) -> bool:
        """Whether every step of every row is answered or refused."""
        return not (self._live & (self.applied < self.num_steps)).any()

    def next_tile(self, caps: FrameCaps) -> Tile | None:
        """Cut off the next part to send; None when everything has left.

        Steps before rows: all rows get their first steps before any gets its later ones.
        """
        if self._cuts is None:
            self._cuts = self._cut(caps)
        for part in self._cuts:
            rows = part.rows[self._live[part.rows]]
            if rows.size:
                until = part.start + part.num_steps
                self.sent[rows] = until
                return Tile(rows, part.start, part.num_steps, self._asked(until))
        return None

    def restart(self) -> None:
        """Send again, from now on, what was sent and not answered: each row from where it stands."""
        self.sent[:] = self.applied
        self._cuts = None

    def tile_inputs(self, tile: Tile) -> list[bytes]:
        """Per model input, the elements of a tile in C order."""
        until = tile.offset + tile.num_steps
        every = tile.rows.size == self.num_rows
        return [(x if every else x[tile.rows])[:, tile.offset : until].tobytes() for x in self._inputs]

    def take(
        self,
        tile: Tile,
        positions: Sequence[int],
        step_offset: int,
        num_steps: int,
        chunks: Sequence[bytes],
        errors: Mapping[int, TidegateError],
        deferred: Collection[int] = (),
    ) -> None:
        """Enter one result of a frame.

        Args:
            tile: What the frame carried.
            positions: Rows of the frame that are answered; empty: all of them.
            step_offset: Steps of the frame before the first one answered.
            num_steps: Steps answered.
            chunks: Per model output, elements of (rows, steps, step_shape...); empty or empty strings
                where the frame asked for none.
            errors: Refused rows, by their position in the frame.
            deferred: Positions of rows that were not taken for now, and will be sent again.

        Raises:
            InternalError: The result does not fit the frame: the server is broken.
        """
        if step_offset + num_steps > tile.num_steps or any(
            p >= tile.rows.size for p in (*positions, *errors, *deferred)
        ):
            raise InternalError("result: rows or steps: expected those of its frame, got others")
        rows = tile.rows[np.asarray(positions, np.int64)] if positions else tile.rows
        for position, error in errors.items():
            self._refuse(int(tile.rows[position]), error)
        taken = rows if not self.errors else rows[self._live[rows]]
        if deferred:
            taken = np.setdiff1d(taken, tile.rows[list(deferred)])
        if not taken.size or not num_steps:
            return  # Only refusals.
        self._write(tile, rows, step_offset, num_steps, chunks)
        self.applied[taken] = np.maximum(self.applied[taken], tile.offset + step_offset + num_steps)

    def refuse(self, rows: IntArray, error: TidegateError) -> None:
        """Enter that rows were refused: a frame as a whole, or sessions that are gone."""
        for row in rows.tolist():
            self._refuse(row, error)

    def _refuse(self, row: int, error: TidegateError) -> None:
        # Frames that were under way behind the refused one fail too, with WrongStep; the first
        # error is the one that says why.
        self.errors.setdefault(row, error)
        self._live[row] = False

    def _cut(self, caps: FrameCaps) -> Iterator[Cut]:
        out_bytes = sum(f.step_bytes for f in self._forms) if self.selection is OutputSelection.ALL else 0
        in_bytes = sum(x[0, 0].nbytes for x in self._inputs)
        rows = np.flatnonzero(self._live & (self.sent < self.num_steps))
        starts = [(alike, int(self.sent[alike[0]])) for alike in classes(rows, self.sent[rows])]
        for alike, start in starts:
            yield from cut(alike, start, self.num_steps, max(in_bytes, out_bytes, 1), caps)

    def _asked(self, until: int) -> OutputSelection:
        if self.selection is OutputSelection.LAST and until < self.num_steps:
            return OutputSelection.NONE
        return self.selection

    def _write(
        self, tile: Tile, rows: IntArray, step_offset: int, num_steps: int, chunks: Sequence[bytes]
    ) -> None:
        is_last = step_offset + num_steps == tile.num_steps
        if tile.selection is OutputSelection.NONE or (tile.selection is OutputSelection.LAST and not is_last):
            return
        start, steps = (
            (tile.offset + step_offset, num_steps) if tile.selection is OutputSelection.ALL else (0, 1)
        )
        if len(chunks) != len(self._forms):
            raise InternalError(f"result: outputs: expected {len(self._forms)}, got {len(chunks)}")
        for target, form, chunk in zip(self.outputs, self._forms, chunks, strict=True):
            expected = rows.size * steps * form.step_bytes
            if len(chunk) != expected:
                raise InternalError(f"result: outputs: expected {expected} bytes, got {len(chunk)}")
            values = np.frombuffer(chunk, form.dtype.numpy).reshape(rows.size, steps, *form.step_shape)
            every = rows is tile.rows and rows.size == self.num_rows
            where: slice | IntArray = slice(None) if every else rows
            target[where, start : start + steps] = values


def _unanswered(form: TensorForm, num_rows: int, num_steps: int) -> Array:
    fill = np.nan if form.dtype.is_float else 0
    return np.full((num_rows, num_steps, *form.step_shape), fill, form.dtype.numpy)
