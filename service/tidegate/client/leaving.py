"""Leaving a group of sessions: after what is under way, and not while the server may lack a step.

Sessions whose steps are all durable are left at once, with or without a connection: a broken stream has
detached them anyway. Otherwise the server must have every step that was answered, or the application is
told which of them may be lost.
"""

from __future__ import annotations

import asyncio
from typing import Literal

import numpy as np

from tidegate.client.errors import StreamLost, from_message, heals
from tidegate.client.group import LEFT, SessionGroup
from tidegate.client.recovery import leave_alone_s
from tidegate.errors import InvalidRequest, SessionLost, SessionNotFound, TidegateError
from tidegate.v1 import stream_pb2 as pb

LEAVE_TIMEOUT_S = 10.0
"""Longest that leaving sessions waits for what is under way and for the server's word."""

LeaveMode = Literal["detach", "end"]


async def leave(group: SessionGroup, mode: LeaveMode) -> None:
    """Give the sessions back, after what is under way.

    Raises:
        StreamLost: The server did not come back in time; says which steps it may lack.
        SessionLost: A session was lost since the last call.
        TidegateError: Ending a session was refused, or a call that was left behind had failed.
    """
    if group.is_left:
        return
    group.is_left = True
    told = set(group.roster.lost)
    try:
        async with asyncio.timeout(LEAVE_TIMEOUT_S):
            if group.pending is not None:
                await asyncio.wait([group.pending.done])
            if group.untold is None or not group.untold.is_abandoned:
                group.keep_returned()
            await _give_back(group, mode)
    except TimeoutError:
        error = _not_left(group)
        drop(group, error)
        raise error from None
    except BaseException:
        drop(group, InvalidRequest(LEFT))
        raise
    group.forget()
    group.raise_untold()
    untold = {
        row: e for row, e in group.roster.lost.items() if row not in told and isinstance(e, SessionLost)
    }
    if mode == "detach":
        group.raise_errors(untold)


def drop(group: SessionGroup, error: TidegateError) -> None:
    """Give the sessions back without waiting for anything; whoever waits for an answer gets the error."""
    group.is_left = True
    handles = group.roster.handles[group.roster.handles != 0]
    if group.stream is not None and handles.size:
        group.stream.give_back(handles)
    group.fail(error)
    if group.pending is not None:
        group.call_over(group.pending)
    group.forget()


async def _give_back(group: SessionGroup, mode: LeaveMode) -> None:
    while group.roster.live.any() and (mode == "end" or _has_to_stay(group)):
        group.news.clear()
        if not group.is_caught_up.is_set():
            await group.news.wait()
            continue
        try:
            group.tell_acks()
            await _close(group, mode)
        except TidegateError as error:
            if not heals(error):
                raise
            await asyncio.sleep(leave_alone_s(error.retry_after_s))
        else:
            return


def _has_to_stay(group: SessionGroup) -> bool:
    """Whether the server must hear of it: it holds the sessions, or may lack a step."""
    roster = group.roster
    return group.stream is not None or bool((roster.live & (roster.safe_steps < roster.next_steps)).any())


async def _close(group: SessionGroup, mode: LeaveMode) -> None:
    stream = group.stream
    assert stream is not None
    rows = np.flatnonzero(group.roster.handles)
    close_mode = pb.CLOSE_MODE_DETACH if mode == "detach" else pb.CLOSE_MODE_END
    errors: dict[int, TidegateError] = {}
    for start in range(0, len(rows), stream.max_open_sessions):
        part = rows[start : start + stream.max_open_sessions]
        closed = await stream.close(group.roster.handles[part], close_mode)
        errors |= {int(part[e.index]): from_message(e.error) for e in closed.errors}
    group.roster.handles[rows] = 0
    if mode == "end":
        group.raise_errors({r: e for r, e in errors.items() if not isinstance(e, SessionNotFound)})


def _not_left(group: SessionGroup) -> StreamLost:
    roster = group.roster
    open_rows = np.flatnonzero(roster.live & (roster.safe_steps < roster.next_steps)).tolist()
    unknown = {
        roster.ids[row]: range(int(roster.safe_steps[row]), int(roster.next_steps[row])) for row in open_rows
    }
    text = f"{group.address}: no answer within {LEAVE_TIMEOUT_S} s to leaving {len(roster)} sessions"
    if unknown:
        session_id, steps = next(iter(unknown.items()))
        more = f" and of {len(unknown) - 1} more sessions" if len(unknown) > 1 else ""
        text += f"; steps {steps.start} to {steps.stop - 1} of session {session_id!r}{more} may be lost"
    return StreamLost(text, address=group.address, grpc_code="UNAVAILABLE", unknown=unknown)
