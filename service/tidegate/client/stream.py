"""One `SessionService.Stream` call: a task that writes, a task that reads, and who waits for what.

Any number of sessions share a stream. A stream ends once, with one reason, and everything that waits
on it learns that reason; a new stream is a new object.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Protocol, TypeVar

import grpc
import grpc.aio

from tidegate.client.errors import StreamLost, from_message, from_rpc_error
from tidegate.client.outbox import Outbox, PendingCall
from tidegate.errors import (
    Displaced,
    InternalError,
    ServerStopping,
    SessionLost,
    SessionNotFound,
    TidegateError,
)
from tidegate.v1 import stream_pb2 as pb

if TYPE_CHECKING:
    # The generated stubs have these names for type checkers alone.
    from tidegate.v1.session_pb2_grpc import SessionServiceAsyncStub

END_TIMEOUT_S = 2.0
"""Longest wait for the server to end a stream that the client has finished with."""

T = TypeVar("T")

StreamCall = grpc.aio.StreamStreamCall[pb.StreamRequest, pb.StreamResponse]


class Holder(Protocol):
    """Whoever opened sessions on the stream, and is told what happens to them."""

    def session_lost(self, handle: int, error: TidegateError) -> None:
        """The stream does not hold this session any more."""

    def durable(self, handles: Sequence[int], steps: Sequence[int]) -> None:
        """Steps below these numbers are safe in the server's store."""


class SessionStream:
    """A stream to one server; `failure` is set, for good, when it has ended."""

    def __init__(self, stub: SessionServiceAsyncStub, address: str) -> None:
        self.failure: TidegateError | None = None
        self._address = address
        self._outbox = Outbox()
        self._wake_writer = asyncio.Event()
        self._ids = count(1)
        self._opens: dict[int, tuple[asyncio.Future[None], Holder, Callable[[pb.Opened], None]]] = {}
        self._closes: dict[int, asyncio.Future[pb.Closed]] = {}
        self._holders: dict[int, Holder] = {}
        self._draining: TidegateError | None = None
        self.max_open_sessions = 1
        self._rpc: StreamCall = stub.Stream()
        self._reader = asyncio.create_task(self._read(), name="tidegate stream reader")
        self._writer = asyncio.create_task(self._write(), name="tidegate stream writer")

    async def open(self, request: pb.Open, holder: Holder, on_opened: Callable[[pb.Opened], None]) -> None:
        """Attach sessions.

        Args:
            request: Everything but `open_id`.
            holder: Is told of these sessions from now on.
            on_opened: Called with the answer before anything that follows it is read.

        Raises:
            TidegateError: The message was refused as a whole, or the stream has ended.
        """
        self._check_usable()
        request.open_id = next(self._ids)
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._opens[request.open_id] = (answer, holder, on_opened)
        self._put(pb.StreamRequest(open=request))
        await answer

    async def close(self, handles: Sequence[int], mode: pb.CloseMode.ValueType) -> pb.Closed:
        """Give handles back.

        Raises:
            TidegateError: The message was refused as a whole, or the stream has ended.
        """
        if self.failure is not None:
            raise self.failure
        close_id = next(self._ids)
        answer: asyncio.Future[pb.Closed] = asyncio.get_running_loop().create_future()
        self._closes[close_id] = answer
        self._put(pb.StreamRequest(close=pb.Close(close_id=close_id, mode=mode, handles=handles)))
        closed = await answer
        for handle in handles:
            self._holders.pop(handle, None)
        return closed

    def submit(self, call: PendingCall) -> None:
        """Queue a call; its `done` tells when it is over.

        Raises:
            TidegateError: The stream has ended, or the server is stopping.
        """
        self._check_usable()
        self._outbox.put_call(call)
        self._wake_writer.set()

    async def aclose(self) -> None:
        """End the stream; the server detaches what it still holds."""
        self._fail(StreamLost("the client was closed", address=self._address, grpc_code="CANCELLED"))
        await asyncio.wait([self._reader], timeout=END_TIMEOUT_S)
        self._rpc.cancel()
        for task in (self._reader, self._writer):
            task.cancel()
        await asyncio.gather(self._reader, self._writer, return_exceptions=True)

    def _check_usable(self) -> None:
        error = self.failure or self._draining
        if error is not None:
            raise error

    def _put(self, request: pb.StreamRequest) -> None:
        self._outbox.put_control(request)
        self._wake_writer.set()

    async def _write(self) -> None:
        # The reader learns of a broken call too, and tells everyone. Cancelling a write would cancel
        # the call, so the writer goes by itself once the stream has ended.
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            while self.failure is None:
                message = self._outbox.next_message()
                if message is None:
                    self._wake_writer.clear()
                    await self._wake_writer.wait()
                else:
                    await self._rpc.write(message)
            await self._rpc.done_writing()

    async def _read(self) -> None:
        try:
            while isinstance(message := await self._rpc.read(), pb.StreamResponse):
                self._dispatch(message)
            self._fail(self._ended())
        except grpc.aio.AioRpcError as error:
            self._fail(from_rpc_error(error, self._address))
        except TidegateError as error:
            self._fail(error)
        finally:
            self._fail(InternalError("the client's reader stopped"))
            self._rpc.cancel()

    def _ended(self) -> TidegateError:
        return StreamLost(
            f"{self._address}: the server ended the stream", address=self._address, grpc_code="OK"
        )

    def _dispatch(self, message: pb.StreamResponse) -> None:
        match message.WhichOneof("message"):
            case "result":
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
        answer, holder, on_opened = self._opens.pop(opened.open_id)
        self._outbox.set_limits(opened.limits)
        self.max_open_sessions = max(1, opened.limits.max_open_sessions)
        self._holders.update(dict.fromkeys(opened.handles, holder))
        on_opened(opened)
        if answer.cancelled():
            self._give_back([handle for handle in opened.handles if handle])
        _resolve(answer, None)

    def _give_back(self, handles: Sequence[int]) -> None:
        # Nobody waits for the answer; an unknown close_id is ignored when it comes.
        close = pb.Close(close_id=next(self._ids), mode=pb.CLOSE_MODE_DETACH, handles=handles)
        self._put(pb.StreamRequest(close=close))

    def _on_durable(self, durable: pb.Durable) -> None:
        by_holder: dict[int, tuple[Holder, list[int], list[int]]] = {}
        for handle, step in zip(durable.handles, durable.steps, strict=True):
            holder = self._holders.get(handle)
            if holder is not None:
                _, handles, steps = by_holder.setdefault(id(holder), (holder, [], []))
                handles.append(handle)
                steps.append(step)
        for holder, handles, steps in by_holder.values():
            holder.durable(handles, steps)

    def _on_notice(self, notice: pb.Notice) -> None:
        if notice.reason == pb.NOTICE_REASON_DRAINING:
            self._draining = ServerStopping(f"{self._address}: {notice.message or 'the server is stopping'}")
            return
        handles = notice.handles or list(self._holders)
        next_steps = notice.next_steps or [0] * len(handles)
        for handle, next_step in zip(handles, next_steps, strict=True):
            holder = self._holders.pop(handle, None)
            if holder is not None:
                holder.session_lost(handle, _notice_error(notice, next_step))

    def _on_error(self, message: pb.StreamError) -> None:
        error = from_message(message.error)
        match message.WhichOneof("subject"):
            case "frame_id":
                self._outbox.refuse_frame(message.frame_id, error)
                self._wake_writer.set()
            case "open_id":
                _reject(self._opens.pop(message.open_id)[0], error)
            case "close_id":
                _reject(self._closes.pop(message.close_id, None), error)
            case _:
                raise error

    def _fail(self, error: TidegateError) -> None:
        if self.failure is not None:
            return
        self.failure = error
        self._wake_writer.set()
        self._outbox.fail(error)
        for answer, _, _ in self._opens.values():
            _reject(answer, error)
        for closed in self._closes.values():
            _reject(closed, error)
        self._opens.clear()
        self._closes.clear()


def _notice_error(notice: pb.Notice, next_step: int) -> TidegateError:
    match notice.reason:
        case pb.NOTICE_REASON_DISPLACED:
            return Displaced(notice.message or "another stream resumed the session", next_step=next_step)
        case pb.NOTICE_REASON_ENDED:
            return SessionNotFound(notice.message or "the session was ended by a call on its id")
        case _:
            return SessionLost(notice.message or "the session's state was given up", next_step=next_step)


def _resolve(answer: asyncio.Future[T] | None, value: T) -> None:
    if answer is not None and not answer.done():
        answer.set_result(value)


def _reject(answer: asyncio.Future[T] | None, error: TidegateError) -> None:
    if answer is not None and not answer.done():
        answer.set_exception(error)
