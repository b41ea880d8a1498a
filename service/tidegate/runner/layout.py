"""Cutting states in the graph's layout into rows and joining them again.

A state without a batch axis is the state of the one row that its graph takes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tidegate.model.manifest import StatePair
from tidegate.tensor import Array


def rows_of(state: Array, pair: StatePair, start: int, end: int) -> Array:
    """Rows [start, end) of a state, contiguous."""
    if pair.batch_axis is None:
        return state
    return np.ascontiguousarray(state[(slice(None),) * pair.batch_axis + (slice(start, end),)])


def row_of(state: Array, pair: StatePair, row: int) -> Array:
    """One row of a state, contiguous, its batch axis kept with length 1."""
    return rows_of(state, pair, row, row + 1)


def join_rows(parts: Sequence[Array], pair: StatePair) -> Array:
    """Put rows back together along the batch axis."""
    return parts[0] if pair.batch_axis is None else np.concatenate(parts, axis=pair.batch_axis)
