"""How many bytes of inputs the sessions of one client hold, and who waits for room.

Belongs to one event loop.
"""

from __future__ import annotations

import asyncio


class InputBudget:
    """A limit that all sessions of a client share.

    One holder may take half of what the others leave free: a session whose steps never become durable
    cannot shut out the rest.

    Attributes:
        max_bytes: The limit.
        used_bytes: What all holders together hold.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.used_bytes = 0
        self._room = asyncio.Event()

    def can_ever_fit(self, num_bytes: int) -> bool:
        """Whether a call of this size finds room in an empty buffer."""
        return 2 * num_bytes <= self.max_bytes

    def fits(self, held_bytes: int, num_bytes: int) -> bool:
        """Whether a holder of `held_bytes` may take `num_bytes` more."""
        return self.used_bytes + held_bytes + 2 * num_bytes <= self.max_bytes

    def change(self, num_bytes: int) -> None:
        """A holder holds more, or fewer, bytes than before; 0: something else about it has changed."""
        self.used_bytes += num_bytes
        if num_bytes <= 0:
            self._room.set()

    async def until_changed(self) -> None:
        """Wait until some holder holds less, or is gone."""
        self._room.clear()
        await self._room.wait()
