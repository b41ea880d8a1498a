"""What needs the runner between two batches: a look at states, a piece of a forecast.

No batch runs while an errand does, so an errand sees states after whole steps and never shares the graph.
Batches and errands take turns, one of each, so neither waits for more than one of the other; whoever has
long work cuts it into errands.

Only the event loop's thread calls this.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, NamedTuple, TypeVar

from tidegate.errors import ServerStopping

B = TypeVar("B")
R = TypeVar("R")


class _Errand(NamedTuple):
    call: Callable[[], object]
    in_thread: bool
    done: asyncio.Future[Any]


class Errands:
    """The errands of one engine, in the order of asking.

    Attributes:
        is_running: One is under way in the engine's thread.
        is_closed: None is taken any more.
    """

    def __init__(self, executor: Executor, wake: Callable[[], None]) -> None:
        """Start with none.

        Args:
            executor: The engine's thread.
            wake: Asks the engine for a turn.
        """
        self.is_running = False
        self._executor = executor
        self._wake = wake
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Errand] = deque()
        self.is_closed = False
        self._batch_was_last = False

    @property
    def is_busy(self) -> bool:
        """Whether one waits or runs."""
        return self.is_running or bool(self._waiting)

    async def look(self, call: Callable[[], R]) -> R:
        """Call between two batches, in the event loop; for what takes microseconds.

        Raises:
            ServerStopping: The version was unloaded first.
        """
        return await self._done(call, in_thread=False)

    async def work(self, call: Callable[[], R]) -> R:
        """Call between two batches, in the engine's thread; for what runs the graph.

        Raises:
            ServerStopping: The version was unloaded first.
        """
        return await self._done(call, in_thread=True)

    def or_batch(self, take: Callable[[], B | None]) -> B | None:
        """The batch whose turn it is; None where an errand has the turn, and is begun, or nothing is ready.

        Args:
            take: Forms the next batch, if any row is ready.
        """
        batch = None if self._batch_was_last and self._waiting else take()
        self._batch_was_last = batch is not None
        if batch is None and self._waiting:
            self._begin()
        return batch

    def _begin(self) -> None:
        """Do the next errand; another turn follows it."""
        errand = self._waiting.popleft()
        if errand.done.done():  # nobody waits for it any more
            self._wake()
        elif errand.in_thread:
            self.is_running = True
            future = self._loop.run_in_executor(self._executor, errand.call)
            future.add_done_callback(lambda _: self._end(errand.done, future))
        else:
            _settle(errand.done, errand.call)
            self._wake()

    def close(self) -> None:
        """Refuse what waits, and all that comes later."""
        self.is_closed = True
        for errand in self._waiting:
            if not errand.done.done():
                errand.done.set_exception(_unloaded())
        self._waiting.clear()

    async def _done(self, call: Callable[[], R], *, in_thread: bool) -> R:
        if self.is_closed:
            raise _unloaded()
        done: asyncio.Future[R] = self._loop.create_future()
        self._waiting.append(_Errand(call, in_thread, done))
        self._wake()
        return await done

    def _end(self, done: asyncio.Future[Any], future: asyncio.Future[object]) -> None:
        self.is_running = False
        _settle(done, future.result)
        self._wake()


def _settle(done: asyncio.Future[Any], call: Callable[[], object]) -> None:
    """Hand over what a call gives or raises, if anybody still waits for it."""
    try:
        result = call()
    except Exception as error:
        if not done.done():
            done.set_exception(error)
    else:
        if not done.done():
            done.set_result(result)


def _unloaded() -> ServerStopping:
    return ServerStopping("the model version was unloaded")
