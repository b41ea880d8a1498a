"""`python -m bench.places`: moving a batch's states by numpy, and by ONNX Runtime's own graphs, on the CPU.

What it shows is why states stay in numpy arrays where models run on the CPU (docs/decisions.md).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import click
import numpy as np

from bench.machine import choose_cores, describe
from bench.models import DEFAULT
from tidegate.model.manifest import StatePair
from tidegate.runner.arena import Arena
from tidegate.runner.device_arena import DeviceArena
from tidegate.runner.places import StateArena
from tidegate.tensor import DType

NUM_SESSIONS = 100_000
NUM_MOVES = 1000


def make_arenas(num_sessions: int) -> dict[str, StateArena[Any, Any]]:
    """The states of the default model both ways, all slots in use."""
    shape = (DEFAULT.layers, "batch", DEFAULT.hidden)
    pairs = [
        StatePair(input_name=name, output_name=f"{name}_next", dtype=DType.FLOAT32, shape=shape)
        for name in ("h", "c")
    ]
    initial = [np.zeros(p.step_shape, np.float32) for p in pairs]
    arenas: dict[str, StateArena[Any, Any]] = {
        "numpy": Arena(pairs, initial, num_sessions),
        "ONNX Runtime": DeviceArena(pairs, initial, num_sessions, device="cpu", label="bench"),
    }
    for arena in arenas.values():
        arena.reset(np.arange(1, num_sessions + 1, dtype=np.int32))
    return arenas


def move_us(arena: StateArena[Any, Any], num_rows: int, num_moves: int) -> float:
    """Microseconds of CPU to take the states of random sessions out and put them back."""
    rng = np.random.default_rng(0)
    batches = [
        rng.choice(arena.capacity, num_rows, replace=False).astype(np.int32) + 1 for _ in range(num_moves)
    ]
    start_s = time.process_time()
    for slots in batches:
        location = arena.locate(slots)
        arena.scatter(location, arena.gather(location))
    return (time.process_time() - start_s) / num_moves * 1e6


def show(num_sessions: int, num_moves: int, write: Callable[[str], None]) -> None:
    """Write one line per arena and number of rows."""
    for name, arena in make_arenas(num_sessions).items():
        for num_rows in (1, 256):
            write(f"{name:14} {num_rows:4} rows  {move_us(arena, num_rows, num_moves):8.1f} µs")


@click.command
def main() -> None:
    """Print what it costs to gather and scatter the states of 1 and of 256 sessions."""
    cores = choose_cores()
    os.sched_setaffinity(0, {cores.server})
    machine = describe(cores)
    click.echo(f"{machine['cpu']} · {machine['date']}")
    show(NUM_SESSIONS, NUM_MOVES, click.echo)


if __name__ == "__main__":
    main()
