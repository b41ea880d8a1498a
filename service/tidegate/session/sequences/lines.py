"""Sequences at which requests have to wait: one is being begun, ended, or brought back.

There is a line for each such id, and one at a time is served, in the order of arrival, while the id is held.
A line is gone with its last request; until then whatever comes for the id joins it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Collection

from tidegate.session.holds import Holds
from tidegate.session.sequences.request import SequenceRequest
from tidegate.session.sequences.row import as_refusal, tell
from tidegate.session.whole import begin
from tidegate.telemetry.incidents import incident

Leave = Callable[[str], Awaitable[None]]
Serve = Callable[[SequenceRequest], Awaitable[None]]


class Lines:
    """The lines of all ids. The event loop owns it."""

    def __init__(self, holds: Holds, serve: Serve, leave: Leave) -> None:
        """Nobody waits yet.

        Args:
            holds: Which ids somebody works on.
            serve: Serves a request whose id is held; an error that it raises is the answer.
            leave: Has a spoilt sequence leave memory, while its id is held.
        """
        self._holds = holds
        self._serve = serve
        self._leave = leave
        self._lines: dict[str, deque[SequenceRequest]] = {}
        self._leaving: set[str] = set()

    @property
    def ids(self) -> Collection[str]:
        """The ids that have a line."""
        return self._lines.keys()

    def join(self, request: SequenceRequest) -> None:
        """Serve a request when those before it have been."""
        self._line(request.key.session_id).append(request)

    def spoilt(self, session_id: str) -> None:
        """A sequence must leave memory before anything else is done with it."""
        self._leaving.add(session_id)
        self._line(session_id)

    async def leave_if_spoilt(self, session_id: str) -> None:
        """Have a sequence leave memory now, if it must; whoever asks serves a request of it."""
        if session_id in self._leaving:
            self._leaving.discard(session_id)
            try:
                await self._leave(session_id)
            except Exception as error:
                incident(error)

    def _line(self, session_id: str) -> deque[SequenceRequest]:
        line = self._lines.get(session_id)
        if line is None:
            line = self._lines[session_id] = deque()
            begin(self._work(session_id, line))
        return line

    async def _work(self, session_id: str, line: deque[SequenceRequest]) -> None:
        async with self._holds.take([session_id]):
            while line or session_id in self._leaving:
                await self.leave_if_spoilt(session_id)
                if not line:
                    continue
                request = line.popleft()
                try:
                    await self._serve(request)
                except Exception as error:
                    tell(request, as_refusal(error))
            del self._lines[session_id]
