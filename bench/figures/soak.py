"""Memory under churn: sessions that are opened, stepped a little and closed, over and over."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np
from grpc import aio

from bench import wire
from bench.errors import BenchError
from bench.load import CHANNEL_OPTIONS
from bench.models import DEFAULT
from bench.server import Server
from bench.setting import Setting
from bench.wire import FrameTemplate, Handles

NUM_CLIENTS = 4
SESSIONS = 256
"""Sessions that a client opens at a time, steps and ends."""

STEPS = 3
ROUNDS_PER_STREAM = 20
"""After as many rounds a client leaves its stream for a new one."""

MAX_ARENA_BYTES = 64e6
LOOK_EVERY_S = 1.0


async def measure_soak(setting: Setting) -> None:
    """Megabytes of RSS gained between the first and the last look."""
    durations = setting.durations
    with setting.server(DEFAULT) as server:
        channel = aio.insecure_channel(server.address, options=CHANNEL_OPTIONS)
        churn = [Churn(channel, number) for number in range(NUM_CLIENTS)]
        async with channel, asyncio.TaskGroup() as tasks:
            for client in churn:
                tasks.create_task(client.run())
            rss_mb = await _watch(server, durations.soak_from_s, durations.soak_to_s)
            for client in churn:
                client.stopping = True
        arena_bytes = (await asyncio.to_thread(server.metrics))["tidegate_arena_bytes"]
    if arena_bytes > MAX_ARENA_BYTES:
        raise BenchError(f"the arena has grown to {arena_bytes / 1e6:.0f} MB: too few sessions were closed")
    setting.found(
        "soak.growth",
        rss_mb[-1] - rss_mb[0],
        rss_mb=rss_mb[:: max(1, len(rss_mb) // 10)],
        arena_mb=arena_bytes / 1e6,
        sessions_opened=sum(c.sessions for c in churn),
        streams=sum(c.streams for c in churn),
    )


async def _watch(server: Server, from_s: float, to_s: float) -> list[float]:
    """RSS in MB from the first look to the last."""
    start_s = time.perf_counter()
    await asyncio.sleep(from_s)
    rss_mb = [server.rss_bytes() / 1e6]
    while (left_s := to_s - (time.perf_counter() - start_s)) > 0:
        await asyncio.sleep(min(left_s, LOOK_EVERY_S))
        rss_mb.append(server.rss_bytes() / 1e6)
    return rss_mb


class Churn:
    """A client whose sessions never live long."""

    def __init__(self, channel: aio.Channel, number: int) -> None:
        self._call: Any = channel.stream_stream(wire.METHOD)
        self._number = number
        self._frame = FrameTemplate(1, num_rows=SESSIONS, num_steps=1, features=DEFAULT.features)
        self.sessions = 0
        self.streams = 0
        self.stopping = False

    async def run(self) -> None:
        """Go through streams until told to stop."""
        while not self.stopping:
            call = self._call()
            for _ in range(ROUNDS_PER_STREAM):
                await self._round(call)
            await call.done_writing()
            if await call.read() is not aio.EOF:
                raise BenchError("expected the end of the stream, got a message")
            self.streams += 1

    async def _round(self, call: Any) -> None:
        ids = [f"{self._number}-{self.sessions + i}" for i in range(SESSIONS)]
        await call.write(wire.open_message(DEFAULT.name, ids))
        handles = wire.read_opened(await call.read())
        for step in range(STEPS):
            await self._step(call, handles, step)
        await call.write(wire.end_message(handles))
        wire.check_closed(await call.read())
        self.sessions += SESSIONS

    async def _step(self, call: Any, handles: Handles, step: int) -> None:
        await call.write(self._frame.fill(handles, np.full(SESSIONS, step, np.uint64)))
        while not wire.read_result(await call.read(), SESSIONS).complete:
            pass
