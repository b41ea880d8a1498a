"""What can be asked of sessions: the one door between the wire and the engines.

Streams open sessions, send frames and close handles; single calls address a session by its id. Only
the event loop's thread calls this. Every method either does what it says or raises an error of
`tidegate.errors` and changes nothing.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable
from contextlib import suppress

from tidegate.engine.pool import LoadedModel, ModelPool
from tidegate.errors import (
    Displaced,
    ModelInUse,
    ServerStopping,
    StoreUnavailable,
    TidegateError,
    TooManyRequests,
)
from tidegate.protocol.lifecycle import Event
from tidegate.session.checkpointing import RETRY_S, Checkpointer
from tidegate.session.closing import Closer
from tidegate.session.creating import Creator
from tidegate.session.finding import Finder
from tidegate.session.frames import (
    Answer,
    FrameRequest,
    Refusals,
)
from tidegate.session.handles import HandleArray, HandleStatus
from tidegate.session.holds import Holds
from tidegate.session.intake import Intake
from tidegate.session.keeper import StoreKeeper
from tidegate.session.limits import ByteBudget, SessionLimits
from tidegate.session.open_request import OpenRequest, OpenResult, check_session_id
from tidegate.session.opening import Opener
from tidegate.session.passivating import Passivator
from tidegate.session.registry import Registry
from tidegate.session.returning import Returner
from tidegate.session.sequences.door import SequenceDoor
from tidegate.session.stores.store import Store
from tidegate.session.stream import Notice, NoticeReason, SessionStream
from tidegate.session.taking_over import TakeOver
from tidegate.telemetry.metrics import Metrics
from tidegate.tensor import IntArray

log = logging.getLogger(__name__)

SESSIONS_PER_S = 50_000
"""Sessions that are stored in a second, for the estimate in the log: about half of what `checkpoint.rate` of the
bench says for 2 kB each."""


class SessionManager:
    """All sessions of one server.

    Attributes:
        pool: The loaded models.
        registry: Which sessions are in memory.
        keeper: The store.
        holds: Which ids somebody works on.
        finder: Looks ids up, in memory and in the store.
        creator: Makes sessions.
        returner: Brings sessions back from the store.
        checkpointer: Stores what has changed.
        passivator: Makes room in memory.
        sequences: Takes the requests of sequences.
        budget: Bytes that wait, of all clients together.
        limits: The operator's settings.
    """

    def __init__(self, pool: ModelPool, store: Store, limits: SessionLimits, metrics: Metrics) -> None:
        self.pool = pool
        self.limits = limits
        self.budget = ByteBudget(limits, metrics)
        self.holds = Holds()
        self.registry = registry = Registry(metrics)
        self.keeper = keeper = StoreKeeper(store, metrics)
        self.finder = finder = Finder(registry, keeper)
        self._metrics = metrics
        self._streams: dict[int, SessionStream] = {}
        self._numbers = itertools.count(1)
        self.checkpointer = checkpointer = Checkpointer(
            registry,
            keeper,
            self._streams,
            metrics,
            age_s=limits.checkpoint_age_s,
            bytes_per_s=limits.checkpoint_bytes_per_s,
        )
        self.passivator = Passivator(registry, keeper, checkpointer, self.holds, limits, metrics)
        self.returner = Returner(
            pool, registry, keeper, checkpointer, self.passivator, finder, self.holds, metrics,
            retry_after_s=limits.retry_after_s,
        )  # fmt: skip
        self.creator = Creator(pool, registry, keeper, self.passivator, retry_after_s=limits.retry_after_s)
        take_over = TakeOver(keeper, checkpointer, self.returner, self._streams)
        self._opener = Opener(
            finder, self.holds, self.creator, self.returner, take_over, keeper, self._streams, limits
        )
        self._closer = Closer(registry, keeper, checkpointer, finder, self.holds, self._streams, limits)
        self._intake = Intake(checkpointer, limits)
        self.sequences = SequenceDoor(
            pool, registry, keeper, checkpointer, self.passivator, self.holds, self.creator, self.returner,
            limits, metrics,
        )  # fmt: skip
        self._stopping = False
        metrics.streams.set_function(lambda: len(self._streams))

    def add_stream(
        self,
        send: Callable[[Answer], None],
        notify: Callable[[Notice], None],
        durable: Callable[[HandleArray, IntArray], None],
    ) -> SessionStream:
        """A client has connected.

        Raises:
            TooManyRequests: Too many streams are open.
        """
        self.check_running()
        if len(self._streams) >= self.limits.max_streams:
            raise TooManyRequests(
                f"max_streams: all {self.limits.max_streams} streams are open",
                retry_after_s=self.limits.retry_after_s,
            )
        stream = SessionStream(next(self._numbers), send=send, notify=notify, durable=durable)
        self._streams[stream.number] = stream
        return stream

    def remove_stream(self, stream: SessionStream) -> None:
        """A client has gone: its sessions are detached, and what waits for them is dropped."""
        for table, handles in stream.handles.by_table(stream.handles.held()):
            slots = stream.handles.slots(handles)
            self._closer.detach(table, slots)
            table.drop(slots, _stream_lost)
            # A close that is still at work must not end what may be another stream's by then.
            stream.handles.mark(handles, HandleStatus.UNKNOWN)
        del self._streams[stream.number]

    async def open(self, stream: SessionStream, request: OpenRequest) -> OpenResult:
        """Open sessions on a stream; see `Opener.open` for what it raises."""
        self.check_running()
        return await self._opener.open(stream, request)

    def submit(self, stream: SessionStream, request: FrameRequest) -> None:
        """Take a frame; see `Intake.submit` for what it raises."""
        self.check_running()
        self._intake.submit(stream, request)

    def ack(self, stream: SessionStream, handles: HandleArray, steps: IntArray) -> None:
        """The application has kept the answers before these steps; see `Intake.ack` for what it raises."""
        self._intake.ack(stream, handles, steps)

    async def close(
        self, stream: SessionStream, handles: HandleArray, *, end: bool
    ) -> tuple[list[int], Refusals]:
        """Take handles back once the rows sent before have been answered.

        Args:
            stream: Whose handles they are.
            handles: Shape (n,).
            end: Delete the sessions; otherwise they stay, detached.

        Returns:
            The steps that each session had applied, and errors by position.

        Raises:
            MessageTooLarge: More handles than one open may have sessions.
        """
        return await self._closer.close(stream, handles, end=end)

    async def end_session(self, session_id: str) -> int:
        """End a session by its id, whoever holds it; a lost one's id becomes free.

        Returns:
            The steps that it had applied.

        Raises:
            SessionNotFound: No session has this id.
        """
        return await self._closer.end_session(session_id)

    async def tidy(self) -> None:
        """Passivate idle sessions, expire those that nobody has used for very long, and look at the store."""
        await self.passivator.passivate_idle()
        await self.passivator.expire()
        await self.sequences.finish_ends()
        await self.keeper.probe()

    async def model_of(self, session_id: str) -> LoadedModel:
        """The version that a session is pinned to, whether it is in memory or in the store.

        Raises:
            ServerStopping: The server drains.
            SessionNotFound: No session has this id.
            SessionLost: Its state was given up.
            StoreUnavailable: It may be in the store, which cannot be read.
        """
        self.check_running()
        check_session_id(session_id)
        async with self.returner.present(session_id, Event.READ) as place:
            return place.table.model

    def unload(self, *models: LoadedModel) -> None:
        """Unload versions: all of them, or none.

        Raises:
            ModelInUse: Sessions in memory need one of them.
        """
        for model in models:
            count = self.registry.table_of(model).num_sessions
            if count:
                raise ModelInUse(f"{model.manifest.label} has {count} sessions in memory: end them first")
            if model.is_in_use:
                raise ModelInUse(f"{model.manifest.label}: a session is being opened on it")
        for model in models:
            for stream in self._streams.values():
                stream.handles.forget(self.registry.table_of(model))
            self.registry.forget_table(model)
            self.pool.unload(model)

    def drain(self) -> None:
        """Take nothing new; what was sent is answered."""
        self._stopping = True
        self.sequences.drain()
        for stream in self._streams.values():
            stream.tell(NoticeReason.DRAINING, [], [], "the server is stopping")

    def save_estimate(self) -> dict[str, float]:
        """How many sessions `save_all` has to store, and how long that may take, for the log."""
        count = self.checkpointer.num_dirty() if self.keeper.is_durable else 0
        return {"dirty_sessions": count, "estimate_s": round(count / SESSIONS_PER_S, 1)}

    async def save_all(self, within_s: float = 0.0) -> int:
        """Store everything that has changed, before the process ends.

        Args:
            within_s: How long to try again where the store takes nothing; another program may be writing to it.

        Returns:
            Sessions whose newest state is lost with the process.
        """
        if not self.keeper.is_durable:
            return len(self.registry)
        began_s, unsaved = time.monotonic(), 0
        await self.sequences.finish_ends()
        while True:
            try:
                count = await self.checkpointer.save_all()
                break
            except StoreUnavailable:  # said by the keeper
                before, unsaved = unsaved, self.checkpointer.num_dirty()
                is_hopeless = self.keeper.works and unsaved == before  # it takes others, but not these
                if is_hopeless or time.monotonic() + RETRY_S > began_s + within_s:
                    return unsaved
                await asyncio.sleep(RETRY_S)
        log.info("stored", extra={"sessions": count, "took_s": round(time.monotonic() - began_s, 3)})
        if not self.checkpointer.num_ahead():
            with suppress(StoreUnavailable):  # said by the keeper
                await self.keeper.write(lambda store: store.end_run())
        return self.checkpointer.num_dirty()

    def check_running(self) -> None:
        """Raise ServerStopping once the server drains."""
        if self._stopping:
            raise ServerStopping("the server is stopping")

    def is_idle(self) -> bool:
        """Whether nothing waits or runs."""
        is_busy = any(table.model.engine.is_busy for table in self.registry.tables())
        return not (is_busy or self.sequences.is_busy)

    def check_integrity(self) -> None:
        """Raise AssertionError if the books do not add up."""
        for table in self.registry.tables():
            table.check_integrity()
        self.sequences.check_integrity()
        assert len(self.registry) == sum(t.num_sessions for t in self.registry.tables())


def _stream_lost(expected: int) -> TidegateError:
    return Displaced(f"the stream was lost before step {expected}", next_step=expected)
