"""The inputs that a client may have to send again, of sessions that are stepped together.

A server that was lost comes back with an older state of each session, at a step of its own: the inputs
from there on must be sent again. So every input is held until the server has reported its step as
durable.

What always holds: the steps held of a row are in one piece, from `held_from` to its next step; inputs
are copies, so a caller may write over its own arrays. Inputs lie in blocks of whole calls, each twice
as long as the last up to a limit, so a step costs its own bytes and little more, and long runs of
single steps leave in few frames. The memory of a short block is freed with its last step, that of a
long one by halves.

No I/O, no clock. A client with a byte limit asks `num_bytes`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tidegate.protocol.cutting import FrameCaps, classes, cut
from tidegate.tensor import Array, BoolArray, IntArray

MAX_BLOCK_BYTES = 64 * 1024
"""A block grows to this, or to `MIN_BLOCK_STEPS`; a longer call is a block of its own."""

MIN_BLOCK_STEPS = 16
"""Steps that a block may hold however many bytes they have: of a large fleet, one step's inputs are fewer
bytes than what a block keeps about its rows."""

ROW_BYTES = 16
"""What a block keeps about a row beside its inputs: two step numbers."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Steps that are sent again in one frame.

    Attributes:
        rows: Positions, shape (rows,), ascending.
        first_steps: Number of each row's first step, shape (rows,), int64.
        num_steps: Steps of each row.
        inputs: Per model input, the elements of (rows, steps, step_shape...) in C order.
    """

    rows: IntArray
    first_steps: IntArray
    num_steps: int
    inputs: list[bytes]


class _Block:
    """Inputs of consecutive steps; `stops` is lower than the others' where a row was refused."""

    def __init__(self, first_steps: IntArray, inputs: Sequence[Array], capacity: int) -> None:
        self.first_steps = first_steps.copy()
        self.stops = first_steps.copy()
        self.used = 0
        self.dropped = 0
        self.arrays = [_room(x, capacity) for x in inputs]

    @property
    def capacity(self) -> int:
        """Steps of each row that there is room for."""
        return int(self.arrays[0].shape[1])

    @property
    def column_bytes(self) -> int:
        """Bytes of one step of all rows."""
        return sum(x[:, :1].nbytes for x in self.arrays)

    @property
    def num_bytes(self) -> int:
        """Bytes of the inputs held, and of the numbers beside them."""
        return (self.used - self.dropped) * self.column_bytes + ROW_BYTES * len(self.stops)

    def takes(self, first_steps: IntArray, num_steps: int, live: BoolArray) -> bool:
        """Whether these steps follow those of every live row, and there is room."""
        follows = (self.stops == first_steps) & (first_steps == self.first_steps + self.used)
        return self.used + num_steps <= self.capacity and bool((follows | ~live).all())

    def append(self, inputs: Sequence[Array], live: BoolArray) -> list[Array]:
        until = self.used + inputs[0].shape[1]
        views = [x[:, self.used : until] for x in self.arrays]
        for view, x in zip(views, inputs, strict=True):
            view[:] = x
        self.used = until
        self.stops[live] = self.first_steps[live] + until
        return views

    def drop_before(self, steps: IntArray) -> None:
        open_rows = self.stops > steps
        passed = int((steps[open_rows] - self.first_steps[open_rows]).min())
        self.dropped = max(self.dropped, passed)
        if 2 * self.dropped >= self.used and self.used * self.column_bytes > MAX_BLOCK_BYTES:
            self._free_dropped()

    def _free_dropped(self) -> None:
        """Give back the memory of a long call's first half, or more; what is short waits for its last step."""
        self.arrays = [x[:, self.dropped : self.used].copy() for x in self.arrays]
        self.first_steps = self.first_steps + self.dropped
        self.used -= self.dropped
        self.dropped = 0


def _room(x: Array, capacity: int) -> Array:
    """An array for `capacity` steps like those of x, shape (n, capacity, step_shape...)."""
    if x.shape[1] == capacity:
        return np.empty_like(x)
    # Step by step in memory, so that steps which never come take none.
    return np.empty((capacity, len(x), *x.shape[2:]), x.dtype).swapaxes(0, 1)


class HeldInputs:
    """The inputs of n sessions from the oldest step that may have to be sent again."""

    def __init__(self) -> None:
        self._blocks: deque[_Block] = deque()
        self._capacity = 1
        self.num_bytes = 0

    def cost(self, inputs: Sequence[Array]) -> int:
        """The most by which `num_bytes` grows when these are appended."""
        return sum(x.nbytes for x in inputs) + ROW_BYTES * len(inputs[0])

    def append(self, first_steps: IntArray, inputs: Sequence[Array], live: BoolArray) -> list[Array]:
        """Hold the inputs of a call.

        Args:
            first_steps: Number of each row's first step, shape (n,).
            inputs: Per model input, shape (n, T, step_shape...).
            live: Rows that will be sent, shape (n,); of the others nothing is ever sent again.

        Returns:
            The copies that are held, which nobody may write to.
        """
        num_steps = inputs[0].shape[1]
        if not self._blocks or not self._blocks[-1].takes(first_steps, num_steps, live):
            self._blocks.append(_Block(first_steps, inputs, max(num_steps, self._next_capacity(inputs))))
            self.num_bytes += self._blocks[-1].num_bytes
        block = self._blocks[-1]
        before = block.num_bytes
        views = block.append(inputs, live)
        self.num_bytes += block.num_bytes - before
        return views

    def cut_off(self, next_steps: IntArray) -> None:
        """Forget the steps from these numbers on: they were refused and never happened.

        Args:
            next_steps: Per row, shape (n,), not below the first step of the last call.
        """
        if self._blocks:
            np.minimum(self._blocks[-1].stops, next_steps, out=self._blocks[-1].stops)

    def drop_before(self, steps: IntArray) -> None:
        """Forget what need not be sent again: the steps before these numbers, as far as all rows allow.

        Args:
            steps: Per row, shape (n,).
        """
        while self._blocks and (self._blocks[0].stops <= steps).all():
            self.num_bytes -= self._blocks.popleft().num_bytes
        if self._blocks:
            before = self._blocks[0].num_bytes
            self._blocks[0].drop_before(steps)
            self.num_bytes += self._blocks[0].num_bytes - before

    def clear(self) -> None:
        """Forget everything."""
        self._blocks.clear()
        self.num_bytes = 0

    def held_from(self, next_steps: IntArray) -> IntArray:
        """The first step of each row that can be sent again, shape (n,), int64.

        Args:
            next_steps: Where a row of which nothing is held goes on, shape (n,).
        """
        if not self._blocks:
            return next_steps.copy()
        first = self._blocks[0]
        return np.minimum(first.first_steps + first.dropped, first.stops)

    def pieces(self, start: IntArray, stop: IntArray, caps: FrameCaps) -> Iterator[Piece]:
        """Cut the steps [start, stop) of each row into frames, in the order of steps.

        Args:
            start: Per row, shape (n,), not below `held_from`.
            stop: Per row, shape (n,); rows that have nothing to send stop where they start.
            caps: What the server takes.
        """
        for block in list(self._blocks):
            # As they are now: steps may become durable, and be freed, while the pieces are cut.
            arrays, first_steps = block.arrays, block.first_steps
            low = np.maximum(start, first_steps) - first_steps
            high = np.minimum(stop, block.stops) - first_steps
            rows = np.flatnonzero(low < high)
            for alike in classes(rows, low[rows], high[rows]):
                a, b = int(low[alike[0]]), int(high[alike[0]])
                row_bytes = max(1, block.column_bytes // len(block.stops))
                for part in cut(alike, a, b, row_bytes, caps):
                    first = first_steps[part.rows] + part.start
                    until = part.start + part.num_steps
                    chunk = [x[part.rows, part.start : until].tobytes() for x in arrays]
                    yield Piece(part.rows, first, part.num_steps, chunk)

    def _next_capacity(self, inputs: Sequence[Array]) -> int:
        column_bytes = sum(x[:, :1].nbytes for x in inputs)
        longest = max(MIN_BLOCK_STEPS, MAX_BLOCK_BYTES // max(1, column_bytes))
        self._capacity = min(2 * self._capacity, longest)
        return self._capacity
