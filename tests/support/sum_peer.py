"""A foreign server that speaks the protocol: it sums numbers, and fails in whatever way a test wants.

Its model takes one float32 a step and answers with the sum so far, so an answer tells of every input
before it: one lost, repeated or out of order changes all that follow. It remembers the state at every
step and may resume at any of them. None of the server's own code is in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import numpy as np

from support.peer_parts import MODEL, VERSION, Cut, PeerStream, Resume, refusal
from tidegate.v1 import model_pb2, session_pb2
from tidegate.v1 import stream_pb2 as pb
from tidegate.v1.error_pb2 import Error, IndexedError


class SumPeer:
    """The server; use it as `async with SumPeer() as peer`. Tests override its methods, or set fields.

    Attributes:
        states: The sum before each step, per session id.
        resumes: Every session that was resumed.
        opens: Every open.
        frames: Every frame, with the number of its stream.
        closes: Every close.
        acks: The newest acknowledged step of each session id.
        durable: What is reported as durable after a frame, per session id; nothing by default.
        limits: As `Opened` tells them.
    """

    def __init__(self) -> None:
        self.states: dict[str, list[float]] = {}
        self.epochs: dict[str, int] = {}
        self.resumes: list[Resume] = []
        self.opens: list[pb.Open] = []
        self.frames: list[tuple[int, pb.Frame]] = []
        self.closes: list[pb.Close] = []
        self.acks: dict[str, int] = {}
        self.limits = pb.Limits(
            max_frame_rows=1000,
            max_frame_steps=1000,
            max_message_bytes=1 << 20,
            max_frames_in_flight=8,
            max_open_sessions=1000,
            durable=True,
        )
        self.streams: list[PeerStream] = []
        self.address = ""

    async def __aenter__(self) -> SumPeer:
        self._server = grpc.aio.server()
        service = "tidegate.v1.SessionService"
        stream = grpc.stream_stream_rpc_method_handler(
            self._stream, pb.StreamRequest.FromString, pb.StreamResponse.SerializeToString
        )
        step = grpc.unary_unary_rpc_method_handler(
            self.step_session,
            session_pb2.StepSessionRequest.FromString,
            session_pb2.StepSessionResponse.SerializeToString,
        )
        get = grpc.unary_unary_rpc_method_handler(
            self.get_model,
            model_pb2.GetModelRequest.FromString,
            model_pb2.GetModelResponse.SerializeToString,
        )
        self._server.add_generic_rpc_handlers(
            [
                grpc.method_handlers_generic_handler(service, {"Stream": stream, "StepSession": step}),
                grpc.method_handlers_generic_handler("tidegate.v1.ModelService", {"GetModel": get}),
            ]
        )
        port = self._server.add_insecure_port("127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(None)

    # What a test may replace.

    def resumes_at(self, resume: Resume) -> int | Error:
        """Where a resumed session goes on."""
        return min(resume.have, len(self.states[resume.session_id]) - 1)

    async def on_frame(self, stream: PeerStream, frame: pb.Frame) -> bool:
        """Called before a frame is run; True if it was dealt with."""
        return False

    async def after_frame(self, stream: PeerStream, frame: pb.Frame) -> None:
        """Called after a frame was answered."""

    async def on_open(self, stream: PeerStream, message: pb.Open) -> bool:
        """Called before an open is answered; True if it was dealt with."""
        return False

    async def get_model(self, *_: object) -> model_pb2.GetModelResponse:
        """ModelService.GetModel."""
        return model_pb2.GetModelResponse(model=MODEL)

    async def step_session(
        self, request: session_pb2.StepSessionRequest, context: Any
    ) -> session_pb2.StepSessionResponse:
        """SessionService.StepSession."""
        raise NotImplementedError

    # What it is.

    async def tell_durable(self, stream: PeerStream, session_id: str, step: int) -> None:
        """Report a durable step, alone."""
        durable = pb.Durable(handles=[stream.handle_of(session_id)], steps=[step])
        await stream.write(pb.StreamResponse(durable=durable))

    async def abort_streams(self) -> None:
        """End every stream that is open, as a server does that goes away."""
        for stream in self.streams:
            stream.ends.set()
            await stream.has_ended.wait()

    def refuse_rows(self, frame: pb.Frame, error: Error) -> pb.StreamResponse:
        """The result that refuses every row of a frame."""
        errors = [IndexedError(index=i, error=error) for i in range(len(frame.handles))]
        return pb.StreamResponse(result=pb.FrameResult(frame_id=frame.frame_id, errors=errors, complete=True))

    async def _stream(self, requests: AsyncIterator[pb.StreamRequest], context: Any) -> None:
        stream = PeerStream(context.read, context.write, len(self.streams) + 1)
        self.streams.append(stream)
        serving = asyncio.create_task(self._serve(stream))
        ending = asyncio.create_task(stream.ends.wait())
        try:
            await asyncio.wait({serving, ending}, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                serving.result()
            else:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "ended by the test")
        except Cut as cut:
            await context.abort(cut.code, "cut by the peer")
        finally:
            stream.has_ended.set()
            serving.cancel()
            ending.cancel()

    async def _serve(self, stream: PeerStream) -> None:
        while (message := await stream.read()) is not grpc.aio.EOF:
            await self._dispatch(stream, message)

    async def _dispatch(self, stream: PeerStream, message: pb.StreamRequest) -> None:
        match message.WhichOneof("message"):
            case "open":
                self.opens.append(message.open)
                if not await self.on_open(stream, message.open):
                    await stream.write(pb.StreamResponse(opened=self.open(stream, message.open)))
            case "frame":
                self.frames.append((stream.number, message.frame))
                self._take_ack(stream, message.frame.ack)
                stream.num_frames += 1
                if not await self.on_frame(stream, message.frame):
                    await stream.write(pb.StreamResponse(result=self.run(stream, message.frame)))
                    await self.after_frame(stream, message.frame)
            case "ack":
                self._take_ack(stream, message.ack)
            case "close":
                self.closes.append(message.close)
                closed = pb.Closed(
                    close_id=message.close.close_id,
                    next_steps=[len(self.states[stream.ids[h]]) - 1 for h in message.close.handles],
                )
                if message.close.mode == pb.CLOSE_MODE_END:
                    for handle in message.close.handles:
                        del self.states[stream.ids[handle]]
                await stream.write(pb.StreamResponse(closed=closed))

    def open(self, stream: PeerStream, message: pb.Open) -> pb.Opened:
        """Open the sessions of a message."""
        opened = pb.Opened(open_id=message.open_id, models=[VERSION], limits=self.limits)
        for i, session_id in enumerate(message.session_ids):
            outcome = self._open_one(message, i, session_id)
            handle = 0
            if isinstance(outcome, Error):
                opened.errors.append(IndexedError(index=i, error=outcome))
            else:
                del self.states[session_id][outcome + 1 :]
                self.epochs[session_id] = self.epochs.get(session_id, 0) + 1
                handle = 10 + len(stream.ids)
                stream.ids[handle] = session_id
            opened.handles.append(handle)
            opened.next_steps.append(0 if isinstance(outcome, Error) else outcome)
            opened.durable_steps.append(0)
            opened.epochs.append(self.epochs.get(session_id, 0))
        return opened

    def _open_one(self, message: pb.Open, i: int, session_id: str) -> int | Error:
        if message.mode == pb.OPEN_MODE_RESUME and session_id not in self.states:
            return refusal("NOT_FOUND", "SESSION_NOT_FOUND")
        if session_id not in self.states:
            self.states[session_id] = [0.0]
            return 0
        if not message.have:
            return len(self.states[session_id]) - 1
        epoch = message.epochs[i] if message.epochs else 0
        resume = Resume(
            session_id,
            message.have[i],
            message.held_from[i],
            epoch,
            message.attempt,
            message.client_instance,
        )
        self.resumes.append(resume)
        return self.resumes_at(resume)

    def run(self, stream: PeerStream, frame: pb.Frame, until: int | None = None) -> pb.FrameResult:
        """Run a frame, or its first `until` steps, and answer it."""
        steps = frame.num_steps if until is None else until
        x = np.frombuffer(frame.inputs[0], "<f4").reshape(len(frame.handles), frame.num_steps)
        y = np.full((len(frame.handles), steps), np.nan, "<f4")
        errors = []
        for i, handle in enumerate(frame.handles):
            states = self.states[stream.ids[handle]]
            if frame.first_steps[i] != len(states) - 1:
                error = refusal("FAILED_PRECONDITION", "WRONG_STEP", expected_step=len(states) - 1)
                errors.append(IndexedError(index=i, error=error))
                continue
            for t in range(steps):
                states.append(states[-1] + float(x[i, t]))
            y[i] = states[-steps:]
        chunk: Sequence[bytes] = [y.tobytes()]
        if frame.outputs == pb.OUTPUT_SELECTION_NONE:
            chunk = []
        if frame.outputs == pb.OUTPUT_SELECTION_LAST:
            chunk = [y[:, -1:].tobytes()] if steps == frame.num_steps else []
        return pb.FrameResult(
            frame_id=frame.frame_id,
            num_steps=steps,
            outputs=chunk,
            errors=errors,
            complete=steps == frame.num_steps,
        )

    def _take_ack(self, stream: PeerStream, ack: pb.Ack) -> None:
        for handle, step in zip(ack.handles, ack.steps, strict=True):
            self.acks[stream.ids[handle]] = max(step, self.acks.get(stream.ids[handle], 0))
