"""Ids that something is being done to: opening, ending, passivating, or reading a session takes time.

One at a time works on an id, in the order of asking. All ids of a piece of work are asked for at once, and
nobody who holds ids waits for more, so nobody waits for ever. Steps on a stream need no hold: a stream's
sessions change hands only here, and then its handles are marked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager

from tidegate.session.whole import begin


class Holds:
    """Who works on which ids."""

    def __init__(self) -> None:
        # Per id, what the last one who asked for it sets when done.
        self._last: dict[str, asyncio.Future[None]] = {}

    @property
    def held(self) -> Collection[str]:
        """The ids that somebody works on, or waits to work on."""
        return self._last.keys()

    @asynccontextmanager
    async def take(self, session_ids: Collection[str]) -> AsyncIterator[None]:
        """Work on ids, once those who asked before are done."""
        before = {self._last[session_id] for session_id in session_ids if session_id in self._last}
        done = self._ask(session_ids)
        try:
            if before:
                await asyncio.wait(before)
            yield
        finally:
            if all(one.done() for one in before):
                self._release(session_ids, done)
            else:  # cancelled while waiting: who comes behind still has to wait for those before
                begin(self._release_after(before, session_ids, done))

    @asynccontextmanager
    async def take_free(self, session_ids: Iterable[str]) -> AsyncIterator[list[str]]:
        """Work on those ids that nobody works on now; never waits, so that a holder may do it too."""
        free = [session_id for session_id in session_ids if session_id not in self._last]
        done = self._ask(free)
        try:
            yield free
        finally:
            self._release(free, done)

    def _ask(self, session_ids: Iterable[str]) -> asyncio.Future[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._last.update(dict.fromkeys(session_ids, done))
        return done

    def _release(self, session_ids: Iterable[str], done: asyncio.Future[None]) -> None:
        for session_id in session_ids:
            if self._last.get(session_id) is done:
                del self._last[session_id]
        done.set_result(None)

    async def _release_after(
        self, before: set[asyncio.Future[None]], session_ids: Collection[str], done: asyncio.Future[None]
    ) -> None:
        await asyncio.wait(before)
        self._release(session_ids, done)
