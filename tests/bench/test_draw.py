"""Which sessions are in a frame: random, and none in two frames in flight."""

from __future__ import annotations

from collections import deque

import numpy as np

from bench.draw import SessionPack


def test_frames_in_flight_never_share_a_session_and_all_sessions_get_their_turn() -> None:
    pack = SessionPack(100, seed=1)
    in_flight: deque[np.ndarray] = deque()
    turns = np.zeros(100, np.int64)

    for _ in range(1000):
        in_flight.append(pack.deal(20))
        together = np.concatenate(in_flight)
        assert len(np.unique(together)) == len(together)
        turns[in_flight[-1]] += 1
        if len(in_flight) == 4:
            pack.give_back(in_flight.popleft())

    assert turns.min() > 100
    assert turns.sum() == 20_000
