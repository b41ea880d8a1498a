"""Where a resumed session goes on, as functions over arrays, and what is said where it cannot.

A client that comes back says `have` (it has the answers before this step) and `held_from` (the first
input that it can still send). Any state at a step between the two will do: the client sends again from
there and drops the answers that it had. The newest such state costs least.

Epochs tell whether the two sides speak of the same past. A session gets a new one whenever it is
created or attached, and epochs grow over all lives of an id. A store whose epoch is older than the one
that the client was told has lost its tail; a newer one that another client was told means that this
client was displaced and has not heard of it. In both cases a state at the right step may be the wrong
state, so none is chosen.

What always holds: a refusal changes nothing. No I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from tidegate.errors import Displaced, SessionLost
from tidegate.tensor import BoolArray, IntArray

UNSET = -1
"""`have` or `held_from` that a client does not give."""

NO_STATE = -1
"""In place of a step: there is no state."""

NO_EPOCH = 0
"""Epoch of a client that was told none."""


def choose_steps(candidates: IntArray, have: IntArray, held_from: IntArray, can_begin: BoolArray) -> IntArray:
    """Choose the state that each session goes on from.

    That is the newest candidate in [held_from, have]. Without `have` there is no upper end, and
    without `held_from` the lower end is `have`, or 0 if both are unset. As long as the initial state is
    the base it can be made again, so a client that holds every input (or has no answer, and gives no
    `held_from`) finds at least step 0; a client that does not say what it has gets only what exists.

    Args:
        candidates: Steps of the states that exist of each session, NO_STATE for none, shape (k, n).
        have: Steps before this one are answered at the client, or UNSET, shape (n,).
        held_from: First input that the client can send, or UNSET, shape (n,).
        can_begin: The initial state may be the base, shape (n,).

    Returns:
        The step of the chosen state, or NO_STATE, shape (n,), int64.
    """
    is_open = have == UNSET
    lowest = np.where(held_from != UNSET, held_from, np.where(is_open, 0, have))
    fits = (candidates >= lowest) & (is_open | (candidates <= have))
    newest = np.where(fits, candidates, NO_STATE).max(axis=0, initial=NO_STATE)
    remade = np.where(can_begin & (lowest == 0) & ~is_open, 0, NO_STATE)
    chosen: IntArray = np.maximum(newest, remade)
    return chosen


class EpochVerdict(IntEnum):
    """What a session's epoch says about the client that resumes it."""

    CURRENT = 0
    """Nobody came in between, or the client does not say."""

    STORE_BEHIND = 1
    """The client was told a newer epoch: the store has lost what came after its own."""

    TAKEN_OVER = 2
    """Another client has taken the session over since, or created it anew."""


def judge_epochs(stored: IntArray, told: IntArray, is_opener: BoolArray) -> NDArray[np.int8]:
    """Judge what resuming clients know of their sessions.

    Args:
        stored: Epoch of each session, shape (n,).
        told: Epoch that the client was told last, or NO_EPOCH, shape (n,).
        is_opener: Whether the client is the one that opened the session last, shape (n,). It may
            lack the newest epoch all the same: the answer that told it was lost.

    Returns:
        One `EpochVerdict` per session, shape (n,).
    """
    verdict = np.full(stored.shape, EpochVerdict.CURRENT, np.int8)
    verdict[(told < stored) & (told != NO_EPOCH) & ~is_opener] = EpochVerdict.TAKEN_OVER
    verdict[told > stored] = EpochVerdict.STORE_BEHIND
    return verdict


def no_state_error(
    session_id: str, have: int, held_from: int, steps: Sequence[int], durable_step: int
) -> SessionLost:
    """The error for a session of which no state fits.

    Args:
        session_id: Names the session.
        have: As the client gave it, or UNSET.
        held_from: As the client gave it, or UNSET.
        steps: Steps of the states that exist, in any order; NO_STATE is passed over.
        durable_step: Step of the base, or NO_STATE if that is not known.
    """
    exist = sorted({step for step in steps if step != NO_STATE})
    got = f"states at steps {', '.join(map(str, exist))}" if exist else "none"
    durable = max(durable_step, 0)
    return SessionLost(
        f"session {session_id!r}: have, held_from: expected a state {_range(have, held_from)}, got {got}; "
        f"durable is step {durable}",
        next_step=max(exist, default=0),
        durable_step=durable,
    )


def epoch_error(
    verdict: int, session_id: str, stored: int, told: int, next_step: int, durable_step: int
) -> SessionLost | Displaced:
    """The error for a session whose epoch is not CURRENT.

    Args:
        verdict: The `EpochVerdict`.
        session_id: Names the session.
        stored: Epoch of the session.
        told: Epoch that the client was told last.
        next_step: Step of the newest state.
        durable_step: Step of the base.
    """
    if EpochVerdict(verdict) is EpochVerdict.TAKEN_OVER:
        return Displaced(
            f"session {session_id!r}: epoch: expected {stored}, got {told}: another client has taken it over",
            next_step=next_step,
        )
    return SessionLost(
        f"session {session_id!r}: epoch: expected at most {stored}, got {told}: the store has fallen behind "
        f"what the client was told; its newest state is at step {next_step}",
        next_step=next_step,
        durable_step=durable_step,
    )


def _range(have: int, held_from: int) -> str:
    if have == UNSET:
        return "at any step" if held_from == UNSET else f"at step {held_from} or later"
    lowest = have if held_from == UNSET else held_from
    return f"at step {have}" if lowest == have else f"at a step in [{lowest}, {have}]"
