"""One `SessionService.Stream` call: a task that writes, a task that reads, and who waits for what.

Any number of sessions share a stream. A stream ends once, with one reason, and everybody who has
sessions on it is told at that moment; a new stream is a new object.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Protocol, TypeVar

import grpc
import grpc.aio
import numpy as np

from tidegate.client.errors import StreamLost, from_message, from_notice, from_rpc_error
from tidegate.client.handles import HandleMap
from tidegate.client.lane import Lane
from tidegate.client.outbox import Outbox
from tidegate.errors import DeadlineExpired, InternalError, TidegateError
from tidegate.tensor import IntArray
from tidegate.v1 import stream_pb2 as pb

if TYPE_CHECKING:
    # The generated stubs have these names for type checkers alone.
    from tidegate.v1.session_pb2_grpc import SessionServiceAsyncStub

END_TIMEOUT_S = 2.0
"""Longest wait for the server to end a stream that the client has finished with."""

T = TypeVar("T")

StreamCall = grpc.aio.StreamStreamCall[pb.StreamRequest, pb.StreamResponse]


class Holder(Protocol):
    """Whoever has sessions on the stream, and is told what happens to them."""

    def sessions_lost(self, errors: dict[int, TidegateError]) -> None:
        """These sessions, by row, are not to be had any more."""

    def durable(self, rows: IntArray, steps: IntArray) -> None:
        """The steps of these rows before these numbers need not be sent again."""

    def stream_broke(self) -> None:
        """The stream is gone, and with it every handle."""


class SessionStream:
    """A stream to one server; `failure` is set, for good, when it has ended.

    Attributes:
        failure: Why it ended; None while it lives.
        has_answered: Whether the server has answered a frame.
        max_open_sessions: Most sessions in one open or close.
        max_ack_rows: Most handles in one acknowledgement.
    """

    def __init__(self, stub: SessionServiceAsyncStub, address: str) -> None:
        self.failure: TidegateError | None = None
        self.has_answered = False
        self.max_open_sessions = 1
        self.max_ack_rows = 1
        self._address = address
        self._outbox = Outbox()
        self._wake_writer = asyncio.Event()
        self._has_ended = asyncio.Event()
        self._clock = asyncio.get_running_loop().time
        self._ids = count(1)
        self._opens: dict[int, tuple[asyncio.Future[None], Callable[[pb.Opened], None]]] = {}
        self._closes: dict[int, asyncio.Future[pb.Closed]] = {}
        self._holders: HandleMap[Holder] = HandleMap()
        self._rpc: StreamCall = stub.Stream()
        self._reader = asyncio.create_task(self._read(), name="tidegate stream reader")
        self._writer = asyncio.create_task(self._write(), name="tidegate stream writer")

    async def ended(self) -> TidegateError:
        """Wait for the end; its reason."""
        await self._has_ended.wait()
        assert self.failure is not None
        return self.failure

    async def open(
        self, request: pb.Open, holder: Holder, rows: IntArray, on_opened: Callable[[pb.Opened], None]
    ) -> None:
        """Attach sessions.

        Args:
            request: Everything but `open_id`.
            holder: Is told of these sessions from now on.
            rows: What its sessions are to the holder, shape (n,).
            on_opened: Called with the answer before anything that follows it is read.

        Raises:
            TidegateError: The message was refused as a whole, or the stream has ended.
        """
        self._check_usable()

        def enter(opened: pb.Opened) -> None:
            handles = np.array(opened.handles, np.int64)
            given = handles != 0
            self._holders.add(holder, handles[given], rows[given])
            on_opened(opened)

        request.open_id = next(self._ids)
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._opens[request.open_id] = (answer, enter)
        self._put(pb.StreamRequest(open=request))
        await answer

    async def close(self, handles: IntArray, mode: pb.CloseMode.ValueType) -> pb.Closed:
        """Give handles back.

        Raises:
            TidegateError: The message was refused as a whole, or the stream has ended.
        """
        self._check_usable()
        close_id = next(self._ids)
        answer: asyncio.Future[pb.Closed] = asyncio.get_running_loop().create_future()
        self._closes[close_id] = answer
        self._put(pb.StreamRequest(close=pb.Close(close_id=close_id, mode=mode, handles=handles.tolist())))
        closed = await answer
        self._holders.discard(handles)
        return closed

    def give_back(self, handles: IntArray) -> None:
        """Detach sessions without waiting for the answer."""
        self._holders.discard(handles)
        # An unknown close_id is ignored when it comes.
        close = pb.Close(close_id=next(self._ids), mode=pb.CLOSE_MODE_DETACH, handles=handles.tolist())
        self._put(pb.StreamRequest(close=close))

    def acknowledge(self, handles: IntArray, steps: IntArray) -> None:
        """Tell what the application has kept, now."""
        for start in range(0, len(handles), self.max_ack_rows):
            end = start + self.max_ack_rows
            ack = pb.Ack(handles=handles[start:end].tolist(), steps=steps[start:end].tolist())
            self._put(pb.StreamRequest(ack=ack))

    def put_lane(self, lane: Lane) -> None:
        """A lane has something to send."""
        self._outbox.put_lane(lane)
        self._wake_writer.set()

    async def aclose(self) -> None:
        """End the stream; the server detaches what it still holds."""
        had_ended = self.failure is not None
        self._fail(StreamLost("the client was closed", address=self._address, grpc_code="CANCELLED"))
        if not had_ended:
            await asyncio.wait([self._reader], timeout=END_TIMEOUT_S)
        self._rpc.cancel()
        for task in (self._reader, self._writer):
            task.cancel()
        await asyncio.gather(self._reader, self._writer, return_exceptions=True)

    def _check_usable(self) -> None:
        if self.failure is not None:
            raise self.failure

    def _put(self, request: pb.StreamRequest) -> None:
        self._outbox.put_control(request)
        self._wake_writer.set()

    async def _write(self) -> None:
        # The reader learns of a broken call too, and tells everyone. Cancelling a write would cancel
        # the call, so the writer goes by itself once the stream has ended.
        try:
            with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await self._write_all()
        except Exception as error:
            self._fail(InternalError(f"the client's writer stopped: {error!r}"))
            raise

    async def _write_all(self) -> None:
        while self.failure is None:
            message = self._outbox.next_message(self._clock())
            if message is None:
                self._wake_writer.clear()
                await self._wake_writer.wait()
            else:
                await self._rpc.write(message)
        await self._rpc.done_writing()

    async def _read(self) -> None:
        try:
            while isinstance(message := await self._rpc.read(), pb.StreamResponse):
                if self.failure is None:
                    self._dispatch(message)
            self._fail(self._lost("OK", "the server ended the stream"))
        except grpc.aio.AioRpcError as error:
            failure = from_rpc_error(error, self._address)
            # The client gives a stream no deadline: this one is a proxy's.
            is_proxys = type(failure) is DeadlineExpired
            self._fail(self._lost("DEADLINE_EXCEEDED", str(failure)) if is_proxys else failure)
        except TidegateError as error:
            self._fail(error)
        finally:
            self._fail(InternalError("the client's reader stopped"))
            self._rpc.cancel()

    def _lost(self, grpc_code: str, text: str) -> StreamLost:
        return StreamLost(f"{self._address}: {text}", address=self._address, grpc_code=grpc_code)

    def _dispatch(self, message: pb.StreamResponse) -> None:
        match message.WhichOneof("message"):
            case "result":
                self.has_answered = True
                self._outbox.take_result(message.result)
                self._on_durable(message.result.durable)
                self._wake_writer.set()
            case "durable":
                self._on_durable(message.durable)
            case "opened":
                self._on_opened(message.opened)
            case "closed":
                _resolve(self._closes.pop(message.closed.close_id, None), message.closed)
            case "notice":
                self._on_notice(message.notice)
            case "error":
                self._on_error(message.error)
            case None:
                pass  # A kind of message that this release does not know.

    def _on_opened(self, opened: pb.Opened) -> None:
        answer, enter = self._opens.pop(opened.open_id, (None, None))
        if answer is None or enter is None:
            return
        self._outbox.set_limits(opened.limits)
        self.max_open_sessions = max(1, opened.limits.max_open_sessions)
        self.max_ack_rows = max(1, opened.limits.max_frame_rows)
        if answer.cancelled():
            self.give_back(np.array([handle for handle in opened.handles if handle], np.int64))
            return
        enter(opened)
        _resolve(answer, None)

    def _on_durable(self, durable: pb.Durable) -> None:
        if not durable.handles:
            return
        steps = np.array(durable.steps, np.int64)
        for share in self._holders.split(durable.handles):
            share.owner.durable(share.rows, steps[share.positions])

    def _on_notice(self, notice: pb.Notice) -> None:
        if notice.reason == pb.NOTICE_REASON_DRAINING:
            # What was sent is answered, then the stream ends; what is not sent yet goes to the next server.
            self._outbox.is_paused = True
            return
        shares = list(self._holders.split(notice.handles) if notice.handles else self._holders.all())
        next_steps = notice.next_steps
        for share in shares:
            pairs = zip(share.rows.tolist(), share.positions.tolist(), strict=True)
            share.owner.sessions_lost(
                {row: from_notice(notice, next_steps[p] if p < len(next_steps) else 0) for row, p in pairs}
            )

    def _on_error(self, message: pb.StreamError) -> None:
        error = from_message(message.error)
        match message.WhichOneof("subject"):
            case "frame_id":
                self._outbox.refuse_frame(message.frame_id, error)
                self._wake_writer.set()
            case "open_id":
                _reject(self._opens.pop(message.open_id, (None, None))[0], error)
            case "close_id":
                _reject(self._closes.pop(message.close_id, None), error)
            case "ack":
                pass  # A session was lost meanwhile, which its holder is told otherwise.
            case _:
                raise error

    def _fail(self, error: TidegateError) -> None:
        if self.failure is not None:
            return
        self.failure = error
        self._wake_writer.set()
        self._has_ended.set()
        for share in self._holders.all():
            share.owner.stream_broke()
        for answer, _ in self._opens.values():
            _reject(answer, error)
        for closed in self._closes.values():
            _reject(closed, error)
        self._opens.clear()
        self._closes.clear()


def _resolve(answer: asyncio.Future[T] | None, value: T) -> None:
    if answer is not None and not answer.done():
        answer.set_result(value)


def _reject(answer: asyncio.Future[T] | None, error: TidegateError) -> None:
    if answer is not None and not answer.done():
        answer.set_exception(error)
