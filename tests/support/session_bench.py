"""A session manager on a real pool, and clients that keep the books a connection keeps."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import numpy as np

from tidegate.engine.pool import ModelPool, PoolOptions
from tidegate.errors import TidegateError
from tidegate.protocol.lifecycle import Condition
from tidegate.protocol.outputs import OutputSelection
from tidegate.protocol.resume import NO_EPOCH
from tidegate.repository.repository import Repository
from tidegate.runner.runner import RunnerOptions
from tidegate.session.frames import Answer, FrameRequest, Refusals
from tidegate.session.handles import HandleArray
from tidegate.session.limits import SessionLimits
from tidegate.session.manager import SessionManager
from tidegate.session.open_request import OpenMode, OpenRequest, OpenResult
from tidegate.session.stores.opening import open_store
from tidegate.session.stream import Notice
from tidegate.telemetry.metrics import Metrics
from tidegate.tensor import Array, IntArray

LIMITS = SessionLimits(
    max_frame_rows=8,
    max_frame_steps=64,
    max_message_bytes=1 << 20,
    max_frames_in_flight=16,
    max_open_sessions=12,
    max_pending_bytes=4096,
    max_streams=3,
    detached_idle_timeout_s=100.0,
    expire_after_s=1000.0,
    checkpoint_age_s=5.0,
    checkpoint_bytes_per_s=1 << 30,
    retry_after_s=2.5,
)
MAX_SESSIONS = 6
MAX_STORED = 20


class SessionBench:
    """Everything below the wire."""

    def __init__(self, repository: Path, *, max_slice_steps: int = 4, store: str = "memory:") -> None:
        self.metrics = Metrics()
        runner = RunnerOptions(max_batch_size=4, max_slice_steps=max_slice_steps, max_sessions=MAX_SESSIONS)
        options = PoolOptions(runner=runner, max_queue_delay_us=0)
        self.pool = ModelPool(Repository(repository), options, self.metrics)
        opened = open_store(store, full_sync=False, max_stored_sessions=MAX_STORED, max_tombstones=4)
        self.manager = SessionManager(self.pool, opened, LIMITS, self.metrics)

    async def condition(self, session_id: str) -> Condition:
        """Where a session is in its life."""
        finder = self.manager.finder
        return finder.condition((await finder.find([session_id])).get(session_id))

    def client(self, instance: bytes = b"") -> StreamClient:
        return StreamClient(self, instance)

    @property
    def pending_bytes(self) -> float:
        value = self.metrics.registry.get_sample_value("tidegate_pending_bytes")
        assert value is not None
        return value

    def close(self) -> None:
        """Hold the books once more, and stop."""
        self.manager.check_integrity()
        assert self.pending_bytes == 0, "bytes were not given back"
        self.pool.close()
        self.manager.keeper.close()


class Sent:
    """What came back for one frame, put together."""

    def __init__(self, num_rows: int) -> None:
        self.answers: list[Answer] = []
        self.done = asyncio.Event()
        self._num_rows = num_rows

    def take(self, answer: Answer) -> None:
        assert not self.done.is_set(), "an answer came after the last one"
        self.answers.append(answer)
        if answer.complete:
            self.done.set()

    @property
    def errors(self) -> Refusals:
        return {row: e for answer in self.answers for row, e in answer.errors.items()}

    def row(self, row: int) -> Array:
        """First output of one row, in order of its steps."""
        pieces = []
        for answer in self.answers:
            rows = list(range(self._num_rows)) if answer.rows is None else answer.rows.tolist()
            if answer.outputs and row in rows:
                pieces.append(answer.outputs[0][rows.index(row)])
        return np.concatenate(pieces)


class StreamClient:
    """One stream of a client instance."""

    def __init__(self, bench: SessionBench, instance: bytes) -> None:
        self._bench = bench
        self._instance = instance
        self._sent: dict[int, Sent] = {}
        self.notices: list[Notice] = []
        self.durable: dict[int, int] = {}
        """Per handle, the steps that the server has said to be stored."""
        self.stream = bench.manager.add_stream(self._take, self.notices.append, self._enter_durable)

    async def open(
        self,
        *session_ids: str,
        mode: OpenMode = OpenMode.CREATE,
        model: str = "counter",
        have: list[int | None] | None = None,
        held_from: list[int | None] | None = None,
        attempt: int = 0,
        version: str = "",
        epochs: list[int] | None = None,
    ) -> OpenResult:
        unset: list[int | None] = [None] * len(session_ids)
        request = OpenRequest(
            model=model,
            version=version,
            sha256="",
            mode=mode,
            session_ids=list(session_ids),
            have=have or unset,
            held_from=held_from or unset,
            epochs=epochs or [NO_EPOCH] * len(session_ids),
            client_instance=self._instance,
            attempt=attempt,
        )
        return await self._bench.manager.open(self.stream, request)

    async def resume(
        self, *session_ids: str, have: list[int | None] | None = None, attempt: int = 0
    ) -> OpenResult:
        return await self.open(*session_ids, mode=OpenMode.RESUME, have=have, attempt=attempt)

    def _enter_durable(self, handles: HandleArray, steps: IntArray) -> None:
        self.durable |= dict(zip(handles.tolist(), steps.tolist(), strict=True))

    def send(
        self,
        handles: list[int],
        first_steps: list[int],
        x: Array,
        *,
        outputs: OutputSelection = OutputSelection.ALL,
        time_limit_s: float | None = None,
    ) -> Sent:
        """Submit a frame as a connection does."""
        request = FrameRequest(
            frame_id=len(self._sent) + 1,
            handles=np.array(handles, np.uint32),
            num_steps=x.shape[1],
            first_steps=np.array(first_steps, np.int64),
            inputs=[x.tobytes()],
            outputs=outputs,
            time_limit_s=time_limit_s,
            arrived_s=time.monotonic(),
        )
        sent = self._sent[request.frame_id] = Sent(len(handles))
        self._bench.manager.budget.take(request.num_bytes)
        try:
            self._bench.manager.submit(self.stream, request)
        except BaseException:
            self._bench.manager.budget.give_back(request.num_bytes)
            raise
        return sent

    async def steps(self, handle: int, first_step: int, values: list[float]) -> list[float]:
        """Step a counter (width 2) and give the first element of each answer."""
        sent = self.send([handle], [first_step], series(values))
        await sent.done.wait()
        for error in sent.errors.values():
            raise error
        return [float(v) for v in sent.row(0)[:, 0]]

    async def close(self, *handles: int, end: bool = False) -> tuple[list[int], Refusals]:
        return await self._bench.manager.close(self.stream, np.array(handles, np.uint32), end=end)

    def leave(self) -> None:
        """The connection is lost."""
        self._bench.manager.remove_stream(self.stream)

    def _take(self, answer: Answer) -> None:
        self._bench.manager.budget.give_back(answer.request_bytes)
        self._sent[answer.frame_id].take(answer)


def series(*rows: list[float]) -> Array:
    """Inputs of a counter: one list of values per row, [n, T, 2]."""
    return np.repeat(np.array(rows, np.float32)[:, :, None], 2, axis=2)


def outcome_of(result: OpenResult) -> type[TidegateError] | int:
    """Of an open of one session: the next step, or the class of the error."""
    if result.errors:
        assert (result.handles, result.models, result.next_steps) == ([0], [None], [0])
        return type(result.errors[0])
    assert result.handles != [0]
    return result.next_steps[0]
