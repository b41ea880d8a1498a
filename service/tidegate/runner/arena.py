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
    """Where one state pair lies: planes [first, first + planes) of a block."""

    block: int
    first: int
    planes: int


class _Block:
    """States of one element type and width: `[slots, planes, width]`."""

    def __init__(self, capacity: int, dtype: np.dtype[np.generic], width: int, initial: list[Array]) -> None:
        self.initial: Array = np.concatenate(initial)  # [planes, width]
        self.num_planes = len(self.initial)
        self.slots: Array = np.empty((capacity + 1, self.num_planes, width), dtype)
        self._rows: Array = self.slots.reshape(-1, width)
        self._plane: IntArray = np.arange(self.num_planes, dtype=np.int64)[:, None]

    def gather(self, slots: SlotArray) -> Array:
        """The states of `slots`, shape [planes, n, width]."""
        return self._rows.take(self._index(slots), axis=0, mode="clip")

    def scatter(self, slots: SlotArray, states: Array) -> None:
        """Write states of shape [planes, n, width] to `slots`."""
        self._rows[self._index(slots)] = states

    def _index(self, slots: SlotArray) -> IntArray:
        return slots * self.num_planes + self._plane


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
        self._places: list[_Place] = [_Place(0, 0, 0)] * len(self._pairs)
        self._lay_out(initial_states)
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

    def gather(self, slots: SlotArray) -> list[Array]:
        """Copy states out in the graph's layout, one array per state pair.

        Args:
            slots: Shape (n,), int32, touched before by `reset`.
        """
        blocks = [b.gather(slots) for b in self._blocks]
        return [
            blocks[place.block][place.first : place.first + place.planes].reshape(
                pair.graph_shape(len(slots), 1)
            )
            for pair, place in zip(self._pairs, self._places, strict=True)
        ]

    def scatter(self, slots: SlotArray, states: Sequence[Array]) -> None:
        """Write states in the graph's layout back; `slots` must be unique."""
        for number, block in enumerate(self._blocks):
            parts = [
                state.reshape(place.planes, len(slots), -1)
                for state, place in zip(states, self._places, strict=True)
                if place.block == number
            ]
            block.scatter(slots, parts[0] if len(parts) == 1 else np.concatenate(parts))

    def read(self, slots: SlotArray) -> list[Array]:
        """Copy states out per session: one array `[n, step_shape...]` per state pair."""
        states = self.gather(slots)
        return [
            s[None] if p.batch_axis is None else np.moveaxis(s, p.batch_axis, 0)
            for s, p in zip(states, self._pairs, strict=True)
        ]

    def write(self, slots: SlotArray, states: Sequence[Array]) -> None:
        """Write states per session, as `read` gives them."""
        self._touch(int(slots.max()))
        laid_out = [
            s if p.batch_axis is None else np.moveaxis(s, 0, p.batch_axis)
            for s, p in zip(states, self._pairs, strict=True)
        ]
        self.scatter(slots, laid_out)

    def is_initial(self, slot: int) -> bool:
        """Whether the slot holds the initial state, bit for bit."""
        return all(b.slots[slot].tobytes() == b.initial.tobytes() for b in self._blocks)

    def _lay_out(self, initial_states: Sequence[Array]) -> None:
        groups: dict[tuple[str, int], list[int]] = {}
        for i, pair in enumerate(self._pairs):
            groups.setdefault((pair.dtype, _width(pair)), []).append(i)
        for (_, width), members in groups.items():
            first = 0
            initial = [initial_states[i].reshape(-1, width) for i in members]
            for i, rows in zip(members, initial, strict=True):
                self._places[i] = _Place(len(self._blocks), first, len(rows))
                first += len(rows)
            self._blocks.append(_Block(self.capacity, initial[0].dtype, width, initial))

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
