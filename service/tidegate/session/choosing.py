"""Which of its stored states a session goes on from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tidegate.errors import SessionLost, TidegateError
from tidegate.protocol.checkpoints import NO_ROW, RowArray
from tidegate.protocol.resume import NO_STATE, UNSET, choose_steps, no_state_error
from tidegate.session.stores.store import StoredSession
from tidegate.tensor import IntArray


@dataclass(frozen=True, slots=True)
class Reach:
    """From where on a client can go on with a session.

    Attributes:
        have: It has the answers before this step; -1 for "continue at the newest state".
        held_from: The first input that it can still send; -1 for "unset".
    """

    have: int
    held_from: int


NEWEST = Reach(UNSET, UNSET)


@dataclass(frozen=True, slots=True)
class Chosen:
    """Sessions of one version, the steps they go on from, and where the store has these states."""

    sessions: list[StoredSession]
    steps: IntArray
    rows: RowArray

    def first(self, count: int) -> Chosen:
        """The first `count` of them."""
        return Chosen(self.sessions[:count], self.steps[:count], self.rows[:count])


def choose(
    sessions: Sequence[StoredSession], reaches: Sequence[Reach]
) -> tuple[list[int], Chosen, dict[int, TidegateError]]:
    """Pick the state that each session goes on from.

    Returns:
        The positions of those that have one, what was chosen for them, and errors for the others.
    """
    steps = np.array([s.steps for s in sessions], np.int64).reshape(-1, 2)
    # A session that was never stored stands at its beginning, unless a state of it was lost.
    untouched = [0 if max(s.steps) == NO_STATE and not s.damage else NO_STATE for s in sessions]
    have = np.array([r.have for r in reaches], np.int64)
    held_from = np.array([r.held_from for r in reaches], np.int64)
    # Row 1 is written only once the base is in row 0.
    can_begin = steps[:, 1] == NO_STATE
    picked = choose_steps(np.array([steps[:, 0], steps[:, 1], untouched]), have, held_from, can_begin)
    good = np.flatnonzero(picked != NO_STATE)
    refused: dict[int, TidegateError] = {
        i: _no_state(sessions[i], reaches[i]) for i in np.flatnonzero(picked == NO_STATE).tolist()
    }
    rows = np.where(picked == steps[:, 0], 0, np.where(picked == steps[:, 1], 1, NO_ROW))[good].astype(
        np.int8
    )
    return good.tolist(), Chosen([sessions[i] for i in good.tolist()], picked[good], rows), refused


def _no_state(session: StoredSession, reach: Reach) -> SessionLost:
    steps = [step for step in session.steps if step != NO_STATE]
    durable_step = min(steps, default=NO_STATE)
    error = no_state_error(session.session_id, reach.have, reach.held_from, steps, durable_step)
    if not session.damage:
        return error
    return SessionLost(
        f"{error}; {session.damage}", next_step=error.next_step, durable_step=error.durable_step
    )
