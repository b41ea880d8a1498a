"""`SessionService.Stream`: one client's connection, from bytes to frames and back.

A reader takes messages, the outbox sends what has been answered; the engines work in between, so frames
overlap. Both directions are bounded: a message is in flight until the last answer to it has been handed
to gRPC, and past `max_frames_in_flight` of them the reader stops, and HTTP/2's flow control stops the
client; while much lies unsent, nothing of this stream runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

from grpc import aio

from tidegate.errors import InvalidRequest, ServerStopping, TidegateError
from tidegate.rpc import convert
from tidegate.rpc.outbox import Outbox, Unsent
from tidegate.rpc.status import as_public, to_error
from tidegate.session.frames import Answer
from tidegate.session.handles import HandleArray
from tidegate.session.manager import SessionManager
from tidegate.session.stream import Notice
from tidegate.telemetry.metrics import Metrics
from tidegate.tensor import IntArray
from tidegate.v1 import stream_pb2

PAUSE_BYTES = 4 * 1024 * 1024
"""Unsent messages of one stream past which its frames wait."""

CONGESTED_BYTES = 64 * 1024
"""Unsent answers of one stream past which its histories wait. A single step's answer queues behind them:
without this, a client that reads its history slowly waits longer and longer for every single step."""

MESSAGE_BYTES = 4096
"""What a message counts for beside its answers. A history that asks for no answers sends empty messages,
and those too take their time: 16 of them make a stream congested."""

OPEN_SESSION_BYTES = 1024
"""What a session of an open counts for until it is answered: its refusal, and that in the answer. An id
of no length is two bytes on the wire, and many opens may be at work at a time."""


Context = aio.ServicerContext[stream_pb2.StreamRequest, stream_pb2.StreamResponse]


class Connection:
    """One stream, for as long as it lives."""

    def __init__(self, manager: SessionManager, metrics: Metrics, context: Context) -> None:
        """Attach to the sessions.

        Raises:
            TooManyRequests: Too many streams are open.
            ServerStopping: The server drains.
        """
        self._manager = manager
        self._metrics = metrics
        self._context = context
        self._stream = manager.add_stream(self._send_answer, self._send_notice, self._send_durable)
        self._outbox = Outbox(context.write, self._written)
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._in_flight = 0
        self._unsent_bytes = 0
        self._closed = False
        self._draining = False
        self._reader: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve until the client is done, is lost or breaks the protocol, or the server drains.

        Raises:
            InvalidRequest: The client broke the protocol.
            ServerStopping: All that was sent is answered, and the server drains.
        """
        self._reader = asyncio.create_task(self._read_all())
        try:
            ends: set[asyncio.Future[None]] = {self._reader, self._outbox.lost}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if self._reader.done() and not self._reader.cancelled():
                self._reader.result()
            await self._finish()
        finally:
            self._close()
        if self._draining:
            raise ServerStopping("the server is stopping")

    def drain(self) -> None:
        """Read nothing more; end when everything is answered."""
        self._draining = True
        if self._reader is not None:
            self._reader.cancel()

    async def _finish(self) -> None:
        """Answer what is still in flight, and send what is unsent."""
        lost = self._outbox.lost
        while not lost.done() and (self._in_flight or not self._outbox.is_idle):
            self._has_room.clear()
            room = asyncio.create_task(self._has_room.wait())
            try:
                changes: set[asyncio.Future[Any]] = {room, lost}
                await asyncio.wait(changes, return_when=asyncio.FIRST_COMPLETED)
            finally:  # a client may be lost here too
                room.cancel()
        if lost.done():
            lost.result()

    def _close(self) -> None:
        self._closed = True
        for task in (self._reader, *self._tasks):
            if task is not None:
                task.cancel()
        self._outbox.close()
        self._manager.budget.give_back(self._unsent_bytes)
        self._unsent_bytes = 0
        self._manager.remove_stream(self._stream)

    async def _read_all(self) -> None:
        while True:
            while self._is_full():
                self._has_room.clear()
                await self._has_room.wait()
            request = await self._context.read()
            if not isinstance(request, stream_pb2.StreamRequest):
                return
            self._handle(request)

    def _is_full(self) -> bool:
        return self._in_flight >= self._manager.limits.max_frames_in_flight or self._stream.source.paused

    def _handle(self, request: stream_pb2.StreamRequest) -> None:
        self._in_flight += 1
        kind = request.WhichOneof("message")
        if kind == "frame":
            self._take_frame(request.frame)
        elif kind == "open":
            self._begin(self._open(request.open), stream_pb2.StreamError(open_id=request.open.open_id))
        elif kind == "close":
            closing = request.close
            self._begin(self._close_handles(closing), stream_pb2.StreamError(close_id=closing.close_id))
        elif kind == "ack":
            self._take_ack(request.ack, completes=True)
        else:
            raise InvalidRequest("message: expected open, frame, ack or close, got none of them")

    def _take_frame(self, frame: stream_pb2.Frame) -> None:
        try:
            if frame.HasField("ack"):
                self._take_ack(frame.ack)
            request = convert.frame_request(frame, convert.now_s())
            num_bytes = request.num_bytes
            self._manager.budget.take(num_bytes)
            try:
                self._manager.submit(self._stream, request)
            except BaseException:
                self._manager.budget.give_back(num_bytes)
                raise
        except Exception as error:
            self._refuse(stream_pb2.StreamError(frame_id=frame.frame_id), error)

    def _take_ack(self, ack: stream_pb2.Ack, *, completes: bool = False) -> None:
        """Take an acknowledgement, in a frame or as a message; only a refused one is answered."""
        try:
            self._manager.ack(
                self._stream, convert.handle_array(ack.handles), convert.step_array("ack.steps", ack.steps)
            )
        except Exception as error:
            self._refuse(stream_pb2.StreamError(ack=True), error, completes=completes)
        else:
            self._in_flight -= completes

    def _begin(self, work: Coroutine[Any, Any, None], subject: stream_pb2.StreamError) -> None:
        """Do what may take a while beside the frames."""
        task = asyncio.create_task(self._guard(work, subject))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guard(self, work: Coroutine[Any, Any, None], subject: stream_pb2.StreamError) -> None:
        try:
            await work
        except Exception as error:
            self._refuse(subject, error)

    async def _open(self, message: stream_pb2.Open) -> None:
        num_bytes = message.ByteSize() + OPEN_SESSION_BYTES * len(message.session_ids)
        self._manager.budget.take(num_bytes)
        try:
            result = await self._manager.open(self._stream, convert.open_request(message))
            self._count_errors(result.errors.values())
            reply = convert.opened(
                message.open_id, result, self._manager.limits, durable=self._manager.keeper.is_durable
            )
            self._send(stream_pb2.StreamResponse(opened=reply), reply.ByteSize(), completes=True)
        finally:
            self._manager.budget.give_back(num_bytes)

    async def _close_handles(self, message: stream_pb2.Close) -> None:
        if message.mode not in (stream_pb2.CLOSE_MODE_DETACH, stream_pb2.CLOSE_MODE_END):
            raise InvalidRequest(f"mode: expected DETACH or END, got {message.mode}")
        end = message.mode == stream_pb2.CLOSE_MODE_END
        next_steps, errors = await self._manager.close(
            self._stream, convert.handle_array(message.handles), end=end
        )
        self._count_errors(errors.values())
        reply = stream_pb2.Closed(
            close_id=message.close_id,
            next_steps=next_steps,
            errors=[convert.indexed_error(i, e) for i, e in errors.items()],
        )
        self._send(stream_pb2.StreamResponse(closed=reply), reply.ByteSize(), completes=True)

    def _send_answer(self, answer: Answer) -> None:
        """Take an answer from the engine; after the stream's end only its books are kept."""
        self._manager.budget.give_back(answer.request_bytes)
        if self._closed:
            return
        self._count_errors(answer.errors.values())
        response = stream_pb2.StreamResponse()
        convert.fill_result(response.result, answer)
        num_bytes = response.ByteSize() if answer.errors else answer.num_bytes
        self._send(response, num_bytes, completes=answer.complete)

    def _send_notice(self, notice: Notice) -> None:
        self._send(stream_pb2.StreamResponse(notice=convert.notice_message(notice)), completes=False)

    def _send_durable(self, handles: HandleArray, steps: IntArray) -> None:
        durable = convert.durable_message(handles, steps)
        self._send(stream_pb2.StreamResponse(durable=durable), completes=False)

    def _refuse(self, subject: stream_pb2.StreamError, error: Exception, *, completes: bool = True) -> None:
        """Tell the client of a message that was refused as a whole."""
        public = as_public(error)
        self._count_errors([public])
        subject.error.CopyFrom(to_error(public))
        self._send(stream_pb2.StreamResponse(error=subject), completes=completes)

    def _send(self, response: stream_pb2.StreamResponse, num_bytes: int = 0, *, completes: bool) -> None:
        """Send a message; `completes` if it is the last answer to one of the client's."""
        if self._closed:
            return
        self._manager.budget.add(num_bytes)
        self._unsent_bytes += num_bytes
        self._outbox.put(Unsent(response, num_bytes, completes))
        self._regulate()

    def _written(self, unsent: Unsent) -> None:
        self._manager.budget.give_back(unsent.num_bytes)
        self._unsent_bytes -= unsent.num_bytes
        self._in_flight -= unsent.completes
        self._has_room.set()
        self._regulate()

    def _regulate(self) -> None:
        """Hold frames back by how much lies unsent; what is held back goes on at half of that."""
        source = self._stream.source
        before = (source.congested, source.paused)
        queued_bytes = self._unsent_bytes + MESSAGE_BYTES * len(self._outbox)
        source.congested = queued_bytes > CONGESTED_BYTES // (2 if source.congested else 1)
        source.paused = queued_bytes > PAUSE_BYTES // (2 if source.paused else 1)
        if (source.congested, source.paused) < before:
            for table in self._stream.handles.tables.values():
                table.model.engine.wake()

    def _count_errors(self, errors: Iterable[TidegateError]) -> None:
        for error in errors:
            self._metrics.errors.labels(error.code, error.reason).inc()
