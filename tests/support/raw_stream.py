"""One stream in the words of the protocol, so that a test decides about every byte.

The client library refuses bad input before it is sent, and mends what was lost; this does neither.
Messages that a test does not ask for yet are kept, in order, until it does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from grpc import aio
from numpy.typing import ArrayLike, NDArray

from tidegate.v1 import stream_pb2 as pb
from tidegate.v1.error_pb2 import Error
from tidegate.v1.model_pb2 import ModelVersion

STREAM_METHOD = "/tidegate.v1.SessionService/Stream"

ANSWER_TIMEOUT_S = 20.0
"""Nothing that a test waits for takes longer, on a busy machine with two cores."""

CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A connection of its own for every channel: the tests break them one by one.
    ("grpc.use_local_subchannel_pool", 1),
)

Floats = NDArray[np.float32]
Message = TypeVar("Message")


def connect(address: str) -> aio.Channel:
    """A connection to a server; use it as `async with connect(server.address) as channel`."""
    return aio.insecure_channel(address, options=CHANNEL_OPTIONS)


def frame(
    frame_id: int, handles: Sequence[int], first_steps: Sequence[int], x: ArrayLike, **fields: Any
) -> pb.Frame:
    """A frame for a model with one float32 input.

    Args:
        x: Values of shape [rows, steps, features...].
        fields: Other fields of the message, which win over those made from `x`.
    """
    values = np.asarray(x, "<f4")
    described = {"num_steps": values.shape[1], "inputs": [values.tobytes()]}
    return pb.Frame(frame_id=frame_id, handles=handles, first_steps=first_steps, **(described | fields))


@dataclass
class Reply:
    """All results of one frame.

    Attributes:
        results: As they came, the last one marked complete.
        errors: The first error of each refused row, by its position in the frame.
    """

    num_rows: int
    num_steps: int
    results: list[pb.FrameResult] = field(default_factory=list)
    errors: dict[int, Error] = field(default_factory=dict)

    def add(self, result: pb.FrameResult) -> None:
        """Take a result in."""
        self.results.append(result)
        for refused in result.errors:
            self.errors.setdefault(refused.index, refused.error)

    def output(self, number: int = 0) -> Floats:
        """A float32 output, shape [rows, steps, elements]; NaN where nothing was answered."""
        answered = [r for r in self.results if r.outputs and r.num_steps]
        if not answered:
            return np.full((self.num_rows, 0, 0), np.nan, np.float32)
        rows_of = [list(r.rows) or list(range(self.num_rows)) for r in answered]
        width = len(answered[0].outputs[number]) // (4 * len(rows_of[0]) * answered[0].num_steps)
        whole = np.full((self.num_rows, self.num_steps, width), np.nan, np.float32)
        for result, rows in zip(answered, rows_of, strict=True):
            values = np.frombuffer(result.outputs[number], "<f4").reshape(len(rows), result.num_steps, width)
            whole[rows, result.step_offset : result.step_offset + result.num_steps] = values
        return whole


class RawStream:
    """A `SessionService.Stream` call; use it as `async with RawStream(channel) as stream`."""

    def __init__(self, channel: aio.Channel) -> None:
        # Bytes go out as they are; what comes back is parsed.
        method = channel.stream_stream(STREAM_METHOD, None, pb.StreamResponse.FromString)
        self.call: Any = method()
        self.kept: list[pb.StreamResponse] = []
        self._next_id = 1

    async def __aenter__(self) -> RawStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.call.cancel()
        with suppress(asyncio.CancelledError, aio.AioRpcError):
            await self.call.code()

    async def send(self, **message: Any) -> None:
        """Send one message: `send(frame=...)`, `send(open=...)`, `send(ack=...)`, `send(close=...)`."""
        await self.send_raw(pb.StreamRequest(**message).SerializeToString())

    async def send_raw(self, message: bytes) -> None:
        """Send bytes, whatever they are."""
        await self.call.write(message)

    async def receive(
        self,
        match: Callable[[pb.StreamResponse], object] = lambda _: True,
        within_s: float = ANSWER_TIMEOUT_S,
    ) -> pb.StreamResponse:
        """The first message that matches; those before it are kept.

        Raises:
            EOFError: The server ended the stream well.
            AioRpcError: It ended the stream with a status, or the connection is lost.
            TimeoutError: No such message came.
        """
        for i, message in enumerate(self.kept):
            if match(message):
                return self.kept.pop(i)
        async with asyncio.timeout(within_s):
            while True:
                message = await self.call.read()
                if message is aio.EOF:
                    raise await self._end()
                if match(message):
                    return message
                self.kept.append(message)

    async def open(
        self, model: str, *session_ids: str, mode: str = "CREATE", version: str = "", **fields: Any
    ) -> pb.Opened:
        """Open sessions and wait for the answer."""
        open_id = self.new_id()
        named = ModelVersion(name=model, version=version)
        described = {"model": named, "mode": f"OPEN_MODE_{mode}", "session_ids": session_ids}
        await self.send(open=pb.Open(open_id=open_id, **(described | fields)))
        return (await self.receive(lambda m: m.opened.open_id == open_id)).opened

    async def handles(self, model: str, *session_ids: str, **fields: Any) -> list[int]:
        """Open sessions that must not be refused; their handles."""
        opened = await self.open(model, *session_ids, **fields)
        assert not opened.errors, opened.errors
        return list(opened.handles)

    async def submit(
        self, handles: Sequence[int], first_steps: Sequence[int], x: ArrayLike, **fields: Any
    ) -> int:
        """Send a frame and do not wait; its number, for `reply`."""
        frame_id = self.new_id()
        await self.send(frame=frame(frame_id, handles, first_steps, x, **fields))
        return frame_id

    async def reply(self, frame_id: int, num_rows: int, num_steps: int) -> Reply:
        """Wait for all results of a frame.

        Raises:
            AssertionError: The frame was refused as a whole.
        """
        outcome = await self.outcome(frame_id, num_rows, num_steps)
        assert isinstance(outcome, Reply), outcome
        return outcome

    async def outcome(self, frame_id: int, num_rows: int, num_steps: int) -> Reply | Error:
        """Wait for all results of a frame, or for why it was refused as a whole."""
        reply = Reply(num_rows, num_steps)
        while not (reply.results and reply.results[-1].complete):
            message = await self.receive(lambda m: frame_id in (m.result.frame_id, m.error.frame_id))
            if message.HasField("error"):
                return message.error.error
            reply.add(message.result)
        return reply

    async def step(
        self, handles: Sequence[int], first_steps: Sequence[int], x: ArrayLike, **fields: Any
    ) -> Reply:
        """Send a frame and wait for all of its results."""
        rows, steps = np.shape(x)[:2]
        return await self.reply(await self.submit(handles, first_steps, x, **fields), rows, steps)

    async def close(self, handles: Sequence[int], mode: str = "END") -> pb.Closed:
        """Give handles back and wait for the answer."""
        close_id = self.new_id()
        await self.send(close=pb.Close(close_id=close_id, mode=f"CLOSE_MODE_{mode}", handles=handles))
        return (await self.receive(lambda m: m.closed.close_id == close_id)).closed

    async def notice(self) -> pb.Notice:
        """Wait for a notice."""
        return (await self.receive(lambda m: m.HasField("notice"))).notice

    async def end(self) -> aio.AioRpcError | EOFError:
        """How the stream ended; messages before its end are kept."""
        try:
            message = await self.receive(lambda _: False)
        except (aio.AioRpcError, EOFError) as end:
            return end
        raise AssertionError(message)

    def new_id(self) -> int:
        """A number that no other message of this stream has."""
        self._next_id += 1
        return self._next_id

    async def _end(self) -> Exception:
        code = await self.call.code()
        if code.name == "OK":
            return EOFError("the server ended the stream")
        metadata = await self.call.trailing_metadata()
        return aio.AioRpcError(
            code, await self.call.initial_metadata(), metadata, details=await self.call.details()
        )


async def alone(channel: aio.Channel, model: str, session_id: str, x: ArrayLike) -> Floats:
    """Answers to x [steps, features...] of a session that has its stream to itself, step by step.

    Returns:
        Shape [steps, elements].
    """
    steps = np.asarray(x, np.float32)
    async with RawStream(channel) as stream:
        handles = await stream.handles(model, session_id)
        replies = [await stream.step(handles, [t], x_t[None, None]) for t, x_t in enumerate(steps)]
        await stream.close(handles)
    return np.stack([reply.output()[0, 0] for reply in replies])


async def in_chunks(channel: aio.Channel, model: str, session_id: str, x: ArrayLike) -> Floats:
    """Answers to a long x [steps, features...] of a session alone, in one frame.

    Returns:
        Shape [steps, elements].
    """
    async with RawStream(channel) as stream:
        handles = await stream.handles(model, session_id)
        reply = await stream.step(handles, [0], np.asarray(x, np.float32)[None])
        await stream.close(handles)
    return reply.output()[0]
