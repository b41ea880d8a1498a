"""One session of the serving engine, in this process: what it answers is what a server would.

Steps go in as frames and come back as a client's would. Frames of many steps and steps one by one are the
same bits for a batch-exact package; the engine runs any other one step by step, however long the frame.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import numpy as np

from tidegate.engine.engine import Engine
from tidegate.engine.errands import Errands
from tidegate.engine.frame import EngineFrame, Part, Source
from tidegate.engine.meter import EngineMeter
from tidegate.model.package import ModelPackage
from tidegate.protocol.outputs import OutputSelection
from tidegate.runner.ort import treat_denormals_as_zero
from tidegate.runner.runner import Runner, RunnerOptions
from tidegate.telemetry.metrics import Metrics
from tidegate.tensor import Array, SlotArray

MAX_BATCH_SIZE = 256
"""Forecasts that are rolled together, and the width of the engine's batches: a server's default."""

SESSION: SlotArray = np.array([1], np.int32)
"""Slot of the session; those behind it are for copies of its state."""

COPIES: SlotArray = np.arange(2, MAX_BATCH_SIZE + 2, dtype=np.int32)


def load_runner(package: ModelPackage) -> Runner:
    """Load a package as a server does: checked, probed and warmed up.

    Raises:
        PackageError: The graph is not what the manifest says.
    """
    treat_denormals_as_zero()
    options = RunnerOptions(max_batch_size=MAX_BATCH_SIZE, max_sessions=int(COPIES[-1]))
    return Runner(package, options)


class StreamedSession:
    """A session that begins at its first step; no other one shares the engine."""

    def __init__(self, runner: Runner, engine: Engine) -> None:
        self._runner = runner
        self._engine = engine
        self._source = Source()
        runner.arena.reset(np.arange(1, COPIES[-1] + 1, dtype=np.int32))

    @property
    def num_steps(self) -> int:
        """Steps that it has had."""
        return int(self._engine.next_step[SESSION[0]])

    @property
    def errands(self) -> Errands:
        """What else needs the graph, between two batches."""
        return self._engine.errands

    async def run(self, inputs: Sequence[Array], *, wanted: bool) -> list[Array]:
        """Advance.

        Args:
            inputs: Per model input, `[T, step_shape...]`.
            wanted: Give the answers; without them the state advances all the same.

        Returns:
            Per model output, `[T, step_shape...]`; empty if they are not wanted.

        Raises:
            InternalError: The graph fails on these numbers.
        """
        parts: list[Part] = []
        done = asyncio.get_running_loop().create_future()

        def take(part: Part) -> None:
            parts.append(part)
            if part.complete:
                done.set_result(None)

        frame = EngineFrame(
            SESSION,
            self._engine.next_step[SESSION],
            [np.ascontiguousarray(x[None]) for x in inputs],
            outputs=OutputSelection.ALL if wanted else OutputSelection.NONE,
            source=self._source,
            arrived_s=time.monotonic(),
            deadline_s=None,
            on_part=take,
        )
        self._engine.submit(frame)
        await done
        for error in (error for part in parts for error in part.errors):
            raise error
        answers = zip(*(part.outputs for part in parts), strict=True)
        return [np.concatenate([piece[0] for piece in pieces]) for pieces in answers]

    async def keep_copy(self, slot: int) -> None:
        """Copy the state after the newest step to one of `COPIES`."""
        arena = self._runner.arena
        into = np.array([slot], np.int32)
        await self.errands.look(lambda: arena.write(into, arena.read(SESSION)))


@asynccontextmanager
async def streamed_session(runner: Runner) -> AsyncIterator[StreamedSession]:
    """An engine with one new session on it."""
    engine = Engine(
        runner,
        max_batch_size=MAX_BATCH_SIZE,
        max_slice_steps=runner.max_slice_steps,
        max_queue_delay_us=0,
        meter=EngineMeter(Metrics(), runner.manifest.name, runner.manifest.version),
    )
    try:
        yield StreamedSession(runner, engine)
    finally:
        engine.close()
