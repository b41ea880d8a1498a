"""Which answers the application has kept, and what of that the server has been told.

An acknowledgement lets the server forget an older state; nobody waits for it. So it travels with a
frame when one leaves anyway, and not with every one: packed lists cost the server time.

No I/O; the caller brings the clock.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from tidegate.tensor import IntArray

Acks = Literal["auto", "explicit"]
"""Who says that answers are kept: asking for the next one does, or the application's own word."""

INTERVAL_S = 0.05
"""Shortest time between two acknowledgements of the same sessions."""

QUIET_S = 0.1
"""An acknowledgement that found no frame to travel with leaves alone after this time."""


class AckBook:
    """The acknowledgements of n sessions.

    Attributes:
        kept: The application has kept the answers before these steps, shape (n,), int64.
    """

    def __init__(self, num_rows: int) -> None:
        self.kept: IntArray = np.zeros(num_rows, np.int64)
        self._told: IntArray = np.zeros(num_rows, np.int64)
        self._told_at_s = -INTERVAL_S
        self.has_news = False

    def keep(self, steps: IntArray) -> None:
        """The application has kept the answers before these steps, shape (n,)."""
        np.maximum(self.kept, steps, out=self.kept)
        self.has_news = bool((self.kept > self._told).any())

    def drop(self, row: int) -> None:
        """This session is lost: nobody will be told of it."""
        self.kept[row] = 0

    def forget_told(self) -> None:
        """A new connection: its server may have been told nothing."""
        self._told[:] = 0
        self.has_news = bool(self.kept.any())

    def news(self, rows: IntArray, now_s: float) -> IntArray:
        """Those of these rows that the server should be told of with the frame that leaves now."""
        if not self.has_news or now_s < self._told_at_s + INTERVAL_S:
            return rows[:0]
        return rows[self.kept[rows] > self._told[rows]]

    def all_news(self) -> IntArray:
        """All rows that the server has not been told of."""
        return np.flatnonzero(self.kept > self._told)

    def tell(self, rows: IntArray, now_s: float) -> IntArray:
        """Count these rows as told; the steps to tell, shape (rows,)."""
        steps: IntArray = self.kept[rows]
        self._told[rows] = steps
        self.has_news = bool((self.kept > self._told).any())
        if not self.has_news:
            self._told_at_s = now_s
        return steps
