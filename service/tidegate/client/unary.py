"""Single calls over a channel: their errors, and which of them may be made again.

A call that only asks, or that changes nothing when it is made twice, is made again while the server
cannot be reached or has no room. What a lost answer may have done, its caller decides.
"""

from __future__ import annotations

import asyncio
from typing import TypeVar

import grpc.aio

from tidegate.client.errors import StreamLost, from_rpc_error, heals
from tidegate.client.recovery import RecoveryOptions, delays_s, leave_alone_s
from tidegate.errors import TidegateError

Request = TypeVar("Request")
Response = TypeVar("Response")


class UnaryCaller:
    """Makes the single calls of one client."""

    def __init__(self, address: str, recovery: RecoveryOptions) -> None:
        self.address = address
        self._recovery = recovery

    async def once(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout_s: float | None = None,
    ) -> Response:
        """Make a call that must not be repeated unknowingly.

        Raises:
            TidegateError: The server's error, or that of the transport.
        """
        try:
            return await method(request, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, self.address) from None

    async def repeat(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout_s: float | None = None,
        losses: list[StreamLost] | None = None,
    ) -> Response:
        """Make a call, again if need be, for `timeout_s` or else `open_timeout_s` of `RecoveryOptions`.

        Args:
            method: What to call.
            request: With what.
            timeout_s: Longest wait, all attempts together, in seconds. None: an attempt that has reached
                the server may take as long as it likes.
            losses: Filled with the attempts of which nobody knows what they did.

        Raises:
            TidegateError: The server's error, or that of the last attempt.
        """
        clock = asyncio.get_running_loop().time
        last_start_s = clock() + (self._recovery.open_timeout_s if timeout_s is None else timeout_s)
        for delay_s in delays_s(self._recovery):
            left_s = None if timeout_s is None else last_start_s - clock()
            try:
                return await self.once(method, request, left_s)
            except TidegateError as error:
                if losses is not None and isinstance(error, StreamLost):
                    losses.append(error)
                pause_s = max(delay_s, leave_alone_s(error.retry_after_s))
                if not heals(error) or clock() + pause_s > last_start_s:
                    raise
            await asyncio.sleep(pause_s)
        raise AssertionError("the pauses have no end")
