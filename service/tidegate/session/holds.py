"""Ids that something is being done to: opening, ending, passivating, or reading a session takes time.

One at a time works on an id. All ids of a piece of work are taken at once, and nobody who holds ids waits
for more, so nobody waits for ever. Steps on a stream need no hold: a stream's sessions change hands only
here, and then its handles are marked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager


class Holds:
    """Who works on which ids."""

    def __init__(self) -> None:
        self._held: dict[str, asyncio.Future[None]] = {}

    @asynccontextmanager
    async def take(self, session_ids: Collection[str]) -> AsyncIterator[None]:
        """Work on ids, once nobody else does."""
        while others := self._held.keys() & set(session_ids):
            await asyncio.wait({self._held[session_id] for session_id in others})
        done = self._hold(session_ids)
        try:
            yield
        finally:
            self._release(session_ids, done)

    @asynccontextmanager
    async def take_free(self, session_ids: Iterable[str]) -> AsyncIterator[list[str]]:
        """Work on those ids that nobody works on now; never waits, so that a holder may do it too."""
        free = [session_id for session_id in session_ids if session_id not in self._held]
        done = self._hold(free)
        try:
            yield free
        finally:
            self._release(free, done)

    def _hold(self, session_ids: Iterable[str]) -> asyncio.Future[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._held.update(dict.fromkeys(session_ids, done))
        return done

    def _release(self, session_ids: Iterable[str], done: asyncio.Future[None]) -> None:
        for session_id in session_ids:
            self._held.pop(session_id, None)
        done.set_result(None)
