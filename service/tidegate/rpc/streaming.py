"""`SessionService.Stream`: one client's connection, from bytes to frames and back.

The engines work between reading and sending, so frames overlap; `flow` bounds both directions.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from typing import Any

from grpc import aio

from tidegate.errors import InvalidRequest, TidegateError
from tidegate.rpc import convert
from tidegate.rpc.flow import Flow
from tidegate.rpc.status import as_public, to_error
from tidegate.session.frames import Answer
from tidegate.session.handles import HandleArray
from tidegate.session.manager import SessionManager
from tidegate.session.stream import Notice
from tidegate.telemetry.metrics import Metrics
from tidegate.tensor import IntArray
from tidegate.v1 import stream_pb2

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
        self._flow = Flow(
            context,
            stream_pb2.StreamRequest,
            self._handle,
            source=self._stream.source,
            wake=self._wake,
            budget=manager.budget,
            max_in_flight=manager.limits.max_frames_in_flight,
        )

    async def run(self) -> None:
        """Serve until the client is done, is lost or breaks the protocol, or the server drains.

        Raises:
            InvalidRequest: The client broke the protocol.
            ServerStopping: All that was sent is answered, and the server drains.
        """
        try:
            await self._flow.run()
        finally:
            self._manager.remove_stream(self._stream)

    def drain(self) -> None:
        """Read nothing more; end when everything is answered."""
        self._flow.drain()

    def _wake(self) -> None:
        for table in self._stream.handles.tables.values():
            table.model.engine.wake()

    def _handle(self, request: stream_pb2.StreamRequest) -> None:
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
            if completes:
                self._flow.complete()

    def _begin(self, work: Coroutine[Any, Any, None], subject: stream_pb2.StreamError) -> None:
        """Do what may take a while beside the frames."""
        self._flow.begin(self._guard(work, subject))

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
            self._flow.send(stream_pb2.StreamResponse(opened=reply), reply.ByteSize(), completes=True)
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
        self._flow.send(stream_pb2.StreamResponse(closed=reply), reply.ByteSize(), completes=True)

    def _send_answer(self, answer: Answer) -> None:
        """Take an answer from the engine; after the stream's end only its books are kept."""
        self._manager.budget.give_back(answer.request_bytes)
        if self._flow.closed:
            return
        self._count_errors(answer.errors.values())
        response = stream_pb2.StreamResponse()
        convert.fill_result(response.result, answer)
        num_bytes = response.ByteSize() if answer.errors else answer.num_bytes
        self._flow.send(response, num_bytes, completes=answer.complete)

    def _send_notice(self, notice: Notice) -> None:
        self._flow.send(stream_pb2.StreamResponse(notice=convert.notice_message(notice)), completes=False)

    def _send_durable(self, handles: HandleArray, steps: IntArray) -> None:
        durable = convert.durable_message(handles, steps)
        self._flow.send(stream_pb2.StreamResponse(durable=durable), completes=False)

    def _refuse(self, subject: stream_pb2.StreamError, error: Exception, *, completes: bool = True) -> None:
        """Tell the client of a message that was refused as a whole."""
        public = as_public(error)
        self._count_errors([public])
        subject.error.CopyFrom(to_error(public))
        self._flow.send(stream_pb2.StreamResponse(error=subject), completes=completes)

    def _count_errors(self, errors: Iterable[TidegateError]) -> None:
        for error in errors:
            self._metrics.errors.labels(error.code, error.reason).inc()
