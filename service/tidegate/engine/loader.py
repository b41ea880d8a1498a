"""Makes runners from the repository's packages, and remembers which were refused.

Loading is mostly the probe, seconds of computing. Once there is traffic it happens in threads of a lower
priority, which take what the sessions that run leave over: on one core a load would else take every
second turn. `python -m bench.loading` measures it (docs/decisions.md has the figures).

Only the event loop's thread calls this.
"""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress

from tidegate.engine.model_report import ModelReport
from tidegate.errors import ModelNotFound, TidegateError
from tidegate.repository.repository import Entry, Repository
from tidegate.runner.runner import Runner, RunnerOptions
from tidegate.telemetry.incidents import incident

NICENESS = 10
"""About a tenth of the share of a thread with the normal priority, where both want the core."""

NUM_THREADS = 2
"""Loads at a time, so that a large model does not keep a small one waiting."""


class Loader:
    """Loads versions for one pool.

    Attributes:
        failures: Why versions were refused the last time, in one line.
    """

    def __init__(self, repository: Repository, options: RunnerOptions, report: ModelReport) -> None:
        self.failures: dict[Entry, str] = {}
        self._repository = repository
        self._options = options
        self._report = report
        self._threads: Executor | None = None  # the event loop's own

    def give_way(self) -> None:
        """From now on there is traffic, which loads must not slow down.

        A runtime that makes threads of its own is loaded with the normal priority: its threads would inherit
        a lower one, and steps would run in them ever after.
        """
        inherits = self._options.intra_op_threads > 1 or self._options.device != "cpu"
        self._threads = ThreadPoolExecutor(
            NUM_THREADS, "loader", initializer=None if inherits else _lower_priority
        )

    async def load(self, entry: Entry) -> Runner:
        """Read, check, probe and warm up a version; from now on its package must stay as it is.

        Raises:
            ModelNotFound: The repository has no such version.
            PackageError: The package is refused.
            InternalError: The load failed in a way that nobody expected.
        """
        try:
            runner = await asyncio.get_running_loop().run_in_executor(self._threads, self._make_runner, entry)
        except ModelNotFound:
            raise  # remembering it would let callers fill the memory with names
        except TidegateError as error:
            self._refuse(entry, error)
            raise
        except Exception as error:
            public = incident(error)
            self._refuse(entry, public)
            raise public from None
        self.failures.pop(entry, None)
        self._repository.hold(runner.manifest)
        return runner

    async def check(self, entry: Entry) -> None:
        """Hold the package of a version that has been loaded against what it was; the log tells of a difference."""
        try:
            await asyncio.to_thread(self._repository.read, *entry)
        except ModelNotFound:
            return  # what is loaded goes on without its package
        except TidegateError as error:
            if self.failures.get(entry) != str(error):
                self._refuse(entry, error)
        else:
            self.failures.pop(entry, None)

    def close(self) -> None:
        """Give up the loads that have not begun."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _make_runner(self, entry: Entry) -> Runner:
        return Runner(self._repository.read(*entry), self._options)

    def _refuse(self, entry: Entry, error: TidegateError) -> None:
        self.failures[entry] = str(error)
        self._report.refused(entry, error)


def _lower_priority() -> None:
    """Lower the priority of this thread; Linux has one for each."""
    with suppress(OSError):  # a sandbox may forbid it; the load is as loud as it is then
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
