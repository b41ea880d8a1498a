"""Promise P5 with many: 20,000 known sessions where memory has room for 500, and every answer right.

The sessions share 40 series, so what each must answer is known from 40 sessions that were left alone.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support.machine_metrics import MODEL, machine_metrics, machine_package
from support.metrics import value
from support.raw_stream import Floats, RawStream, connect
from support.restarting import RestartingServer
from support.server import ServerProcess
from support.waiting import until
from tidegate.tensor import IntArray

NUM_SESSIONS = 20_000
MAX_SESSIONS = 500
FLAGS = ("--max-sessions", str(MAX_SESSIONS), "--detached-idle-timeout-s", "8")
"""The store is counted four times per idle timeout."""

GROUP = 250
NUM_VISITS = 60
LONGEST = 40
NUM_SERIES = 40
MOST_GROWTH_BYTES = 48 * 1024 * 1024
"""Of the server while 15,000 more sessions become known: the store's page cache alone may take 32 MiB."""


class Crowd:
    """Sessions that are stepped a few at a time, and given back.

    Attributes:
        steps: Steps so far of each, [sessions].
    """

    def __init__(self, x: Floats, expected: Floats) -> None:
        """Begin.

        Args:
            x: Inputs of the series, [series, LONGEST, 3].
            expected: The answers to them, [series, LONGEST, elements].
        """
        self.steps: IntArray = np.zeros(NUM_SESSIONS, np.int64)
        self._x = x
        self._expected = expected

    async def visit(self, stream: RawStream, numbers: IntArray, num_steps: int, *, mode: str) -> None:
        """Open sessions, feed each its next steps, hold the answers against the expected, and leave."""
        opened = await stream.open(MODEL, *[f"machine-{n}" for n in numbers.tolist()], mode=mode)
        assert not opened.errors, opened.errors
        first_steps = self.steps[numbers]
        assert list(opened.next_steps) == first_steps.tolist()
        at = ((numbers % NUM_SERIES)[:, None], first_steps[:, None] + np.arange(num_steps))
        reply = await stream.step(opened.handles, first_steps.tolist(), self._x[at])
        assert not reply.errors, reply.errors
        assert reply.output().tobytes() == self._expected[at].tobytes()
        self.steps[numbers] += num_steps
        assert not (await stream.close(opened.handles, mode="DETACH")).errors


async def visit_at_random(server: ServerProcess, crowd: Crowd, rng: np.random.Generator) -> None:
    """Visit sessions, most of which are not in memory."""
    async with connect(server.address) as channel, RawStream(channel) as stream:
        for _ in range(NUM_VISITS):
            num_steps = int(rng.integers(1, 4))
            able = np.flatnonzero(crowd.steps + num_steps <= LONGEST)
            numbers = rng.choice(able, int(rng.integers(1, GROUP + 1)), replace=False)
            await crowd.visit(stream, numbers, num_steps, mode="RESUME")


async def crowd_of(server: ServerProcess) -> Crowd:
    """Sessions of which none is known yet; what they must answer comes from 40 that stay in memory."""
    x = machine_metrics(NUM_SERIES, LONGEST, seed=1)
    async with connect(server.address) as channel, RawStream(channel) as stream:
        handles = await stream.handles(MODEL, *[f"alone-{number}" for number in range(NUM_SERIES)])
        reply = await stream.step(handles, [0] * NUM_SERIES, x)
        await stream.close(handles)
    return Crowd(x, reply.output())


async def create_all(server: ServerProcess, crowd: Crowd) -> int:
    """Create the sessions, a group at a time; bytes that the server grew by after the first quarter."""
    early_bytes = 0
    async with connect(server.address) as channel, RawStream(channel) as stream:
        for start in range(0, NUM_SESSIONS, GROUP):
            await crowd.visit(stream, np.arange(start, start + GROUP), 2, mode="CREATE")
            if start == NUM_SESSIONS // 4:
                early_bytes = server.rss_bytes()
    return server.rss_bytes() - early_bytes


@pytest.mark.slow
async def test_twenty_thousand_sessions_take_turns_in_a_memory_for_five_hundred(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    models = tmp_path / "models"
    machine_package(models)
    async with RestartingServer(models, tmp_path, *FLAGS) as server:
        crowd = await crowd_of(server.process)
        growth_bytes = await create_all(server.process, crowd)
        passivations = value(server.process, "tidegate_passivations_total")
        await visit_at_random(server.process, crowd, rng)

        assert passivations >= NUM_SESSIONS - MAX_SESSIONS
        assert value(server.process, "tidegate_passivations_total") > passivations
        assert value(server.process, "tidegate_returns_total") > 0
        await until(lambda: value(server.process, "tidegate_stored_sessions") == NUM_SESSIONS)
        assert value(server.process, "tidegate_losses_total") == 0
        in_memory = [
            value(server.process, "tidegate_sessions", condition=c) for c in ("attached", "detached")
        ]
        assert sum(in_memory) <= MAX_SESSIONS
        assert growth_bytes < MOST_GROWTH_BYTES

        assert server.process.stop() == 0
        await server.start()
        await visit_at_random(server.process, crowd, rng)
