"""`python -m bench.stages`: what each stage of a step costs, for the picture in docs/architecture.md.

One process takes bytes of frames and gives bytes of answers, through everything but gRPC: 4 streams with 4
frames in flight each, 10,000 sessions. The clock is read at the border of every stage, so the stages are
exclusive of one another; reading it costs about 0.1 µs a border.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import uvloop

from bench.machine import choose_cores, describe
from bench.models import DEFAULT, write_lstm
from tidegate import app
from tidegate.config import ServerSettings, load_settings
from tidegate.engine.engine import Engine
from tidegate.rpc import convert
from tidegate.runner.ort import treat_denormals_as_zero
from tidegate.session.frames import Answer
from tidegate.session.manager import SessionManager
from tidegate.session.open_request import OpenMode, OpenRequest
from tidegate.session.stream import SessionStream
from tidegate.v1 import stream_pb2

NUM_STREAMS = 4
FRAMES_IN_FLIGHT = 16
NUM_SESSIONS = 10_000
NUM_FRAMES = 2000
WARM_UP_FRAMES = 200

PARSE, JUDGE, QUEUE, GATHER, RUN, SCATTER, APPLY, PACK = STAGES = (
    "rpc: bytes to arrays",
    "session: judge rows, keep the books",
    "engine: queue, form batches",
    "runner: gather states",
    "runner: ONNX Runtime",
    "runner: scatter states",
    "engine: count steps, hand answers out",
    "rpc: answer to bytes",
)


class Clock:
    """Seconds by stage; a stage inside another is not counted in it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner: list[float] = [0.0]

    def watch(self, owner: Any, name: str, stage: str) -> None:
        """Count the calls of `owner.name` as `stage` from now on."""
        setattr(owner, name, self.timed(getattr(owner, name), stage))

    def timed(self, call: Callable[..., Any], stage: str) -> Callable[..., Any]:
        """The call with its time counted."""

        def run(*args: Any, **kwargs: Any) -> Any:
            self._inner.append(0.0)
            start = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                elapsed = time.perf_counter() - start
                self.seconds[stage] += elapsed - self._inner.pop()
                self._inner[-1] += elapsed

        return run


def watch_stages(clock: Clock, manager: SessionManager, engine: Engine) -> None:
    """Put the clock around what a step goes through, in this order."""
    runner, scheduler = engine.runner, engine._scheduler
    clock.watch(manager, "submit", JUDGE)
    clock.watch(scheduler, "add", QUEUE)
    clock.watch(scheduler, "take", QUEUE)
    clock.watch(runner.arena, "locate", GATHER)
    clock.watch(runner.arena, "gather", GATHER)
    clock.watch(runner, "_run", RUN)
    clock.watch(runner.arena, "scatter", SCATTER)
    clock.watch(engine, "_apply", APPLY)


class Client:
    """One stream's end: a frame goes in as bytes, its answer comes out as bytes."""

    def __init__(self, manager: SessionManager, rows: int, seed: int, clock: Clock) -> None:
        self._manager = manager
        self._rows = rows
        self._rng = np.random.default_rng(seed)
        self._parse = clock.timed(_parse, PARSE)
        self._pack = clock.timed(_pack, PACK)
        self._stream: SessionStream = manager.add_stream(self._take, lambda _: None, lambda *_: None)
        self._room = asyncio.Semaphore(FRAMES_IN_FLIGHT // NUM_STREAMS)

    async def open(self, model: str, count: int) -> None:
        """Open sessions of its own."""
        ids = [f"{self._stream.number}-{i}" for i in range(count)]
        none: list[int | None] = [None] * count
        request = OpenRequest(model, "", "", OpenMode.CREATE, ids, none, none, [0] * count, b"", 0)
        opened = await self._manager.open(self._stream, request)
        self._frames = self._draw(np.array(opened.handles), DEFAULT.features)

    async def run(self, num_frames: int) -> None:
        """Send frames, as many in flight as there is room for, and wait for the last answer."""
        for _ in range(num_frames):
            await self._room.acquire()
            message = next(self._frames)
            self._manager.submit(self._stream, self._parse(message))
        for _ in range(FRAMES_IN_FLIGHT // NUM_STREAMS):
            await self._room.acquire()
        for _ in range(FRAMES_IN_FLIGHT // NUM_STREAMS):
            self._room.release()

    def _draw(self, handles: np.ndarray[Any, Any], num_features: int) -> Iterator[bytes]:
        """Frames of random sessions, none of them in two frames in flight."""
        steps = np.zeros(len(handles), np.int64)
        values = self._rng.standard_normal((self._rows, 1, num_features), np.float32).tobytes()
        while True:
            order = self._rng.permutation(len(handles))
            for start in range(0, len(order) - self._rows + 1, self._rows):
                chosen = order[start : start + self._rows]
                frame = stream_pb2.Frame(
                    frame_id=1,
                    handles=handles[chosen].tolist(),
                    first_steps=steps[chosen].tolist(),
                    num_steps=1,
                    inputs=[values],
                )
                steps[chosen] += 1
                yield stream_pb2.StreamRequest(frame=frame).SerializeToString()

    def _take(self, answer: Answer) -> None:
        self._pack(answer)
        self._room.release()


def _parse(message: bytes) -> object:
    return convert.frame_request(stream_pb2.StreamRequest.FromString(message).frame, convert.now_s())


def _pack(answer: Answer) -> bytes:
    response = stream_pb2.StreamResponse()
    convert.fill_result(response.result, answer)
    return response.SerializeToString()


async def measure(settings: ServerSettings, rows: int) -> dict[str, float]:
    """Microseconds per frame by stage, and in all."""
    server = app.Server(settings)
    await server._pool.load_newest_of_each()
    (model,) = server._pool.models()
    clock = Clock()
    clients = [Client(server._sessions, rows, seed, clock) for seed in range(NUM_STREAMS)]
    watch_stages(clock, server._sessions, model.engine)
    for client in clients:
        await client.open(model.manifest.name, NUM_SESSIONS // NUM_STREAMS)
    await asyncio.gather(*(client.run(WARM_UP_FRAMES // NUM_STREAMS) for client in clients))
    clock.seconds.clear()
    start_s = time.perf_counter()
    await asyncio.gather(*(client.run(NUM_FRAMES // NUM_STREAMS) for client in clients))
    total_s = time.perf_counter() - start_s
    server._pool.close()
    stages = {stage: clock.seconds[stage] / NUM_FRAMES * 1e6 for stage in STAGES}
    return {**stages, "in all, with the drawing of frames": total_s / NUM_FRAMES * 1e6}


@click.command
@click.argument("rows", type=int, nargs=-1)
def main(rows: tuple[int, ...]) -> None:
    """Print the microseconds per frame that each stage takes, for frames of 1 and 256 rows."""
    cores = choose_cores()
    if len(os.sched_getaffinity(0)) > 1:
        # The engine has looked at its cores when it was imported: begin anew, on the one that it is to have.
        os.sched_setaffinity(0, {cores.server})
        os.execv(sys.executable, [sys.executable, "-m", "bench.stages", *sys.argv[1:]])  # noqa: S606 - ourselves
    treat_denormals_as_zero()
    machine = describe(cores)
    click.echo(f"{machine['cpu']} · {machine['date']}")
    with tempfile.TemporaryDirectory(prefix="tidegate-stages-") as folder:
        write_lstm(Path(folder), DEFAULT)
        settings = load_settings({"models": Path(folder), "store": "memory:"})
        for count in rows or (1, 256):
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                found = runner.run(measure(settings, count))
            click.echo(f"\nframes of {count} rows, µs per frame")
            for stage, us in found.items():
                click.echo(f"  {stage:40} {us:8.1f}")


if __name__ == "__main__":
    main()
