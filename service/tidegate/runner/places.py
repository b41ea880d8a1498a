"""Where the states of a model's sessions are kept: in memory, or on the device that runs the graph.

A place is an arena and the way to run the graph on what that arena gathers. Only these two know what a
gathered state is: an array, or a value on the device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from tidegate.runner.arena import Arena
from tidegate.runner.device_arena import DeviceArena
from tidegate.runner.graph import Graph
from tidegate.runner.ort import Device
from tidegate.tensor import Array, SlotArray

L = TypeVar("L")
S = TypeVar("S")


class StateArena(Protocol[L, S]):
    """The states of up to `capacity` sessions; `L` is a location, `S` a state of a batch.

    Attributes:
        capacity: Number of slots that can be in use.
        slot_bytes: Bytes of state of one session.
    """

    capacity: int
    slot_bytes: int

    @property
    def allocated_bytes(self) -> int:
        """Memory taken so far."""

    def reset(self, slots: SlotArray) -> None:
        """Give `slots` the initial state."""

    def locate(self, slots: SlotArray) -> L:
        """Work out where the states of `slots` lie, once for a gather and a scatter."""

    def gather(self, location: L) -> list[S]:
        """Copy states out in the graph's layout, one per state pair."""

    def scatter(self, location: L, states: Sequence[S]) -> None:
        """Write states in the graph's layout back; the slots must be unique."""

    def read(self, slots: SlotArray) -> list[Array]:
        """Copy states out per session: one array `[n, step_shape...]` per state pair."""

    def write(self, slots: SlotArray, states: Sequence[Array]) -> None:
        """Write states per session, as `read` gives them; `slots` must be unique."""

    def is_initial(self, slot: int) -> bool:
        """Whether the slot holds the initial state, bit for bit."""


class Place(NamedTuple):
    """An arena, and `Graph.run` for the states that it gathers.

    Which kind of states these are is between the two, hence `Any`.
    """

    arena: StateArena[Any, Any]
    run: Callable[[Sequence[Array], Sequence[Any]], tuple[list[Array], list[Any]]]


def in_memory(graph: Graph, initial_states: Sequence[Array], capacity: int) -> Place:
    """Keep states in numpy arrays."""
    return Place(Arena(graph.manifest.states, initial_states, capacity), graph.run)


def on_device(graph: Graph, initial_states: Sequence[Array], capacity: int) -> Place:
    """Keep states where the graph runs; a model without any has nothing to keep there.

    Raises:
        ConfigError: The device cannot hold the states of so many sessions.
    """
    manifest = graph.manifest
    if not manifest.states:
        return in_memory(graph, initial_states, capacity)
    arena = DeviceArena(manifest.states, initial_states, capacity, device=graph.device, label=manifest.label)
    return Place(arena, graph.run_on_device)


PLACES: Mapping[Device, Callable[[Graph, Sequence[Array], int], Place]] = {
    "cpu": in_memory,
    "cuda": on_device,
}
