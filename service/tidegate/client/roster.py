"""The sessions of a group, as arrays with a row per session.

What always holds: durable step <= answered step <= next step, of every session that is not lost; a lost
session stays lost.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tidegate.errors import TidegateError
from tidegate.tensor import BoolArray, IntArray

NEVER = np.iinfo(np.int64).max
"""In place of a step, for a session of which nothing will be sent again."""


class Roster:
    """The sessions of a group.

    Attributes:
        ids: Their ids.
        handles: Their names on the stream, shape (n,), int64; 0 where there is none.
        next_steps: Number of each one's next step, shape (n,), int64. While a call is under way it
            counts as applied.
        durable_steps: Inputs before these steps need not be held, shape (n,), int64.
        started_steps: Next step of each when it was opened here, shape (n,), int64.
        epochs: As the server told them last, shape (n,), int64; 0 before that.
        live: Sessions that are not lost, shape (n,).
        lost: Why the others are, by row.
        outlives_server: Whether durable steps survive the server.
    """

    def __init__(self, ids: Sequence[str]) -> None:
        count = len(ids)
        self.ids = ids
        self.handles: IntArray = np.zeros(count, np.int64)
        self.next_steps: IntArray = np.zeros(count, np.int64)
        self.durable_steps: IntArray = np.zeros(count, np.int64)
        self.started_steps: IntArray = np.zeros(count, np.int64)
        self.epochs: IntArray = np.zeros(count, np.int64)
        self.live: BoolArray = np.ones(count, np.bool_)
        self.lost: dict[int, TidegateError] = {}
        self.outlives_server = False

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def live_rows(self) -> IntArray:
        """Rows of the sessions that are not lost."""
        return np.flatnonzero(self.live)

    @property
    def shown_durable_steps(self) -> IntArray:
        """Steps before these numbers survive the server; 0 where its store does not."""
        return self.durable_steps.copy() if self.outlives_server else np.zeros_like(self.durable_steps)

    @property
    def safe_steps(self) -> IntArray:
        """Steps before these numbers are safe from the death of the server, or are not this client's, shape (n,)."""
        return np.maximum(self.started_steps, self.shown_durable_steps)

    @property
    def droppable(self) -> IntArray:
        """Inputs before these steps will never be sent again, shape (n,)."""
        return np.where(self.live, self.durable_steps, NEVER)

    def lose(self, row: int, error: TidegateError) -> None:
        """A session cannot go on; the first reason counts."""
        self.lost.setdefault(row, error)
        self.live[row] = False
        self.handles[row] = 0

    def raise_durable(self, rows: IntArray, steps: IntArray, answered: IntArray) -> None:
        """Steps before these numbers need not be held; a server cannot have more than it has answered."""
        self.durable_steps[rows] = np.maximum(self.durable_steps[rows], np.minimum(steps, answered[rows]))
