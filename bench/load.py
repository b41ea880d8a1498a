"""The load generator: streams that keep frames in flight, against tidegate or against the echo.

Both sides get the same messages from the same code, so what differs is the server. Calls take and give
bytes; every answer of tidegate is read and checked (`peers`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from grpc import aio
from numpy.typing import NDArray

from bench import echo, wire
from bench.draw import SessionPack
from bench.models import LstmShape
from bench.peers import EchoPeer, Peer, TidegatePeer
from bench.wire import FrameTemplate, Handles

CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # Clients of one process would otherwise share a connection.
    ("grpc.use_local_subchannel_pool", 1),
)


@dataclass(frozen=True)
class LoadShape:
    """What is kept in flight.

    Attributes:
        streams: Calls, over one connection.
        in_flight: Frames in flight on each.
        rows: Rows of a frame.
        sessions: Sessions, spread evenly over the streams.
        steps: Steps of a frame.
        acks: Frames ack the answers that have come, as clients do that keep them.
    """

    streams: int
    in_flight: int
    rows: int
    sessions: int
    steps: int = 1
    acks: bool = False


@dataclass
class Tally:
    """What has been answered so far; latencies in seconds, one per frame."""

    frames: int = 0
    row_steps: int = 0
    latencies_s: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class LoadSlice:
    """What was answered in a slice of time.

    Attributes:
        frames: Frames answered in full.
        row_steps: Steps answered, summed over rows.
        latencies_s: From before a frame was written to after its answer was read, shape (frames,).
        server_cpu_s: CPU-seconds of the server process.
        load_cpu_s: CPU-seconds of this process.
        wall_s: Seconds.
    """

    frames: int
    row_steps: int
    latencies_s: NDArray[np.float64]
    server_cpu_s: float
    load_cpu_s: float
    wall_s: float

    @property
    def cpu_s_per_frame(self) -> float:
        """CPU-seconds of the server for one frame."""
        return self.server_cpu_s / self.frames

    def percentile_s(self, percent: float) -> float:
        """The latency that `percent` of the frames stay below."""
        return float(np.percentile(self.latencies_s, percent))


class LoadStream(Protocol):
    """One call of a load, whatever its messages are.

    Attributes:
        stopping: Send nothing more.
    """

    stopping: bool

    async def open(self, prefix: str) -> None:
        """Do what comes before the load; `prefix` makes ids unique on the server."""

    async def run(self) -> None:
        """Keep messages in flight; once `stopping`, only wait for what is on its way."""

    def cancel(self) -> None:
        """Leave, whatever is in flight."""


class FrameStream:
    """One stream and its frames in flight."""

    def __init__(
        self, call: Any, peer: Peer, shape: LoadShape, features: int, number: int, tally: Tally
    ) -> None:
        self._call = call
        self._peer = peer
        self._shape = shape
        self._tally = tally
        self._templates = {
            i: FrameTemplate(
                i, num_rows=shape.rows, num_steps=shape.steps, features=features, acks=shape.acks
            )
            for i in range(1, shape.in_flight + 1)
        }
        num_sessions = shape.sessions // shape.streams
        self._pack = SessionPack(num_sessions, seed=number)
        self._handles: Handles = np.empty(0, np.uint32)
        self._next_step = np.zeros(num_sessions, np.uint64)
        self.stopping = False

    async def open(self, prefix: str) -> None:
        """Create the stream's sessions."""
        ids = [f"{prefix}-{i}" for i in range(len(self._next_step))]
        self._handles = await self._peer.open(self._call, ids)

    async def run(self) -> None:
        """Keep frames in flight; once `stopping`, only wait for what is on its way."""
        self.stopping = False
        for frame_id in self._templates:
            await self._send(frame_id)
        in_flight = len(self._templates)
        while in_flight:
            result = self._peer.read(await self._call.read())
            self._tally.row_steps += result.num_row_steps
            if not result.complete:
                continue
            template = self._templates[result.frame_id]
            self._tally.latencies_s.append(time.perf_counter() - template.sent_s)
            self._tally.frames += 1
            self._pack.give_back(template.rows)
            if self.stopping:
                in_flight -= 1
            else:
                await self._send(result.frame_id)

    def cancel(self) -> None:
        """Leave the stream, whatever is in flight."""
        self._call.cancel()

    async def _send(self, frame_id: int) -> None:
        template = self._templates[frame_id]
        rows = template.rows = self._pack.deal(self._shape.rows)
        message = template.fill(self._handles[rows], self._next_step[rows])
        self._next_step[rows] += np.uint64(self._shape.steps)
        self._peer.sent(frame_id)
        template.sent_s = time.perf_counter()
        await self._call.write(message)


class Load:
    """A connection with streams on it; use it as `async with Load.on_server(...) as load`.

    Attributes:
        tally: What has been answered since the start.
        open_s: Seconds that creating the sessions took.
    """

    def __init__(self, address: str, method: str, metadata: dict[str, str]) -> None:
        self._channel = aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        self._call: Any = self._channel.stream_stream(method)  # no serializers: bytes in, bytes out
        self._metadata = tuple(metadata.items())
        self._streams: list[LoadStream] = []
        self.tally = Tally()
        self.open_s = 0.0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._channel.close()

    @classmethod
    async def on_server(cls, address: str, model: LstmShape, shape: LoadShape, prefix: str = "s") -> Self:
        """Connect to tidegate and create the sessions; `prefix` makes their ids unique on the server."""
        load = cls(address, wire.METHOD, {})
        await load._start_frames(shape, model.features, lambda: TidegatePeer(model.name, shape.rows), prefix)
        return load

    @classmethod
    async def on_echo(cls, address: str, model: LstmShape, shape: LoadShape) -> Self:
        """Connect to the echo, which sends what an answer of tidegate measures."""
        size = wire.result_bytes(shape.rows, shape.steps, model.outputs)
        load = cls(address, echo.METHOD, {echo.REPLY_BYTES: str(size)})
        await load._start_frames(shape, model.features, lambda: EchoPeer(shape.rows * shape.steps), "")
        return load

    async def start(self, make_streams: Sequence[Callable[[Any, Tally], LoadStream]], prefix: str) -> None:
        """Begin a call for each stream, and have it do what comes before the load.

        Args:
            make_streams: Each makes a stream of its call and the tally.
            prefix: Makes ids unique on the server.
        """
        self._streams += [make(self._call(metadata=self._metadata), self.tally) for make in make_streams]
        await self._channel.channel_ready()
        start_s = time.perf_counter()
        for number, stream in enumerate(self._streams):
            await stream.open(f"{prefix}-{number}")
        self.open_s = time.perf_counter() - start_s

    async def _start_frames(
        self, shape: LoadShape, features: int, make_peer: Callable[[], Peer], prefix: str
    ) -> None:
        def make(number: int) -> Callable[[Any, Tally], LoadStream]:
            return lambda call, tally: FrameStream(call, make_peer(), shape, features, number, tally)

        await self.start([make(number) for number in range(shape.streams)], prefix)

    @asynccontextmanager
    async def running(self, *, drain: bool = True) -> AsyncIterator[None]:
        """Keep frames in flight meanwhile.

        Args:
            drain: Wait at the end for what is in flight; otherwise leave the streams, for good.
        """
        async with asyncio.TaskGroup() as tasks:
            for stream in self._streams:
                tasks.create_task(stream.run())
            try:
                yield
            finally:
                for stream in self._streams:
                    stream.stopping = True
                    if not drain:
                        stream.cancel()

    async def window(self, duration_s: float, server_cpu_s: Callable[[], float]) -> LoadSlice:
        """Count for a while; only while running."""
        tally = self.tally
        tally.latencies_s.clear()
        frames, row_steps = tally.frames, tally.row_steps
        cpu_s, load_cpu_s, start_s = server_cpu_s(), time.process_time(), time.perf_counter()
        await asyncio.sleep(duration_s)
        return LoadSlice(
            frames=tally.frames - frames,
            row_steps=tally.row_steps - row_steps,
            latencies_s=np.array(tally.latencies_s),
            server_cpu_s=server_cpu_s() - cpu_s,
            load_cpu_s=time.process_time() - load_cpu_s,
            wall_s=time.perf_counter() - start_s,
        )

    async def measure(
        self, duration_s: float, warmup_s: float, server_cpu_s: Callable[[], float]
    ) -> LoadSlice:
        """Run a slice: warm up, count, and come to rest."""
        async with self.running():
            await asyncio.sleep(warmup_s)
            return await self.window(duration_s, server_cpu_s)
