"""The bounded way in and out of one stream, whatever its messages are.

A reader takes messages and the outbox sends what has been answered. A message is in flight until the last
answer to it has been handed to gRPC, and past a limit of them the reader stops, and HTTP/2's flow control
stops the client; while much lies unsent, nothing of the stream runs.

Only the event loop's thread calls this.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from grpc import aio

from tidegate.engine.frame import Source
from tidegate.errors import ServerStopping
from tidegate.rpc.outbox import Outbox, Unsent
from tidegate.session.limits import ByteBudget

PAUSE_BYTES = 4 * 1024 * 1024
"""Unsent messages of one stream past which its frames wait."""

CONGESTED_BYTES = 64 * 1024
"""Unsent answers of one stream past which its histories wait. A single step's answer queues behind them:
without this, a client that reads its history slowly waits longer and longer for every single step."""

MESSAGE_BYTES = 4096
"""What a message counts for beside its answers. A history that asks for no answers sends empty messages,
and those too take their time: 16 of them make a stream congested."""

Q = TypeVar("Q")
R = TypeVar("R")


class Flow(Generic[Q, R]):
    """Messages of one stream, for as long as it lives.

    Attributes:
        closed: Nothing is read or sent any more.
    """

    def __init__(
        self,
        context: aio.ServicerContext[Q, R],
        request_type: type[Q],
        handle: Callable[[Q], None],
        *,
        source: Source,
        wake: Callable[[], None],
        budget: ByteBudget,
        max_in_flight: int,
        on_idle: Callable[[], None] = lambda: None,
    ) -> None:
        """Read nothing yet.

        Args:
            context: The call.
            request_type: What a message is; anything else is the end.
            handle: Takes each message; what it raises ends the stream.
            source: The stream's frames in the engines.
            wake: Has the engines look at them again.
            budget: Counts what lies unsent.
            max_in_flight: Messages that may wait for their answers.
            on_idle: Told whenever all that was to be sent has been.
        """
        self.closed = False
        self._context = context
        self._request_type = request_type
        self._handle = handle
        self._source = source
        self._wake = wake
        self._budget = budget
        self._max_in_flight = max_in_flight
        self._on_idle = on_idle
        self._outbox = Outbox[R](context.write, self._written)
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._in_flight = 0
        self._unsent_bytes = 0
        self._draining = False
        self._reader: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_sending(self) -> bool:
        """Whether a message is being sent, or waits for that."""
        return not self._outbox.is_idle

    async def run(self) -> None:
        """Serve until the client is done, is lost or breaks the protocol, or the server drains.

        Raises:
            TidegateError: The client broke the protocol; `handle` raised it.
            ServerStopping: All that was sent is answered, and the server drains.
        """
        self._reader = asyncio.create_task(self._read_all())
        try:
            ends: set[asyncio.Future[None]] = {self._reader, self._outbox.lost}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if self._reader.done() and not self._reader.cancelled():
                self._reader.result()
            await self._finish()
        finally:
            self._close()
        if self._draining:
            raise ServerStopping("the server is stopping")

    def drain(self) -> None:
        """Read nothing more; end when everything is answered."""
        self._draining = True
        if self._reader is not None:
            self._reader.cancel()

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Do what may take a while beside the reading; it is cancelled with the stream."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def send(self, response: R, num_bytes: int = 0, *, completes: bool) -> None:
        """Send a message; `completes` if it is the last answer to one of the client's."""
        if self.closed:
            return
        self._budget.add(num_bytes)
        self._unsent_bytes += num_bytes
        self._outbox.put(Unsent(response, num_bytes, completes))
        self._regulate()

    def complete(self) -> None:
        """A message needs no answer."""
        self._in_flight -= 1

    async def _finish(self) -> None:
        """Answer what is still in flight, and send what is unsent."""
        lost = self._outbox.lost
        while not lost.done() and (self._in_flight or not self._outbox.is_idle):
            self._has_room.clear()
            room = asyncio.create_task(self._has_room.wait())
            try:
                changes: set[asyncio.Future[Any]] = {room, lost}
                await asyncio.wait(changes, return_when=asyncio.FIRST_COMPLETED)
            finally:  # a client may be lost here too
                room.cancel()
        if lost.done():
            lost.result()

    def _close(self) -> None:
        self.closed = True
        for task in (self._reader, *self._tasks):
            if task is not None:
                task.cancel()
        self._outbox.close()
        self._budget.give_back(self._unsent_bytes)
        self._unsent_bytes = 0

    async def _read_all(self) -> None:
        while True:
            while self._is_full():
                self._has_room.clear()
                await self._has_room.wait()
            request = await self._context.read()
            if not isinstance(request, self._request_type):
                return
            self._in_flight += 1
            self._handle(request)

    def _is_full(self) -> bool:
        return self._in_flight >= self._max_in_flight or self._source.paused

    def _written(self, unsent: Unsent[R]) -> None:
        self._budget.give_back(unsent.num_bytes)
        self._unsent_bytes -= unsent.num_bytes
        self._in_flight -= unsent.completes
        self._has_room.set()
        self._regulate()
        if self._outbox.is_idle:
            self._on_idle()

    def _regulate(self) -> None:
        """Hold frames back by how much lies unsent; what is held back goes on at half of that."""
        source = self._source
        before = (source.congested, source.paused)
        queued_bytes = self._unsent_bytes + MESSAGE_BYTES * len(self._outbox)
        source.congested = queued_bytes > CONGESTED_BYTES // (2 if source.congested else 1)
        source.paused = queued_bytes > PAUSE_BYTES // (2 if source.paused else 1)
        if (source.congested, source.paused) < before:
            self._wake()
