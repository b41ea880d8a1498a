"""Which of its stored states a session goes on from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tidegate.errors import SessionLost, TidegateError
from tidegate.protocol.checkpoints import NO_HEAD, NO_ROW, RowArray
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
    """Sessions of one version, and the states that they go on from.

    Attributes:
        sessions: n of them.
        steps: Of the states that they go on from, shape (n,).
        rows: Where the store has these, NO_ROW for the initial one, shape (n,).
        base_steps: Of the states that are their bases from now on, shape (n,).
        base_rows: Where these are, shape (n,).
        head_steps: `steps` where that is not the base, else NO_HEAD, shape (n,).
    """

    sessions: list[StoredSession]
    steps: IntArray
    rows: RowArray
    base_steps: IntArray
    base_rows: RowArray
    head_steps: IntArray

    def take(self, positions: Sequence[int]) -> Chosen:
        """Some of them."""
        where = np.array(positions, np.int64)
        return Chosen(
            [self.sessions[i] for i in positions],
            self.steps[where],
            self.rows[where],
            self.base_steps[where],
            self.base_rows[where],
            self.head_steps[where],
        )


def choose(
    sessions: Sequence[StoredSession], reaches: Sequence[Reach], *, for_look: bool
) -> tuple[list[int], Chosen, dict[int, TidegateError]]:
    """Pick the state that each session goes on from.

    Args:
        sessions: n of them.
        reaches: From where on each client can go on.
        for_look: Nobody resumes them: their clients may still come, and say more.

    Returns:
        The positions of those that have one, what was chosen for them, and errors for the others.
    """
    steps = np.array([s.steps for s in sessions], np.int64).reshape(-1, 2)
    newest = np.array([s.newest_step for s in sessions], np.int64)
    untouched = np.where((steps.max(axis=1) == NO_STATE) & (newest == 0), 0, NO_STATE)
    have = np.array([r.have for r in reaches], np.int64)
    held_from = np.array([r.held_from for r in reaches], np.int64)
    # Row 1 is written only once the base is in row 0.
    can_begin = steps[:, 1] == NO_STATE
    picked = choose_steps(np.array([steps[:, 0], steps[:, 1], untouched]), have, held_from, can_begin)
    # Who can go on from the newest state alone must not be given an older one when that is lost.
    is_lost = newest > steps.max(axis=1, initial=0)
    picked[is_lost & (have == UNSET) & (held_from == UNSET)] = NO_STATE
    good: list[int] = np.flatnonzero(picked != NO_STATE).tolist()
    refused: dict[int, TidegateError] = {
        i: _no_state(sessions[i], reaches[i]) for i in np.flatnonzero(picked == NO_STATE).tolist()
    }
    # A client that does not say what it can send goes on with new inputs.
    lowest = np.where((held_from == UNSET) & (not for_look), picked, held_from)
    return good, _with_bases(sessions, steps, picked, lowest).take(good), refused


def _with_bases(
    sessions: Sequence[StoredSession], steps: IntArray, picked: IntArray, lowest: IntArray
) -> Chosen:
    """Find the bases beside the picked states.

    That a client has answers does not say that they are kept: until it acks them, the older state stays
    the base if the client can still go on from there. The initial state may be the base of a single one in
    row 0, where the first state of every session goes: row 1 is written only once the base is in row 0. After a look the older one is the base until its
    client says more; nothing is written before that, as nothing changes.

    Args:
        sessions: n of them.
        steps: Of the states in their rows, shape (n, 2).
        picked: Steps of the states that they go on from, shape (n,).
        lowest: First inputs that the clients can still send, or UNSET, shape (n,).
    """
    rows = np.where(picked == steps[:, 0], 0, np.where(picked == steps[:, 1], 1, NO_ROW))
    other = np.where(rows == 0, steps[:, 1], steps[:, 0])
    has_older = (rows != NO_ROW) & (other != NO_STATE) & (other < picked) & (other >= lowest)
    from_start = (rows == 0) & (steps[:, 1] == NO_STATE) & (lowest <= 0)
    base_rows = np.where(has_older, 1 - rows, np.where(from_start, NO_ROW, rows))
    return Chosen(
        list(sessions),
        picked,
        rows.astype(np.int8),
        np.where(has_older, other, np.where(from_start, 0, picked)),
        base_rows.astype(np.int8),
        np.where(has_older | from_start, picked, NO_HEAD),
    )


def _no_state(session: StoredSession, reach: Reach) -> SessionLost:
    steps = [step for step in session.steps if step != NO_STATE]
    durable_step = min(steps, default=NO_STATE)
    error = no_state_error(session.session_id, reach.have, reach.held_from, steps, durable_step)
    if not session.damage:
        return error
    return SessionLost(
        f"{error}; {session.damage}", next_step=error.next_step, durable_step=error.durable_step
    )
