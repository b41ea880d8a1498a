"""Keeps the loaded versions in step with the repository and with the sessions in memory.

A version that comes to the repository is loaded by itself. A version that is not the newest of its model
is unloaded when nothing has needed it for a while; its package stays where it is, and whoever resumes a
session of it has it loaded again.

Runs in the event loop, beside the traffic; the disk is read in a worker thread.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import NoReturn

from tidegate.engine.pool import LoadedModel
from tidegate.errors import ConfigError
from tidegate.repository.repository import Repository
from tidegate.repository.watching import RESCAN_S, SETTLE_S, Watch, notices
from tidegate.session.manager import SessionManager

log = logging.getLogger(__name__)

MAX_LOOK_INTERVAL_S = 30.0
"""Longest time between two looks for versions that nothing needs."""


class VersionKeeper:
    """Loads what comes and unloads what nobody needs, on behalf of one server."""

    def __init__(
        self,
        repository: Repository,
        manager: SessionManager,
        *,
        watches: bool,
        unload_after_s: float,
        report: Callable[[Exception], None],
    ) -> None:
        """Take the repository as it is now: what comes later is loaded by `run`.

        Args:
            repository: Where versions come from.
            manager: Has the sessions, and the pool.
            watches: Load what comes to the repository.
            unload_after_s: Time that a version stays after it was last needed, in seconds.
            report: Told of exceptions that nobody expected.

        Raises:
            ConfigError: The repository has gone.
        """
        self._manager = manager
        self._pool = manager.pool
        self._unload_after_s = unload_after_s
        self._report = report
        self._root = repository.root.resolve()
        self._watch = Watch(repository) if watches else None
        self._noticed = asyncio.Event()
        self._obstacle = ""

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._unload_unneeded())
            if self._watch is not None:
                tasks.create_task(self._take_notices())
                tasks.create_task(self._load_new(self._watch))

    def unload_unneeded(self) -> None:
        """Unload the versions that nothing has needed for `unload_after_s`."""
        now_s = time.monotonic()
        for model in self._pool.models():
            if self._is_needed(model):
                model.needed_at_s = now_s
            elif now_s - model.needed_at_s >= self._unload_after_s:
                self._manager.unload(model)

    def _is_needed(self, model: LoadedModel) -> bool:
        if model.is_kept or model.is_in_use or self._pool.is_newest(model):
            return True
        return any(t.num_sessions for t in self._manager.registry.tables() if t.model is model)

    async def _unload_unneeded(self) -> NoReturn:
        while True:
            await asyncio.sleep(min(self._unload_after_s / 4, MAX_LOOK_INTERVAL_S))
            try:
                self.unload_unneeded()
            except Exception as error:  # whatever this look met, the next one comes
                self._report(error)

    async def _take_notices(self) -> None:
        try:
            await notices(self._root, self._noticed.set)
        except (OSError, RuntimeError) as error:
            facts = {"why": str(error), "looks_every_s": RESCAN_S}
            log.warning("the system does not tell of changes to the models", extra=facts)

    async def _load_new(self, watch: Watch) -> NoReturn:
        was_noticed = True  # much may have come while the server started
        while True:
            # A notice may be of a folder whose files the system was not yet asked to tell of.
            was_noticed = await self._is_noticed_within(SETTLE_S if was_noticed else watch.next_look_s)
            try:
                await self._look(watch)
            except Exception as error:  # whatever this look met, the next one comes
                self._report(error)

    async def _is_noticed_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._noticed.wait()
        except TimeoutError:
            return False
        self._noticed.clear()
        return True

    async def _look(self, watch: Watch) -> None:
        obstacle = ""
        try:
            for entry in await asyncio.to_thread(watch.look, time.monotonic()):
                await self._pool.take_notice(entry)
        except ConfigError as error:
            obstacle = str(error)
        if obstacle and obstacle != self._obstacle:
            log.warning("the models cannot be looked at", extra={"why": obstacle})
        self._obstacle = obstacle
