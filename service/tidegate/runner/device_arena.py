"""The states of all sessions of one model version on a device, moved there by ONNX Runtime itself.

The states of a pair are rows of one tensor: plane p of slot s is row `s * planes + p`, where a state of
graph shape `[2, batch, 64]` has 2 planes of 64 elements. A graph of one `Gather` per pair takes the rows
of a batch out, straight into the model's layout; one of `ScatterND` puts them back. Both are linked to the
model by values that stay on the device; per step, only row numbers, inputs and outputs cross the bus.

The input and the output of a `ScatterND` are bound to one buffer: it then writes the rows of the batch
and nothing else. Bound apart, every step would copy the whole arena.

All memory is reserved at once. A slot holds nothing of meaning before its first `reset` or `write`.
Slot 0 is never handed out and holds the initial state.

Not thread-safe: whoever owns the runner calls it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import onnxruntime as ort

from tidegate.errors import ConfigError
from tidegate.model.manifest import StatePair
from tidegate.runner.onnx_bytes import Node, encode_model
from tidegate.runner.ort import Device, make_session
from tidegate.tensor import Array, DType, IntArray, SlotArray, format_shape

CHUNK_BYTES = 16 * 1024 * 1024
"""States sent to the device at a time as slots are reset."""

MAX_ELEMENTS = 2**31 - 1
"""Elements of one state pair: the CUDA kernel of Gather computes with 32-bit positions, unchecked."""


@dataclass(frozen=True)
class _Planes:
    """How the slots of some pairs are spread over rows: the axes of a state before its batch axis."""

    before: tuple[int, ...]
    has_batch_axis: bool

    @property
    def count(self) -> int:
        """Rows of one slot."""
        return prod(self.before)

    def rows(self, slots: SlotArray) -> IntArray:
        """Row numbers of `slots`, shape [*before, n]."""
        planes = np.arange(self.count, dtype=np.int64).reshape(*self.before, 1)
        return np.multiply(slots, self.count, dtype=np.int64) + planes

    def graph_rows(self, slots: SlotArray) -> IntArray:
        """The same in the shape that makes `Gather` give the graph's layout."""
        rows = self.rows(slots)
        return rows if self.has_batch_axis else rows.reshape(self.before)


@dataclass(frozen=True)
class _Table:
    """The states of one pair.

    Attributes:
        initial: State of a new session, `step_shape`.
        planes: Position of its spread among all that are in use.
        batch_axis: Where a batch of states has its rows.
        values: On the device, `[rows, *row_shape]`.
    """

    initial: Array
    planes: int
    batch_axis: int
    values: ort.OrtValue

    @property
    def row_shape(self) -> tuple[int, ...]:
        """What follows the batch axis."""
        return self.initial.shape[self.batch_axis :]


@dataclass(frozen=True)
class DeviceLocation:
    """Where the states of a batch lie: row numbers on the device, one tensor per way to spread slots."""

    indices: list[ort.OrtValue]


class DeviceArena:
    """States of up to `capacity` sessions.

    Attributes:
        capacity: Number of slots that can be in use.
        slot_bytes: Bytes of state of one session.
    """

    def __init__(
        self,
        pairs: Sequence[StatePair],
        initial_states: Sequence[Array],
        capacity: int,
        *,
        device: Device,
        label: str,
    ) -> None:
        """Reserve the memory on the device and load the graphs that move states.

        Args:
            pairs: The manifest's state pairs, at least one.
            initial_states: For each pair, the state of a new session, shape `step_shape`.
            capacity: Slots, numbered from 1.
            device: Where the states are kept.
            label: Name of the model version, for errors.

        Raises:
            ConfigError: The device cannot hold the states of so many sessions.
            DeviceUnavailable: The device does not start.
        """
        self.capacity = capacity
        self.slot_bytes = sum(s.nbytes for s in initial_states)
        self._device: Device = device
        spreads = [_Planes(p.step_shape[: p.batch_axis or 0], p.batch_axis is not None) for p in pairs]
        self._planes = list(dict.fromkeys(spreads))
        self._tables = [
            _Table(
                initial,
                self._planes.index(spread),
                pair.batch_axis or 0,
                _reserve(pair, (capacity + 1) * spread.count, device, label),
            )
            for pair, spread, initial in zip(pairs, spreads, initial_states, strict=True)
        ]
        gather, scatter = _moving_graphs([p.dtype for p in pairs], [t.planes for t in self._tables])
        self._gather = make_session(gather, device=device, threads=1, label=label)
        self._scatter = make_session(scatter, device=device, threads=1, label=label)
        self.reset(np.zeros(1, np.int32))

    @property
    def allocated_bytes(self) -> int:
        """Memory reserved on the device."""
        return (self.capacity + 1) * self.slot_bytes

    def reset(self, slots: SlotArray) -> None:
        """Give `slots` the initial state."""
        chunk = max(1, CHUNK_BYTES // self.slot_bytes)
        for start in range(0, len(slots), chunk):
            part = slots[start : start + chunk]
            self.write(
                part, [np.broadcast_to(t.initial, (len(part), *t.initial.shape)) for t in self._tables]
            )

    def locate(self, slots: SlotArray) -> DeviceLocation:
        """Work out where the states of `slots` lie, once for a gather and a scatter.

        Args:
            slots: Shape (n,), int32, given a state before by `reset` or `write`.
        """
        return DeviceLocation([self._send(planes.graph_rows(slots)) for planes in self._planes])

    def gather(self, location: DeviceLocation) -> list[ort.OrtValue]:
        """Copy states out in the graph's layout, one value on the device per state pair."""
        binding = self._gather.io_binding()
        for i, index in enumerate(location.indices):
            binding.bind_ortvalue_input(_index(i), index)
        for i, table in enumerate(self._tables):
            binding.bind_ortvalue_input(_arena(i), table.values)
            binding.bind_output(_states(i), self._device)
        self._gather.run_with_iobinding(binding)
        gathered: list[ort.OrtValue] = binding.get_outputs()
        return gathered

    def scatter(self, location: DeviceLocation, states: Sequence[ort.OrtValue]) -> None:
        """Write states in the graph's layout back; the slots must be unique.

        Raises:
            ValueError: A state has another shape than its pair; nothing was written.
        """
        self._check_shapes(location, states)
        binding = self._scatter.io_binding()
        for i, index in enumerate(location.indices):
            # The same row numbers, in the shape that ScatterND asks for.
            shape = (*index.shape(), 1)
            binding.bind_input(_index(i), self._device, 0, np.int64, shape, index.data_ptr())
        for i, (table, state) in enumerate(zip(self._tables, states, strict=True)):
            binding.bind_ortvalue_input(_arena(i), table.values)
            binding.bind_ortvalue_input(_states(i), state)
            binding.bind_ortvalue_output(_written(i), table.values)
        self._scatter.run_with_iobinding(binding)

    def read(self, slots: SlotArray) -> list[Array]:
        """Copy states to the host, per session: one array `[n, step_shape...]` per state pair."""
        gathered = self.gather(self._locate_rows(slots))
        return [
            np.moveaxis(state.numpy(), table.batch_axis, 0)
            for state, table in zip(gathered, self._tables, strict=True)
        ]

    def write(self, slots: SlotArray, states: Sequence[Array]) -> None:
        """Write states per session, as `read` gives them; `slots` must be unique."""
        sent = [
            self._send(np.moveaxis(state, 0, table.batch_axis))
            for state, table in zip(states, self._tables, strict=True)
        ]
        self.scatter(self._locate_rows(slots), sent)

    def is_initial(self, slot: int) -> bool:
        """Whether the slot holds the initial state, bit for bit."""
        states = self.read(np.array([slot], np.int32))
        return all(s.tobytes() == t.initial.tobytes() for s, t in zip(states, self._tables, strict=True))

    def _locate_rows(self, slots: SlotArray) -> DeviceLocation:
        """As `locate`, with an axis of rows even where the graph has none."""
        return DeviceLocation([self._send(planes.rows(slots)) for planes in self._planes])

    def _send(self, value: Array) -> ort.OrtValue:
        return ort.OrtValue.ortvalue_from_numpy(np.asarray(value, order="C"), self._device, 0)

    def _check_shapes(self, location: DeviceLocation, states: Sequence[ort.OrtValue]) -> None:
        """One ScatterND after another: a later one that fails would leave the earlier ones written."""
        for table, state in zip(self._tables, states, strict=True):
            expected = (*location.indices[table.planes].shape(), *table.row_shape)
            if tuple(state.shape()) != expected:
                raise ValueError(
                    f"state: expected {format_shape(expected)}, got {format_shape(state.shape())}"
                )


def _reserve(pair: StatePair, num_rows: int, device: Device, label: str) -> ort.OrtValue:
    shape = (num_rows, *pair.step_shape[pair.batch_axis or 0 :])
    what = (
        f"{label}: --max-sessions: {pair.input_name!r} of all sessions is {pair.dtype} {format_shape(shape)}"
    )
    if prod(shape) > MAX_ELEMENTS:
        raise ConfigError(f"{what}: expected at most {MAX_ELEMENTS} elements, got {prod(shape)}")
    try:
        return ort.OrtValue.ortvalue_from_shape_and_type(shape, pair.dtype.numpy, device, 0)
    except Exception as error:  # ONNX Runtime has a dozen unrelated exception classes
        text = " ".join(str(error).split())
        raise ConfigError(f"{what}, which does not fit on {device}: {text}") from error


def _moving_graphs(dtypes: Sequence[DType], planes: Sequence[int]) -> tuple[bytes, bytes]:
    """A graph that gathers and one that scatters, for pairs with these types and spreads."""
    arenas = {_arena(i): dtype for i, dtype in enumerate(dtypes)}
    states = {_states(i): dtype for i, dtype in enumerate(dtypes)}
    written = {_written(i): dtype for i, dtype in enumerate(dtypes)}
    indices = {_index(spread): DType.INT64 for spread in planes}
    gathers = [Node("Gather", [_arena(i), _index(p)], [_states(i)]) for i, p in enumerate(planes)]
    scatters = [
        Node("ScatterND", [_arena(i), _index(p), _states(i)], [_written(i)]) for i, p in enumerate(planes)
    ]
    return (
        encode_model(gathers, inputs=arenas | indices, outputs=states),
        encode_model(scatters, inputs=arenas | indices | states, outputs=written),
    )


def _arena(pair: int) -> str:
    return f"arena{pair}"


def _index(spread: int) -> str:
    return f"index{spread}"


def _states(pair: int) -> str:
    return f"states{pair}"


def _written(pair: int) -> str:
    return f"written{pair}"
