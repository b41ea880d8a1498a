"""Attaching a group of sessions to a stream: the first time, and again after every break.

A session that is refused for good is lost, alone. What the server has no room for now is asked for
again after the time that it names, for as long as the stream lives.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from tidegate.client.errors import from_message, heals
from tidegate.client.opening import resume_request
from tidegate.client.recovery import leave_alone_s
from tidegate.client.stream import SessionStream
from tidegate.errors import InternalError, SessionLost, SessionNotFound, TidegateError
from tidegate.tensor import IntArray
from tidegate.v1 import stream_pb2 as pb
from tidegate.v1.model_pb2 import ModelVersion

if TYPE_CHECKING:
    from tidegate.client.group import SessionGroup

_CHUNK = 1024  # Sessions in one open, within what the server takes.


class Attachment:
    """One group being attached to one stream."""

    def __init__(
        self, group: SessionGroup, stream: SessionStream, client_instance: bytes, attempt: int
    ) -> None:
        """Begin; nothing is sent yet.

        Args:
            group: Whose sessions.
            stream: Where to.
            client_instance: Random bytes of this client.
            attempt: Number of this client's connection.
        """
        self._group = group
        self._roster = group.roster
        self._stream = stream
        self._client_instance = client_instance
        self._attempt = attempt
        self._is_first = group.model is None
        self._have = group.answered_steps
        self._held_from = group.held.held_from(group.roster.next_steps)
        self._reached: IntArray = np.zeros(len(group.roster), np.int64)
        self._versions: set[tuple[str, str, str]] = set()
        self._refused: dict[int, TidegateError] = {}
        self._given: list[IntArray] = []

    async def run(self) -> None:
        """Attach the sessions, and tell the group.

        Raises:
            TidegateError: The stream has ended, or everything was refused.
        """
        try:
            await self._open_all()
        except asyncio.CancelledError:
            if self._group.is_left and self._given:
                self._stream.give_back(np.concatenate(self._given))
            raise
        had = self._reached if self._is_first else self._have
        self._group.attached(self._stream, self._reached, had, self._versions)

    async def _open_all(self) -> None:
        rows = self._roster.live_rows
        while rows.size:
            await self._open(rows[:1] if self._stream.max_open_sessions == 1 else rows)
            rows = self._not_open()
            if rows.size and self._refused:
                self._group.trouble = next(iter(self._refused.values()))
                hints_s = [error.retry_after_s or 0.0 for error in self._refused.values()]
                await asyncio.sleep(leave_alone_s(max(hints_s)))

    async def _open(self, rows: IntArray) -> None:
        """Open sessions, many messages at a time; the first failure of a message as a whole is raised."""
        self._refused.clear()
        size = min(_CHUNK, self._stream.max_open_sessions)
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        outcomes = await asyncio.gather(*map(self._open_part, parts), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _open_part(self, rows: IntArray) -> None:
        request = self._request(rows)
        request.client_instance = self._client_instance
        request.attempt = self._attempt
        try:
            await self._stream.open(request, self._group, rows, partial(self._enter, rows))
        except TidegateError as error:
            if self._stream.failure is not None or (self._is_first and not heals(error)):
                raise
            self._refuse(rows, error)

    def _request(self, rows: IntArray) -> pb.Open:
        options = self._group.options
        if self._group.model is None:
            return options.request(self._roster.ids, rows)
        return resume_request(self._roster, self._group.model, rows, self._have, self._held_from)

    def _not_open(self) -> IntArray:
        return np.flatnonzero(self._roster.live & (self._roster.handles == 0))

    def _enter(self, rows: IntArray, opened: pb.Opened) -> None:
        """Take the answer to one message in, before anything behind it is read."""
        roster = self._roster
        roster.outlives_server = opened.limits.durable
        self._versions |= {(m.name, m.version, m.sha256) for m in opened.models}
        refused = {int(rows[e.index]): from_message(e.error) for e in opened.errors}
        handles = np.array(opened.handles, np.int64)
        given = handles != 0
        mine = rows[given]
        self._given.append(handles[given])
        self._reached[mine] = np.array(opened.next_steps, np.int64)[given]
        roster.handles[mine] = handles[given]
        if opened.epochs:
            roster.epochs[mine] = np.array(opened.epochs, np.int64)[given]
        self._group.reopened(mine, np.array(opened.durable_steps, np.int64)[given], self._reached)
        for row in rows[~given].tolist():
            error = refused.get(row) or InternalError(f"session {roster.ids[row]!r}: no handle and no error")
            self._refuse(np.array([row]), error)
        if not self._is_first:
            self._check_reach(mine)

    def _refuse(self, rows: IntArray, error: TidegateError) -> None:
        if heals(error):
            self._refused.update(dict.fromkeys(rows.tolist(), error))
            return
        if isinstance(error, SessionNotFound) and not self._is_first:
            self._group.sessions_lost({row: self._vanished(row) for row in rows.tolist()})
            return
        self._group.sessions_lost(dict.fromkeys(rows.tolist(), error))

    def _vanished(self, row: int) -> SessionLost:
        step, durable = int(self._have[row]), int(self._roster.shown_durable_steps[row])
        return SessionLost(
            f"session {self._roster.ids[row]!r}: the server does not know it any more: it was ended, or the "
            f"server was started again with a store in memory; {step} steps were answered",
            next_step=step,
            durable_step=durable,
        )

    def _check_reach(self, rows: IntArray) -> None:
        outside = (self._reached < self._held_from) | (self._reached > self._have)
        errors: dict[int, TidegateError] = {
            row: InternalError(
                f"session {self._roster.ids[row]!r}: next_steps: expected "
                f"[{self._held_from[row]}, {self._have[row]}], got {self._reached[row]}"
            )
            for row in rows[outside[rows]].tolist()
        }
        if errors:
            self._group.sessions_lost(errors)


def pinned(versions: set[tuple[str, str, str]]) -> ModelVersion | None:
    """The one version that sessions are pinned to; None when there is not exactly one."""
    if len(versions) != 1:
        return None
    name, version, sha256 = next(iter(versions))
    return ModelVersion(name=name, version=version, sha256=sha256)
