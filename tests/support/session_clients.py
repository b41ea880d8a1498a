"""Clients of the session layer that keep the books a connection keeps."""

from __future__ import annotations

import asyncio
import time

import numpy as np

from tidegate.errors import TidegateError
from tidegate.protocol.outputs import OutputSelection
from tidegate.protocol.resume import NO_EPOCH
from tidegate.session.frames import Answer, FrameRequest, Refusals
from tidegate.session.handles import HandleArray
from tidegate.session.manager import SessionManager
from tidegate.session.open_request import OpenMode, OpenRequest, OpenResult
from tidegate.session.single import SingleCalls
from tidegate.session.stream import Notice
from tidegate.tensor import Array, IntArray


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

    def __init__(self, manager: SessionManager, instance: bytes) -> None:
        self._manager = manager
        self._instance = instance
        self._sent: dict[int, Sent] = {}
        self.notices: list[Notice] = []
        self.durable: dict[int, int] = {}
        """Per handle, the steps that the server has said to be stored."""
        self.stream = manager.add_stream(self._take, self.notices.append, self._enter_durable)

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
        return await self._manager.open(self.stream, request)

    async def resume(
        self,
        *session_ids: str,
        have: list[int | None] | None = None,
        held_from: list[int | None] | None = None,
        attempt: int = 0,
        epochs: list[int] | None = None,
    ) -> OpenResult:
        return await self.open(
            *session_ids,
            mode=OpenMode.RESUME,
            model="",
            have=have,
            held_from=held_from,
            attempt=attempt,
            epochs=epochs,
        )

    def ack(self, handles: list[int], steps: list[int]) -> None:
        """The answers before these steps are kept."""
        self._manager.ack(self.stream, np.array(handles, np.uint32), np.array(steps, np.int64))

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
        self._manager.budget.take(request.num_bytes)
        try:
            self._manager.submit(self.stream, request)
        except BaseException:
            self._manager.budget.give_back(request.num_bytes)
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
        return await self._manager.close(self.stream, np.array(handles, np.uint32), end=end)

    def leave(self) -> None:
        """The connection is lost."""
        self._manager.remove_stream(self.stream)

    def _take(self, answer: Answer) -> None:
        self._manager.budget.give_back(answer.request_bytes)
        self._sent[answer.frame_id].take(answer)


class Caller:
    """Makes single calls on counters as the servicer does."""

    def __init__(self, manager: SessionManager) -> None:
        self.calls = SingleCalls(manager)

    async def step(
        self,
        session_id: str,
        first_step: int,
        values: list[float],
        *,
        mode: OpenMode = OpenMode.RESUME,
        model: str = "counter",
        outputs: OutputSelection = OutputSelection.ALL,
    ) -> tuple[list[float], int]:
        request = OpenRequest(model, "", "", mode, [session_id], [None], [None], [NO_EPOCH], b"", 0)
        answer = await self.calls.step(request, first_step, lambda _: [series(values)], outputs)
        return [float(v) for v in answer.outputs[0][:, 0]] if answer.outputs else [], answer.next_step


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
