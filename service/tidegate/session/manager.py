"""What can be asked of sessions: the one door between the wire and the engines.

Streams open sessions, send frames and close handles; single calls address a session by its id. Only
the event loop's thread calls this. Every method either does what it says or raises an error of
`tidegate.errors` and changes nothing.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable

import numpy as np

from tidegate.engine.frame import EngineFrame
from tidegate.engine.pool import LoadedModel, ModelPool
from tidegate.errors import (
    Displaced,
    InvalidRequest,
    MessageTooLarge,
    ModelInUse,
    ServerStopping,
    TidegateError,
    TooManyRequests,
)
from tidegate.protocol.outputs import OutputSelection
from tidegate.session.closing import Closer
from tidegate.session.frames import (
    Answer,
    Delivery,
    FrameRequest,
    Refusals,
    are_good,
    check_form,
    decode_inputs,
    judge_rows,
    refuse_all,
)
from tidegate.session.handles import HandleArray
from tidegate.session.limits import ByteBudget, SessionLimits, check_answers
from tidegate.session.open_request import OpenRequest, OpenResult
from tidegate.session.opening import Opener
from tidegate.session.registry import Registry
from tidegate.session.rows import judge_handles, one_table, others
from tidegate.session.stream import Notice, NoticeReason, SessionStream
from tidegate.session.table import SessionTable
from tidegate.telemetry.metrics import Metrics
from tidegate.tensor import Array, IntArray, SlotArray, index_of

log = logging.getLogger(__name__)


class SessionManager:
    """All sessions of one server.

    Attributes:
        pool: The loaded models.
        registry: Which sessions exist.
        budget: Bytes that wait, of all clients together.
        limits: The operator's settings.
    """

    def __init__(self, pool: ModelPool, limits: SessionLimits, metrics: Metrics) -> None:
        self.pool = pool
        self.limits = limits
        self.registry = Registry(limits.max_tombstones, metrics)
        self.budget = ByteBudget(limits, metrics)
        self._metrics = metrics
        self._streams: dict[int, SessionStream] = {}
        self._numbers = itertools.count(1)
        self._opener = Opener(pool, self.registry, self._streams, limits)
        self._closer = Closer(self.registry, self._streams, limits, metrics)
        self._stopping = False
        metrics.streams.set_function(lambda: len(self._streams))

    def add_stream(self, send: Callable[[Answer], None], notify: Callable[[Notice], None]) -> SessionStream:
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
        stream = SessionStream(next(self._numbers), send=send, notify=notify)
        self._streams[stream.number] = stream
        return stream

    def remove_stream(self, stream: SessionStream) -> None:
        """A client has gone: its sessions are detached, and what waits for them is dropped."""
        for table, handles in stream.handles.by_table(stream.handles.held()):
            slots = stream.handles.slots(handles)
            self._closer.detach(table, slots)
            table.drop(slots, _stream_lost)
        del self._streams[stream.number]

    async def open(self, stream: SessionStream, request: OpenRequest) -> OpenResult:
        """Open sessions on a stream; see `Opener.open` for what it raises."""
        self.check_running()
        return await self._opener.open(stream, request)

    def submit(self, stream: SessionStream, request: FrameRequest) -> None:
        """Take a frame; its answers go to `stream.send`, the last one marked complete.

        Raises:
            InvalidRequest: The frame's form is wrong; no row was accepted.
            MessageTooLarge: It, or its answer, is larger than the server takes at a time.
        """
        self.check_running()
        check_form(request, self.limits)
        resolved = stream.handles.resolve(request.handles)
        if resolved is not None:
            table, slots = resolved
            inputs = self._read(table, request)
            if are_good(table, slots, request.first_steps, inputs):
                self._queue(stream, request, table, slots, None, inputs, {})
                return
        self._submit_good_rows(stream, request)

    def _submit_good_rows(self, stream: SessionStream, request: FrameRequest) -> None:
        """Take a frame row by row: some are refused."""
        refusals = judge_handles(stream, request.handles)
        rows = others(len(request.handles), refusals)
        if not len(rows):
            stream.send(refuse_all(request, refusals))
            return
        handles = request.handles[rows]
        table = one_table(stream, handles, rows)
        inputs = self._read(table, request)
        slots = stream.handles.slots(handles)
        if len(rows) < len(request.handles):
            inputs = [x[rows] for x in inputs]
        judged = judge_rows(table, slots, request.first_steps[rows], inputs)
        if judged:
            refusals |= {int(rows[i]): error for i, error in judged.items()}
            good = others(len(rows), judged)
            rows, slots, inputs = rows[good], slots[good], [x[good] for x in inputs]
        if not len(rows):
            stream.send(refuse_all(request, refusals))
            return
        self._queue(stream, request, table, slots, rows, inputs, refusals)

    def ack(self, stream: SessionStream, handles: HandleArray, steps: IntArray) -> None:
        """The application has kept the answers before these steps.

        Nothing follows from it while the store keeps one state per session, in memory.

        Raises:
            InvalidRequest: The lists differ in length, or a step lies ahead of its session.
            MessageTooLarge: More handles than a frame may have rows.
            SessionNotFound: A handle stands for no session on this stream.
        """
        if len(handles) > self.limits.max_frame_rows:
            raise MessageTooLarge(
                f"ack.handles: expected at most {self.limits.max_frame_rows}, got {len(handles)}"
            )
        if len(steps) != len(handles):
            raise InvalidRequest(
                f"ack.steps: expected one number per handle ({len(handles)}), got {len(steps)}"
            )
        for error in judge_handles(stream, handles).values():
            raise error
        numbers = stream.handles.table_numbers(handles)
        for number, table in stream.handles.tables.items():
            mine = np.flatnonzero(numbers == number)
            ahead = mine[steps[mine] > table.next_step[stream.handles.slots(handles[mine])]]
            if len(ahead):
                raise InvalidRequest(
                    f"ack.steps: step {steps[ahead[0]]} of handle {handles[ahead[0]]} has not been answered"
                )

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

    def evict_idle(self) -> int:
        """Give up detached sessions that nobody has used for too long.

        Returns:
            How many.
        """
        return self._closer.evict_idle()

    def unload(self, model: LoadedModel) -> None:
        """Unload a version.

        Raises:
            ModelInUse: Sessions in memory need it.
        """
        count = self.registry.table_of(model).num_sessions
        if count:
            raise ModelInUse(f"{model.manifest.label} has {count} sessions in memory: end them first")
        if model.is_in_use:
            raise ModelInUse(f"{model.manifest.label}: a session is being opened on it")
        for stream in self._streams.values():
            stream.handles.forget(self.registry.table_of(model))
        self.registry.forget_table(model)
        self.pool.unload(model)

    def drain(self) -> None:
        """Take nothing new; what was sent is answered."""
        self._stopping = True
        for stream in self._streams.values():
            stream.tell(NoticeReason.DRAINING, [], [], "the server is stopping")

    def check_running(self) -> None:
        """Raise ServerStopping once the server drains."""
        if self._stopping:
            raise ServerStopping("the server is stopping")

    def is_idle(self) -> bool:
        """Whether nothing waits or runs."""
        return not any(table.model.engine.is_busy for table in self.registry.tables())

    def check_integrity(self) -> None:
        """Raise AssertionError if the books do not add up."""
        for table in self.registry.tables():
            table.check_integrity()
        assert len(self.registry) == sum(t.num_sessions for t in self.registry.tables())

    def _read(self, table: SessionTable, request: FrameRequest) -> list[Array]:
        manifest = table.model.manifest
        if request.outputs is not OutputSelection.NONE:
            check_answers(manifest, len(request.handles), self.limits)
        return decode_inputs(manifest, request)

    def _queue(
        self,
        stream: SessionStream,
        request: FrameRequest,
        table: SessionTable,
        slots: SlotArray,
        rows: IntArray | None,
        inputs: list[Array],
        refusals: Refusals,
    ) -> None:
        """Hand rows to the engine; `rows` are their positions in the frame, None for all of them."""
        where = index_of(slots)
        table.accepted[where] += request.num_steps
        table.last_used_s[where] = request.arrived_s
        limit = request.time_limit_s
        frame = EngineFrame(
            slots,
            request.first_steps if rows is None else request.first_steps[rows],
            inputs,
            outputs=request.outputs,
            source=stream.source,
            arrived_s=request.arrived_s,
            deadline_s=None if limit is None else request.arrived_s + limit,
            on_part=Delivery(request, table, slots, rows, refusals, stream.send),
        )
        table.model.engine.submit(frame)


def _stream_lost(expected: int) -> TidegateError:
    return Displaced(f"the stream was lost before step {expected}", next_step=expected)
