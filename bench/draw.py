"""Random choice of sessions for frames, never one that is in a frame in flight.

Sessions are dealt from a shuffled pack; those that come back wait for the next shuffle. Each is
stepped as often as any other, in an order that no cache can guess.
"""

from __future__ import annotations

import numpy as np

from bench.wire import Rows


class SessionPack:
    """The sessions of one stream that are not in flight."""

    def __init__(self, num_sessions: int, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._pack: Rows = self._rng.permutation(num_sessions)
        self._dealt = 0
        self._returned: list[Rows] = []

    def deal(self, count: int) -> Rows:
        """Take sessions, positions of shape (count,), no two alike."""
        if len(self._pack) - self._dealt < count:
            self._pack = self._rng.permutation(np.concatenate([self._pack[self._dealt :], *self._returned]))
            self._dealt = 0
            self._returned = []
            assert len(self._pack) >= count, "more rows in flight than sessions"
        self._dealt += count
        return self._pack[self._dealt - count : self._dealt]

    def give_back(self, rows: Rows) -> None:
        """Their frame has been answered."""
        self._returned.append(rows)
