"""The state of a session at this moment, for those who look at it without stepping it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tidegate.engine.pool import LoadedModel
from tidegate.protocol.lifecycle import Event
from tidegate.session.open_request import check_session_id
from tidegate.session.returning import Returner
from tidegate.tensor import Array


class StateCopy(NamedTuple):
    """A session between two batches.

    Attributes:
        model: The version that it is pinned to.
        next_step: Steps applied.
        states: Per state pair, `[1, step_shape...]`.
    """

    model: LoadedModel
    next_step: int
    states: list[Array]


async def copy_state(returner: Returner, session_id: str) -> StateCopy:
    """Copy a session's state, bringing it back from the store if need be.

    Raises:
        InvalidRequest: This can be no session's id.
        SessionNotFound: No session has this id.
        SessionLost: Its state was given up.
        ArenaFull: There is no room to bring it back.
        StoreUnavailable: The store cannot be read.
    """
    check_session_id(session_id)
    async with returner.present(session_id, Event.READ) as (table, slot):
        arena = table.model.runner.arena
        return await table.model.engine.errands.look(
            lambda: StateCopy(table.model, int(table.next_step[slot]), arena.read(np.array([slot], np.int32)))
        )
