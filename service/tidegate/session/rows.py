"""Which rows of a frame stand for sessions that the stream holds."""

from __future__ import annotations

import numpy as np

from tidegate.errors import Displaced, InvalidRequest, SessionNotFound, TidegateError
from tidegate.protocol.numbering import repeated
from tidegate.session.frames import Refusals
from tidegate.session.handles import HandleArray, HandleStatus
from tidegate.session.stream import SessionStream
from tidegate.session.table import SessionTable
from tidegate.tensor import IntArray


def judge_handles(stream: SessionStream, handles: HandleArray) -> Refusals:
    """Refuse rows whose handle stands for no session of this stream, or stands there twice."""
    refusals: Refusals = {}
    status = stream.handles.status(handles)
    for i in np.flatnonzero(status != HandleStatus.OPEN).tolist():
        refusals[i] = handle_error(HandleStatus(int(status[i])), int(handles[i]))
    for i in np.flatnonzero(repeated(handles)).tolist():
        refusals.setdefault(
            i,
            InvalidRequest(f"handles: {handles[i]} is there twice, every session has one place in a message"),
        )
    return refusals


def handle_error(status: HandleStatus, handle: int) -> TidegateError:
    """The error for a handle that is not open."""
    if status is HandleStatus.DISPLACED:
        return Displaced(f"handle {handle}: another stream has resumed the session")
    if status is HandleStatus.CLOSING:
        return SessionNotFound(f"handle {handle}: is being closed")
    if status is HandleStatus.ENDED:
        return SessionNotFound(f"handle {handle}: the session was ended by its id")
    return SessionNotFound(f"handle {handle}: stands for no session on this stream, open one first")


def one_table(stream: SessionStream, handles: HandleArray, rows: IntArray) -> SessionTable:
    """The one table of open handles, which stand at `rows` of a frame.

    Raises:
        InvalidRequest: They are of several model versions.
    """
    numbers = stream.handles.table_numbers(handles)
    odd = np.flatnonzero(numbers != numbers[0])
    table = stream.handles.tables[int(numbers[0])]
    if len(odd):
        label = stream.handles.tables[int(numbers[odd[0]])].model.manifest.label
        raise InvalidRequest(
            f"handles: expected one model version per frame, got {table.model.manifest.label} in row {rows[0]} "
            f"and {label} in row {rows[odd[0]]}"
        )
    return table


def others(count: int, refusals: Refusals) -> IntArray:
    """Positions below `count` that are not refused."""
    if not refusals:
        return np.arange(count)
    mark = np.ones(count, np.bool_)
    mark[list(refusals)] = False
    return np.flatnonzero(mark)
