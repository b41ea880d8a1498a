"""A session manager on a real pool and a real store."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from support.session_clients import Caller, StreamClient
from support.waiting import until
from tidegate.engine.pool import ModelPool, PoolOptions
from tidegate.protocol.lifecycle import Condition
from tidegate.repository.repository import Repository
from tidegate.runner.runner import RunnerOptions
from tidegate.session.limits import SessionLimits
from tidegate.session.manager import SessionManager
from tidegate.session.registry import Place
from tidegate.session.stores.opening import open_store
from tidegate.session.stores.store import StoredSession
from tidegate.telemetry.metrics import Metrics

LIMITS = SessionLimits(
    max_frame_rows=8,
    max_frame_steps=64,
    max_message_bytes=1 << 20,
    max_frames_in_flight=16,
    max_open_sessions=12,
    max_pending_bytes=4096,
    max_streams=3,
    detached_idle_timeout_s=100.0,
    expire_after_s=100_000.0,
    checkpoint_age_s=5.0,
    checkpoint_bytes_per_s=1 << 30,
    sequence_durability="before-answer",
    retry_after_s=2.5,
)
MAX_SESSIONS = 6
MAX_STORED = 20


class SessionBench:
    """Everything below the wire; nothing runs in the background."""

    def __init__(
        self,
        repository: Path,
        *,
        store: str = "memory:",
        limits: SessionLimits = LIMITS,
        max_sessions: int = MAX_SESSIONS,
        max_stored: int = MAX_STORED,
    ) -> None:
        self.metrics = Metrics()
        runner = RunnerOptions(max_batch_size=4, max_slice_steps=4, max_sessions=max_sessions)
        options = PoolOptions(runner=runner, max_queue_delay_us=0)
        self.pool = ModelPool(Repository(repository), options, self.metrics)
        opened = open_store(store, full_sync=False, max_stored_sessions=max_stored, max_tombstones=4)
        self.manager = SessionManager(self.pool, opened, limits, self.metrics)

    def place(self, session_id: str) -> Place:
        """Where a session is in memory."""
        place = self.manager.registry.find(session_id)
        assert place is not None, f"{session_id!r} is not in memory"
        return place

    def in_memory(self) -> set[str]:
        """The ids of the sessions in memory."""
        return set(self.manager.registry.ids())

    def grow_idle(self, *session_ids: str, by_s: float | None = None) -> None:
        """Let time pass for sessions, as much as makes a detached one idle if nothing else is said."""
        for session_id in session_ids:
            table, slot = self.place(session_id)
            table.last_used_s[slot] -= LIMITS.detached_idle_timeout_s + 1 if by_s is None else by_s

    async def passivate(self, *session_ids: str) -> None:
        """Let detached sessions be in the store only, once nobody works on them."""
        await until(lambda: not set(self.manager.holds.held) & set(session_ids))
        self.grow_idle(*session_ids)
        await self.manager.tidy()
        assert not self.in_memory() & set(session_ids)

    async def lose(self, session_id: str) -> None:
        """Let a tombstone be all that stays of a detached session."""
        place = self.place(session_id)
        grave = (int(place.table.number[place.slot]), place.next_step, 0, "a test")
        await self.passivate(session_id)
        await self.manager.keeper.write(lambda store: store.bury([grave]))
        assert await self.condition(session_id) is Condition.GONE

    async def checkpoint(self) -> None:
        """Store everything that has changed."""
        await self.manager.checkpointer.save_all()

    async def stored(self, session_id: str) -> StoredSession | None:
        """What the store has of a session."""
        return (await self.manager.keeper.read(lambda store: store.find([session_id]))).get(session_id)

    def runs(self, session_id: str) -> bool:
        """Whether a batch that runs holds a session."""
        table, slot = self.place(session_id)
        return table.model.engine.holds(np.array([slot], np.int32))

    def is_held(self, session_id: str) -> bool:
        """Whether somebody works on an id."""
        return session_id in self.manager.holds._last

    def engine_stalls(self, label: str = "counter/1") -> contextlib.AbstractContextManager[None]:
        """Let no batch of a model version end while the block lasts; batches must run in the engine's thread."""
        (model,) = (m for m in self.pool.models() if m.manifest.label == label)
        return _stalled(model.engine._executor)

    def store_stalls(self) -> contextlib.AbstractContextManager[None]:
        """Let no call to the store end while the block lasts."""
        return _stalled(self.manager.keeper._thread)

    @contextlib.contextmanager
    def store_refuses(self) -> Iterator[None]:
        """Let the store take nothing while the block lasts; it can still be read."""
        self._forbid_writing(True)
        try:
            yield
        finally:
            self._forbid_writing(False)

    def _forbid_writing(self, forbidden: bool) -> None:
        keeper = self.manager.keeper
        connection = keeper._store._database._connection  # type: ignore[attr-defined]
        keeper._thread.submit(connection.execute, f"PRAGMA query_only = {int(forbidden)}").result()

    def value(self, name: str, **labels: str) -> float | None:
        """A metric's value."""
        return self.metrics.registry.get_sample_value(name, labels)

    async def condition(self, session_id: str) -> Condition:
        """Where a session is in its life."""
        finder = self.manager.finder
        return finder.condition((await finder.find([session_id])).get(session_id))

    def client(self, instance: bytes = b"") -> StreamClient:
        return StreamClient(self.manager, instance)

    def caller(self) -> Caller:
        return Caller(self.manager)

    @property
    def pending_bytes(self) -> float:
        value = self.value("tidegate_pending_bytes")
        assert value is not None
        return value

    def close(self) -> None:
        """Hold the books once more, and stop."""
        self.manager.check_integrity()
        assert self.pending_bytes == 0, "bytes were not given back"
        self.crash()

    def crash(self) -> None:
        """Stop with whatever the store has by now: nothing more is stored."""
        self.pool.close()
        self.manager.keeper.close()


@contextlib.contextmanager
def _stalled(thread: ThreadPoolExecutor) -> Iterator[None]:
    """Give a thread something to do that lasts as long as the block."""
    ended = threading.Event()
    thread.submit(ended.wait)
    try:
        yield
    finally:
        ended.set()


class Lives:
    """Servers one after the other on one store file."""

    def __init__(self, models: Path, file: Path) -> None:
        self.file = file
        self._models = models
        self._bench: SessionBench | None = None

    def begin(self, *, limits: SessionLimits = LIMITS, max_sessions: int = MAX_SESSIONS) -> SessionBench:
        """Start a server; the one before it dies with what it had not stored."""
        self.end()
        store = f"sqlite:///{self.file}"
        self._bench = SessionBench(self._models, store=store, limits=limits, max_sessions=max_sessions)
        return self._bench

    def end(self) -> None:
        """Hold the books of the server that runs, and let it die."""
        if self._bench is not None:
            self._bench.close()
            self._bench = None
