"""How long a fleet of sessions waits when its server is killed and started again.

The client is our own library, as users have it: it finds the connection broken, connects again, resumes, and
sends again what the store did not have.
"""

from __future__ import annotations

import asyncio
import time

import numpy as np

from bench.figures.start import free_port
from bench.models import DEFAULT
from bench.server import Server, sqlite
from bench.setting import Setting
from tidegate.client import AsyncClient
from tidegate.client.fleet import Fleet
from tidegate.tensor import Array

SESSIONS = 10_000
STEP_EVERY_S = 1.0
"""Each session has one step a second."""


async def measure_resume(setting: Setting) -> None:
    """Seconds from the kill of a server to the answers of all sessions to their next step."""
    port = free_port()
    first = await asyncio.to_thread(_start, setting, port)
    sessions = [f"resume-{i}" for i in range(min(SESSIONS, setting.durations.sessions))]
    rng = np.random.default_rng(0)
    with first:
        async with AsyncClient(first.address) as client, client.fleet(DEFAULT.name, sessions) as fleet:
            await _live(fleet, rng, setting.durations.resume_after_s)
            steps_behind = fleet.next_steps - fleet.durable_steps
            first.kill()
            start_s = time.perf_counter()
            starting = asyncio.create_task(asyncio.to_thread(_start, setting, port))
            await fleet.step(_values(rng, len(fleet)))
            seconds = time.perf_counter() - start_s
            with await starting:
                await fleet.end()
    setting.found(
        "resume.seconds",
        seconds,
        sessions=len(sessions),
        steps_sent_again=int(steps_behind.sum()),
        most_steps_sent_again_of_one=int(steps_behind.max()),
    )


def _start(setting: Setting, port: int) -> Server:
    """A server where the last one was, with what it stored."""
    store = sqlite(setting.folder / "resume.db")
    return setting.server(DEFAULT, "--grpc-port", str(port), store=store)


async def _live(fleet: Fleet, rng: np.random.Generator, duration_s: float) -> None:
    """Step all sessions at their pace for a while."""
    start_s = time.perf_counter()
    while (left_s := duration_s - (time.perf_counter() - start_s)) > 0:
        await asyncio.gather(fleet.step(_values(rng, len(fleet))), asyncio.sleep(min(STEP_EVERY_S, left_s)))


def _values(rng: np.random.Generator, count: int) -> Array:
    return rng.standard_normal((count, DEFAULT.features), np.float32)
