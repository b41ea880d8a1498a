"""A call on its way, from being handed over until every answer is there, across lost connections."""

from __future__ import annotations

import asyncio

from tidegate.protocol.tracking import StepCall


class PendingCall:
    """A call on its way.

    Attributes:
        account: What it has sent and got.
        done: Becomes done, never an error, once every step is answered or refused.
        is_abandoned: Its caller has left (timeout, cancellation), and nobody waits for its outcome.
    """

    def __init__(self, account: StepCall) -> None:
        self.account = account
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.is_abandoned = False

    @property
    def step(self) -> int:
        """The lowest of its step numbers."""
        return int(self.account.first_steps.min())

    async def wait(self, deadline_s: float | None) -> bool:
        """Wait for it without ever cancelling it.

        Returns:
            Whether it is done; False when the event loop's clock has passed `deadline_s`.
        """
        timeout_s = None if deadline_s is None else max(0.0, deadline_s - asyncio.get_running_loop().time())
        await asyncio.wait([self.done], timeout=timeout_s)
        return self.done.done()
