"""The states of all sessions of one model version in memory, gathered and scattered by slot.

A slot is one row of every state block. State pairs with the same element type and width share a
block, so that a session's state lies in one place: `blocks[slot]` is `[planes, width]`, where a state
of graph shape `[2, batch, 64]` has 2 planes of width 64. A batch is gathered with one `take` per block
straight into the graph's layout, because the planes of a pair then stand before its batch axis.

The blocks are reserved for `capacity` slots at once and touched in chunks as slots come into use:
touching a page for the first time inside a step would cost that step milliseconds.

Slot 0 is never handed out; a batch can be padded with it without touching a session.

Not thread-safe: whoever owns the runner calls it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from tidegate.model.manifest import StatePair
from tidegate.tensor import Array, IntArray, SlotArray

CHUNK_BYTES = 16 * 1024 * 1024
"""Memory touched at a time as the arena grows."""


@dataclass(frozen=True)
class _Place:
    """Where one state pair lies: planes [first, end) of a block; and its shape around the batch axis."""

    block: int
    first: int
    end: int
    before: tuple[int, ...]
    after: tuple[int, ...]
    has_batch_axis: bool

    def split(self, num_rows: int) -> tuple[int, ...]:
        """The shape of a batch; of a graph without a batch axis, its rows along a first one."""
        return (*self.before, num_rows, *self.after)

    def graph_shape(self, num_rows: int) -> tuple[int, ...]:
        """The graph's shape for a batch; without a batch axis, of the one row."""
        return self.split(num_rows) if self.has_batch_axis else self.after

    @property
    def batch_axis(self) -> int:
        """Where `split` has the rows."""
        return len(self.before)


@dataclass(frozen=True)
class Location:
    """Where the states of a batch lie: per block, the rows of its slots, `[planes, n]`."""

    num_rows: int
    indices: list[IntArray]


class _Block:
    """States of one element type and width: `[slots, planes, width]`."""

    def __init__(self, capacity: int, dtype: np.dtype[np.generic], width: int, initial: list[Array]) -> None:
        self.initial: Array = np.concatenate(initial)  # [planes, width]
        self.num_planes = len(self.initial)
        self.width = width
        self.slots: Array = np.empty((capacity + 1, self.num_planes, width), dtype)
        # A row as one element: numpy then copies it at once when it writes.
        self._row_type = np.dtype((np.void, width * self.slots.itemsize))
        self._rows: Array = self._as_rows(self.slots.reshape(-1, width))
        self._plane: IntArray = np.arange(self.num_planes, dtype=np.int64)[:, None]

    def index(self, slots: SlotArray) -> IntArray:
        """Where the planes of `slots` lie among all rows of the block, shape [planes, n]."""
        return np.multiply(slots, self.num_planes, dtype=np.int64) + self._plane

    def take(self, index: IntArray) -> Array:
        """Copy rows out, shape [planes, n, width]."""
        return self._rows.take(index, mode="clip").view(self.slots.dtype).reshape(*index.shape, self.width)

    def put(self, index: IntArray, states: Array) -> None:
        """Write states of shape [planes, n, width] to rows."""
        self._rows[index] = self._as_rows(states)

    def _as_rows(self, states: Array) -> Array:
        """The same memory without the last axis, of `width` elements."""
        return np.ascontiguousarray(states).view(self._row_type)[..., 0]


class Arena:
    """States of up to `capacity` sessions.

    Attributes:
        capacity: Number of slots that can be in use.
        slot_bytes: Bytes of state of one session.
    """

    def __init__(self, pairs: Sequence[StatePair], initial_states: Sequence[Array], capacity: int) -> None:
        """Reserve the memory; none of it is touched yet.

        Args:
            pairs: The manifest's state pairs.
            initial_states: For each pair, the state of a new session, shape `step_shape`.
            capacity: Slots, numbered from 1.
        """
        self.capacity = capacity
        self._pairs = tuple(pairs)
        self._blocks: list[_Block] = []
        self._places: list[_Place] = self._lay_out(initial_states)
        self.slot_bytes = sum(b.initial.nbytes for b in self._blocks)
        self._chunk_slots = max(1, CHUNK_BYTES // max(1, self.slot_bytes))
        self._num_touched = 0
        self._touch(0)

    @property
    def allocated_bytes(self) -> int:
        """Memory touched so far."""
        return self._num_touched * self.slot_bytes

    def reset(self, slots: SlotArray) -> None:
        """Give `slots` the initial state, touching their memory where they are new."""
        if not len(slots):
            return
        self._touch(int(slots.max()))
        for block in self._blocks:
            block.slots[slots] = block.initial

    def locate(self, slots: SlotArray) -> Location:
        """Work out where the states of `slots` lie, once for a gather and a scatter.

        Args:
            slots: Shape (n,), int32, touched before by `reset`.
        """
        return Location(len(slots), [block.index(slots) for block in self._blocks])

    def gather(self, location: Location) -> list[Array]:
        """Copy states out in the graph's layout, one array per state pair."""
        taken = [block.take(index) for block, index in zip(self._blocks, location.indices, strict=True)]
        return [
            taken[place.block][place.first : place.end].reshape(place.graph_shape(location.num_rows))
            for place in self._places
        ]

    def scatter(self, location: Location, states: Sequence[Array]) -> None:
        """Write states in the graph's layout back; the slots must be unique.

        Raises:
            ValueError: A state has another number of elements than its pair; nothing was written.
        """
        flat = [
            state.reshape(place.end - place.first, location.num_rows, self._blocks[place.block].width)
            for state, place in zip(states, self._places, strict=True)
        ]
        for state, place in zip(flat, self._places, strict=True):
            index = location.indices[place.block][place.first : place.end]
            self._blocks[place.block].put(index, state)

    def read(self, slots: SlotArray) -> list[Array]:
        """Copy states out per session: one array `[n, step_shape...]` per state pair."""
        taken = [block.take(block.index(slots)) for block in self._blocks]
        return [
            np.moveaxis(
                taken[place.block][place.first : place.end].reshape(place.split(len(slots))),
                place.batch_axis,
                0,
            )
            for place in self._places
        ]

    def write(self, slots: SlotArray, states: Sequence[Array]) -> None:
        """Write states per session, as `read` gives them; `slots` must be unique."""
        self._touch(int(slots.max()))
        laid_out = [
            np.moveaxis(state, 0, place.batch_axis) for state, place in zip(states, self._places, strict=True)
        ]
        self.scatter(self.locate(slots), laid_out)

    def is_initial(self, slot: int) -> bool:
        """Whether the slot holds the initial state, bit for bit."""
        return all(b.slots[slot].tobytes() == b.initial.tobytes() for b in self._blocks)

    def _lay_out(self, initial_states: Sequence[Array]) -> list[_Place]:
        """Make the blocks; say where each pair lies."""
        groups: dict[tuple[str, int], list[int]] = {}
        for i, pair in enumerate(self._pairs):
            groups.setdefault((pair.dtype, _width(pair)), []).append(i)
        places: dict[int, _Place] = {}
        for (_, width), members in groups.items():
            first = 0
            initial = [initial_states[i].reshape(-1, width) for i in members]
            for i, rows in zip(members, initial, strict=True):
                places[i] = _place(self._pairs[i], len(self._blocks), first, len(rows))
                first += len(rows)
            self._blocks.append(_Block(self.capacity, initial[0].dtype, width, initial))
        return [places[i] for i in range(len(self._pairs))]

    def _touch(self, slot: int) -> None:
        if slot < self._num_touched:
            return
        end = min(self.capacity + 1, (slot // self._chunk_slots + 1) * self._chunk_slots)
        for block in self._blocks:
            block.slots[self._num_touched : end] = block.initial
        self._num_touched = end


def _width(pair: StatePair) -> int:
    axis = pair.batch_axis
    return prod(pair.step_shape if axis is None else pair.step_shape[axis:])


def _place(pair: StatePair, block: int, first: int, planes: int) -> _Place:
    shape, axis = pair.step_shape, pair.batch_axis or 0
    return _Place(block, first, first + planes, shape[:axis], shape[axis:], pair.batch_axis is not None)
