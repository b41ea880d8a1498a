"""What one stream has to say, a message at a time and in order.

`write` waits until flow control lets a message out. It is run without a task, as callbacks of the futures that
it waits for: to put a task to sleep and wake it again for every message costs a round of the event loop more.
A write begins in the next round, so that the answers of a whole batch go to grpc one right after the other; where
they were begun amid the engine's turn, as each answer was made, the server needed up to a tenth more CPU.

Only the event loop's thread calls this.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Generic, NamedTuple, TypeVar

from grpc import aio

R = TypeVar("R")


class Unsent(NamedTuple, Generic[R]):
    """A message on its way out."""

    response: R
    num_bytes: int
    """About what it holds."""
    completes: bool
    """It is the last answer to a message of the client's."""


class Outbox(Generic[R]):
    """Messages that wait for the one that is being written.

    Attributes:
        lost: Done when nothing more can be written; holds the error where that was no hang-up.
    """

    def __init__(
        self,
        write: Callable[[R], Awaitable[None]],
        on_written: Callable[[Unsent[R]], None],
    ) -> None:
        self._write = write
        self._on_written = on_written
        self._waiting: deque[Unsent[R]] = deque()
        self._at_hand: Unsent[R] | None = None
        self._is_due = False
        self._loop = asyncio.get_running_loop()
        self._steps: Generator[asyncio.Future[Any], None, None]
        self.lost: asyncio.Future[None] = self._loop.create_future()

    def __len__(self) -> int:
        """Messages that wait behind the one that is being written."""
        return len(self._waiting)

    @property
    def is_idle(self) -> bool:
        """Whether everything is written, or nothing more can be."""
        return self.lost.done() or (self._at_hand is None and not self._waiting)

    def put(self, unsent: Unsent[R]) -> None:
        """Send a message as soon as those before it are sent."""
        self._waiting.append(unsent)
        if self._at_hand is None and not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._go_on)

    def close(self) -> None:
        """Write nothing more; what is being written ends with the call."""
        self._waiting.clear()
        if not self.lost.done():
            self.lost.set_result(None)

    def _go_on(self, awaited: asyncio.Future[Any] | None = None) -> None:
        """Write until there is something to wait for, or nothing to write."""
        self._is_due = False
        if self.lost.done() and awaited is not None and not awaited.cancelled():
            awaited.exception()  # a write that failed with the stream: asyncio would log that nobody took it
        try:
            while not self.lost.done() and (self._at_hand is not None or self._begin()):
                if not self._step():
                    return
        except (aio.InternalError, asyncio.CancelledError):
            self.close()  # it hung up, and grpc has not yet cancelled the call
        except Exception as error:
            self.lost.set_exception(error)

    def _step(self) -> bool:
        """Take the message at hand a step further; False when it has to wait for something."""
        try:
            awaited = self._steps.send(None)
        except StopIteration:
            written, self._at_hand = self._at_hand, None
            assert written is not None
            self._on_written(written)
            return True
        # What a task does: it takes note that the future asked to be waited for.
        awaited._asyncio_future_blocking = False  # noqa: SLF001  # the protocol of futures and tasks
        awaited.add_done_callback(self._go_on)
        return False

    def _begin(self) -> bool:
        """Take the next message; False when there is none."""
        if not self._waiting:
            return False
        self._at_hand = self._waiting.popleft()
        self._steps = self._write(self._at_hand.response).__await__()
        return True
