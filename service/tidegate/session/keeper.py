"""The store as the event loop sees it: calls go to one thread, in the order of asking.

The order is what makes checkpoints safe: a state that was captured before a resume is written before the
resume forgets what lies above its step. A store that fails does not stop the server: it goes on from
memory, says so in health, metrics and log, and reports nothing as durable that is not.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tidegate.errors import StoreUnavailable
from tidegate.session.stores.changes import NewSession
from tidegate.session.stores.store import Store, StoreCounts
from tidegate.session.whole import begin
from tidegate.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

Result = TypeVar("Result")


class StoreKeeper:
    """One store, its thread and its health. Only the event loop's thread calls this.

    Attributes:
        is_durable: What the store has outlives the process.
        on_change: Told when the store begins or ceases to take what it is given.
    """

    def __init__(self, store: Store, metrics: Metrics) -> None:
        self._store = store
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._metrics = metrics
        self._next_number = store.last_number + 1
        self._last_epoch = 0
        self._counts = StoreCounts(0, 0, 0)
        self._failure = ""
        self._joining: list[tuple[list[NewSession], asyncio.Future[None]]] = []
        self._is_creating = False
        self.is_durable = store.is_durable
        self.on_change: Callable[[bool], None] = lambda _works: None
        metrics.store_ok.set(1)
        metrics.stored_sessions.set_function(lambda: self._counts.sessions)
        metrics.tombstones.set_function(lambda: self._counts.tombstones)
        metrics.store_bytes.set_function(lambda: self._counts.disk_bytes)

    @property
    def works(self) -> bool:
        """Whether the last write succeeded."""
        return not self._failure

    def new_numbers(self, count: int) -> range:
        """Numbers for new sessions, never given before."""
        first, self._next_number = self._next_number, self._next_number + count
        return range(first, self._next_number)

    def new_epoch(self, after: int = 0) -> int:
        """Microseconds since 1970, but always more than the last: it grows over all lives of an id.

        Args:
            after: It must be later than this one too: a clock may have been set back.
        """
        self._last_epoch = max(self._last_epoch + 1, after + 1, time.time_ns() // 1000)
        return self._last_epoch

    async def read(self, call: Callable[[Store], Result]) -> Result:
        """Ask the store.

        Raises:
            StoreUnavailable: It cannot be read.
        """
        return await self._run(call)

    async def write(self, call: Callable[[Store], Result]) -> Result:
        """Change the store; what is returned has been committed.

        Raises:
            StoreUnavailable: It did not take the change; nothing was changed.
            StoreFull: It has as many sessions as it may.
        """
        try:
            result = await self._run(call)
        except StoreUnavailable as error:
            self._failed(str(error))
            raise
        self._recovered()
        return result

    async def create(self, sessions: list[NewSession]) -> None:
        """Add sessions; what many ask for while a commit is under way shares the next one.

        Raises:
            SessionExists: An id is known.
            StoreFull: The store has as many sessions as it may.
            StoreUnavailable: It did not take the change; nothing was changed.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._joining.append((sessions, done))
        if len(self._joining) == 1 and not self._is_creating:
            begin(self._create_all())
        await asyncio.shield(done)

    async def _create_all(self) -> None:
        self._is_creating = True
        while self._joining:
            group, self._joining = self._joining, []
            together = [session for sessions, _ in group for session in sessions]
            if await self._create_group(together, [done for _, done in group], gives_up=len(group) == 1):
                continue
            for sessions, done in group:  # one of them may have spoilt it for all
                await self._create_group(sessions, [done], gives_up=True)
        self._is_creating = False

    async def _create_group(
        self, sessions: list[NewSession], waiting: list[asyncio.Future[None]], *, gives_up: bool
    ) -> bool:
        """Add sessions in one commit; whether those who wait have been told."""
        try:
            await self.write(lambda store: store.create(sessions))
        except Exception as error:
            for done in waiting if gives_up else ():
                done.set_exception(error)
            return gives_up
        for done in waiting:
            done.set_result(None)
        return True

    async def probe(self) -> None:
        """Find out whether a store that failed takes writes again, and how much it holds."""
        try:
            self._counts = await self.read(lambda store: store.count())
            await self.write(lambda store: store.check_writable())
        except StoreUnavailable as error:
            self._failed(str(error))

    async def barrier(self) -> None:
        """Wait until everything asked before is done."""
        await self._run(lambda _store: None)

    def close(self) -> None:
        """Do what is queued, then close the store."""
        self._thread.submit(self._store.close)
        self._thread.shutdown(wait=True)

    async def _run(self, call: Callable[[Store], Result]) -> Result:
        # Shielded: a call that is queued is made whether or not somebody still waits for it.
        future = asyncio.get_running_loop().run_in_executor(self._thread, call, self._store)
        return await asyncio.shield(future)

    def _failed(self, text: str) -> None:
        self._metrics.store_failures.inc()
        if self._failure:
            return
        self._failure = text
        self._metrics.store_ok.set(0)
        log.error("store failed: nothing new is durable", extra={"why": text})
        self.on_change(False)

    def _recovered(self) -> None:
        if not self._failure:
            return
        self._failure = ""
        self._metrics.store_ok.set(1)
        log.warning("store works again")
        self.on_change(True)
