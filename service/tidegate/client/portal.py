"""A private event loop on a thread of its own, through which plain code runs coroutines.

This is all that the synchronous client adds to the asynchronous one.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import CancelledError
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import TypeVar

from tidegate.client.errors import CallTimedOut
from tidegate.errors import InvalidRequest

T = TypeVar("T")

_CLOSED = "client: expected an open one (`with`), got one that is closed"


class Portal:
    """The loop and its thread; any thread may call `run`."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._is_closed = False
        self._closing = threading.Lock()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tidegate client", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[object, object, T]) -> T:
        """Run a coroutine and wait for it; an interrupt (Ctrl-C) cancels it.

        Raises:
            InvalidRequest: The portal is closed, or was closed meanwhile.
            CallTimedOut: As the coroutine raised it; its `retry` goes through the portal too.
        """
        with self._closing:
            if self._is_closed:
                coroutine.close()
                raise InvalidRequest(_CLOSED)
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except CallTimedOut as error:
            raise error.through(self.run) from None
        except CancelledError:
            raise InvalidRequest(_CLOSED) from None
        except BaseException:
            future.cancel()
            raise

    def do(self, action: Callable[[], T]) -> T:
        """Run a function on the loop's thread, where what it touches lives."""

        async def act() -> T:
            return action()

        return self.run(act())

    @contextmanager
    def entered(self, manager: AbstractAsyncContextManager[T]) -> Iterator[T]:
        """Use an asynchronous context manager in a `with` block."""
        entered = self.run(_enter(manager))
        try:
            yield entered
        except BaseException as error:
            if not self.run(_exit(manager, error)):
                raise
        else:
            self.run(_exit(manager, None))

    def close(self) -> None:
        """Stop the loop and its thread; threads that still wait in `run` are told."""
        with self._closing:
            self._is_closed = True
        asyncio.run_coroutine_threadsafe(_cancel_others(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def _enter(manager: AbstractAsyncContextManager[T]) -> T:
    return await manager.__aenter__()


async def _exit(manager: AbstractAsyncContextManager[T], error: BaseException | None) -> bool:
    if error is None:
        return bool(await manager.__aexit__(None, None, None))
    return bool(await manager.__aexit__(type(error), error, error.__traceback__))
