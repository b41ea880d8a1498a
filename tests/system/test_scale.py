"""Promise P1 with many: 10,000 sessions on 64 streams, each answered as if it were alone, bit for bit.

The replay is one session at a time, one row and one step at a time, by a runner of the test's own
process; test_isolation.py shows that this is what a session alone gets from the server, and what the
graph gives. `TIDEGATE_TEST_SEED` repeats a run.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections import deque
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from support.books import books_hold
from support.ids import new_id
from support.metrics import value
from support.onnx_models import lstm_package
from support.raw_stream import Floats, RawStream, connect
from support.server import ServerProcess
from tidegate.model.package import read_package
from tidegate.runner.runner import Runner, RunnerOptions
from tidegate.tensor import IntArray

NUM_SESSIONS = 10_000
NUM_STREAMS = 64
NUM_CHANNELS = 8
NUM_FRAMES = 50
"""Per stream: a session is in ten of them, about."""

MAX_ROWS = 64
MAX_STEPS = 8
MAX_IN_FLIGHT = 6

LONGEST = 64
"""Steps of a session past which it takes no more part; few come that far."""

FEATURES = 8
HIDDEN = 32

SEED_VARIABLE = "TIDEGATE_TEST_SEED"
IDLE_S = 4.0


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = tmp_path_factory.mktemp("models")
    lstm_package(repository, features=FEATURES, hidden=HIDDEN)
    return repository


@pytest.fixture(scope="module")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    flags = (f"--detached-idle-timeout-s={IDLE_S}",)  # the books are checked four times in that time
    with ServerProcess(repository, tmp_path_factory.mktemp("server"), *flags) as server:
        yield server


@dataclass
class Crowd:
    """Sessions of one stream.

    Attributes:
        rng: Decides about its frames.
        x: Inputs, [sessions, LONGEST, features].
        steps: How many of them each session has sent.
        answers: [sessions, LONGEST, elements].
    """

    rng: np.random.Generator
    x: Floats
    steps: IntArray
    answers: Floats

    async def play(self, stream: RawStream) -> None:
        """Send random frames, some of them before those in front are answered."""
        handles = np.array(await stream.handles("lstm", *[new_id() for _ in self.x]))
        in_flight: deque[tuple[int, IntArray, IntArray]] = deque()
        for _ in range(NUM_FRAMES):
            rows, at = self._draw()
            frame_id = await stream.submit(
                handles[rows].tolist(), at[:, 0].tolist(), self.x[rows[:, None], at]
            )
            in_flight.append((frame_id, rows, at))
            while len(in_flight) > self.rng.integers(MAX_IN_FLIGHT):
                await self._take(stream, *in_flight.popleft())
        while in_flight:
            await self._take(stream, *in_flight.popleft())
        await stream.close(handles.tolist())

    def _draw(self) -> tuple[IntArray, IntArray]:
        """Rows of the next frame, [n], and the steps of each, [n, T]."""
        num_steps = int(self.rng.integers(2, MAX_STEPS + 1)) if self.rng.random() < 0.2 else 1
        able = np.flatnonzero(self.steps + num_steps <= LONGEST)
        num_rows = min(len(able), int(self.rng.integers(1, MAX_ROWS + 1)))
        rows = self.rng.choice(able, num_rows, replace=False)
        at = self.steps[rows][:, None] + np.arange(num_steps)
        self.steps[rows] += num_steps
        return rows, at

    async def _take(self, stream: RawStream, frame_id: int, rows: IntArray, at: IntArray) -> None:
        reply = await stream.reply(frame_id, *at.shape)
        assert not reply.errors, reply.errors
        self.answers[rows[:, None], at] = reply.output()


@pytest.mark.slow
async def test_ten_thousand_sessions_get_what_each_would_get_alone(
    server: ServerProcess, repository: Path
) -> None:
    seed = int(os.environ.get(SEED_VARIABLE) or secrets.randbits(32))
    print(f"{SEED_VARIABLE}={seed}")  # noqa: T201 - shown when the test fails
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, (NUM_SESSIONS, LONGEST, FEATURES)).astype(np.float32)
    answers, steps = await play_all(server, x, rng)
    await books_hold(server)
    expected = replay(repository, x, steps)

    runs = value(server, "tidegate_batch_rows_count", model="lstm")
    runs_of_one_frame = value(server, "tidegate_batch_rows_bucket", model="lstm", le=f"{MAX_ROWS:.1f}")
    assert runs > runs_of_one_frame, "no run held rows of two frames: nothing was tested"
    assert value(server, "tidegate_steps_total", model="lstm") == steps.sum()
    assert np.count_nonzero(steps) > 0.99 * NUM_SESSIONS
    # Steps that were never sent are NaN in both.
    different = np.flatnonzero(answers.view(np.uint32) != expected.view(np.uint32))
    assert np.unique(different // (LONGEST * HIDDEN)).tolist() == []


async def play_all(server: ServerProcess, x: Floats, rng: np.random.Generator) -> tuple[Floats, IntArray]:
    """Divide the sessions among the streams and play all at once.

    Returns:
        The answers, [sessions, LONGEST, elements], and how many steps each session was sent.
    """
    answers = np.full((*x.shape[:2], HIDDEN), np.nan, np.float32)
    steps = np.zeros(len(x), np.int64)
    parts = zip(*(np.array_split(whole, NUM_STREAMS) for whole in (x, steps, answers)), strict=True)
    crowds = [Crowd(own, *part) for own, part in zip(rng.spawn(NUM_STREAMS), parts, strict=True)]
    async with AsyncExitStack() as stack:
        channels = [await stack.enter_async_context(connect(server.address)) for _ in range(NUM_CHANNELS)]
        playing = [
            crowd.play(await stack.enter_async_context(RawStream(channels[i % NUM_CHANNELS])))
            for i, crowd in enumerate(crowds)
        ]
        await asyncio.gather(*playing)
    return answers, steps


def replay(repository: Path, x: Floats, steps: IntArray) -> Floats:
    """Each session alone, one after the other, step by step; [sessions, LONGEST, elements]."""
    runner = Runner(read_package(repository / "lstm" / "1"), RunnerOptions(max_sessions=len(x)))
    answers = np.full((*x.shape[:2], HIDDEN), np.nan, np.float32)
    for i, num_steps in enumerate(steps):
        slot = np.array([i + 1], np.int32)
        runner.arena.reset(slot)
        for t in range(num_steps):
            (y,) = runner.step(slot, [x[i : i + 1, t : t + 1]])
            answers[i, t] = y[0, 0]
    return answers
