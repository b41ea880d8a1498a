"""One call for all who ask while the call before it is under way: a commit costs as much for many as for one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from tidegate.session.whole import begin

Item = TypeVar("Item")
Result = TypeVar("Result")


class Shared(Generic[Item, Result]):
    """A call that many share. The event loop owns it."""

    def __init__(self, call: Callable[[list[Item]], Awaitable[Sequence[Result]]]) -> None:
        """Share a call.

        Args:
            call: Gives one result per item; what it raises is raised for each of them.
        """
        self._call = call
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._is_calling = False

    async def ask(self, item: Item) -> Result:
        """The result for an item."""
        done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, done))
        if not self._is_calling:
            self._is_calling = True
            begin(self._run())
        return await asyncio.shield(done)

    async def _run(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting, []
            try:
                results = await self._call([item for item, _ in group])
            except Exception as error:
                for _, done in group:
                    done.set_exception(error)
            else:
                for (_, done), result in zip(group, results, strict=True):
                    done.set_result(result)
        self._is_calling = False
