"""The engine alone: no server, no messages; feeders in the same process hand it frames.

Its process CPU includes the feeders, which do nothing but make a frame, submit it and wait: who is in
which frame, and the inputs, are drawn before.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import uvloop

from bench.errors import BenchError
from bench.processes import Worker, answer
from tidegate.config import load_settings
from tidegate.engine.engine import Engine
from tidegate.engine.frame import EngineFrame, Part, Source
from tidegate.engine.meter import EngineMeter
from tidegate.model.package import read_package
from tidegate.protocol.outputs import OutputSelection
from tidegate.runner.ort import treat_denormals_as_zero
from tidegate.runner.runner import Runner, RunnerOptions
from tidegate.telemetry.metrics import Metrics
from tidegate.tensor import SlotArray

NUM_FEEDERS = 16
FRAME_ROWS = 64
NUM_SESSIONS = 10_000
NUM_DRAWN = 64
"""Frames drawn before for each feeder, which then take turns."""

WARM_UP_S = 0.3


@dataclass(frozen=True)
class EngineSlice:
    """What the engine did in one slice.

    Attributes:
        rows: Rows stepped once.
        cpu_s: CPU-seconds of its process.
        wall_s: Seconds.
    """

    rows: int
    cpu_s: float
    wall_s: float

    @property
    def cpu_s_per_row(self) -> float:
        """CPU-seconds of one row."""
        return self.cpu_s / self.rows


class EngineWorker(Worker):
    """The engine and its feeders in a process of their own."""

    def __init__(self, core: int, package: Path, *, log: Path) -> None:
        super().__init__(core, "bench.engine", [str(package)], log=log)

    def slice(self, duration_s: float) -> EngineSlice:
        """Feed the engine for a while."""
        return EngineSlice(**self.ask(duration_s=duration_s))


class Feeder:
    """Feeds frames of sessions that nobody else steps, one at a time."""

    def __init__(self, engine: Engine, sessions: SlotArray, seed: int) -> None:
        rng = np.random.default_rng(seed)
        features = engine.runner.manifest.inputs[0].step_shape
        self._engine = engine
        self._source = Source()
        self._drawn = [
            (
                rng.choice(sessions, FRAME_ROWS, replace=False),
                rng.standard_normal((FRAME_ROWS, 1, *features), np.float32),
            )
            for _ in range(NUM_DRAWN)
        ]
        self._answered = asyncio.Event()
        self.rows = 0
        self.stopping = False

    async def run(self) -> None:
        """Submit and wait, until told to stop."""
        self.stopping = False
        while not self.stopping:
            for slots, inputs in self._drawn:
                self._answered.clear()
                self._submit(slots, inputs)
                await self._answered.wait()

    def _submit(self, slots: SlotArray, inputs: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> None:
        frame = EngineFrame(
            slots,
            self._engine.next_step[slots],
            [inputs],
            outputs=OutputSelection.ALL,
            source=self._source,
            arrived_s=time.monotonic(),
            deadline_s=None,
            on_part=self._take,
        )
        self._engine.submit(frame)

    def _take(self, part: Part) -> None:
        if part.errors:
            raise BenchError(f"a frame was refused: {part.errors[0]}")
        self.rows += len(part.outputs[0])
        if part.complete:
            self._answered.set()


async def make_feeders(package: Path) -> list[Feeder]:
    """An engine with the shipped settings, sessions for it, and who feeds them."""
    settings = load_settings({})
    options = RunnerOptions(max_batch_size=settings.max_batch_size, max_sessions=settings.max_sessions)
    runner = Runner(read_package(package), options)
    engine = Engine(
        runner,
        max_batch_size=settings.max_batch_size,
        max_slice_steps=settings.max_slice_steps,
        max_queue_delay_us=settings.max_queue_delay_us,
        meter=EngineMeter(Metrics(), runner.manifest.name, runner.manifest.version),
    )
    slots = np.arange(1, NUM_SESSIONS + 1, dtype=np.int32)
    runner.arena.reset(slots)
    shares = np.array_split(np.random.default_rng(0).permutation(slots), NUM_FEEDERS)
    return [Feeder(engine, share, seed) for seed, share in enumerate(shares)]


async def measure(feeders: list[Feeder], duration_s: float) -> EngineSlice:
    """Feed the engine for a while."""
    async with asyncio.TaskGroup() as tasks:
        for feeder in feeders:
            tasks.create_task(feeder.run())
        await asyncio.sleep(min(WARM_UP_S, duration_s))
        rows, cpu_s, start_s = sum(f.rows for f in feeders), time.process_time(), time.perf_counter()
        await asyncio.sleep(duration_s)
        found = EngineSlice(
            rows=sum(f.rows for f in feeders) - rows,
            cpu_s=time.process_time() - cpu_s,
            wall_s=time.perf_counter() - start_s,
        )
        for feeder in feeders:
            feeder.stopping = True
    return found


def main() -> None:
    """Answer `{"duration_s"}` until standard input ends."""
    treat_denormals_as_zero()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        feeders = runner.run(make_feeders(Path(sys.argv[1])))
        for line in sys.stdin:
            answer(vars(runner.run(measure(feeders, json.loads(line)["duration_s"]))))


if __name__ == "__main__":
    main()
