"""How the steps of many sessions are cut into frames, within what a server takes.

No I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tidegate.tensor import IntArray


@dataclass(frozen=True, slots=True)
class FrameCaps:
    """The most that one frame may carry; `max_bytes` holds for its inputs and for its answers."""

    max_rows: int
    max_steps: int
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Cut:
    """The part of a piece of work that one frame carries: steps [start, start + num_steps) of some rows.

    Attributes:
        rows: Positions, shape (rows,), ascending.
        start: Steps of the work before the first one here.
        num_steps: Steps of each row here.
    """

    rows: IntArray
    start: int
    num_steps: int


def cut(rows: IntArray, start: int, stop: int, step_bytes: int, caps: FrameCaps) -> Iterator[Cut]:
    """Cut steps [start, stop) of some rows into frames.

    Steps before rows: all rows get their first steps before any gets its later ones. A row and a step
    are always allowed, however many bytes they have.

    Args:
        rows: Positions, shape (n,), ascending.
        start: First step.
        stop: Behind the last step.
        step_bytes: Bytes of one step of one row, at least 1.
        caps: What the server takes.
    """
    max_rows = max(1, min(len(rows), caps.max_rows, caps.max_bytes // step_bytes))
    max_steps = max(1, min(caps.max_steps, caps.max_bytes // (step_bytes * max_rows)))
    for at in range(start, stop, max_steps):
        for first in range(0, len(rows), max_rows):
            yield Cut(rows[first : first + max_rows], at, min(max_steps, stop - at))


def classes(rows: IntArray, *keys: IntArray) -> list[IntArray]:
    """Part rows into those that are alike: a frame has one number of steps for all of its rows.

    Args:
        rows: Positions, shape (n,), ascending.
        keys: What must be equal within a class, shape (n,) each.

    Returns:
        The classes in the order of their keys; rows within one stay ascending.
    """
    if not len(rows):
        return []
    if all((key == key[0]).all() for key in keys):
        return [rows]
    order = np.lexsort(keys[::-1])
    changes = np.any([key[order][1:] != key[order][:-1] for key in keys], axis=0)
    return np.split(rows[order], np.flatnonzero(changes) + 1)
