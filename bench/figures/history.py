"""Single steps of one client beside the long history of another."""

from __future__ import annotations

import asyncio
import time

from bench.load import Load, LoadShape, LoadSlice
from bench.models import DEFAULT
from bench.server import Server
from bench.setting import Setting

SINGLE = LoadShape(streams=1, in_flight=1, rows=1, sessions=1)
HISTORY = LoadShape(streams=1, in_flight=1, rows=1, sessions=1, steps=100_000)
"""A frame that is answered is sent again, with the next 100,000 steps."""

TAIL = 99


async def measure_history(setting: Setting) -> None:
    """p99 of the single steps with ÷ without the history; the history's rate with ÷ without them."""
    durations = setting.durations
    without: list[LoadSlice] = []
    beside: list[LoadSlice] = []
    beside_steps_per_s: list[float] = []
    alone_steps_per_s: list[float] = []
    with setting.server(DEFAULT) as server:
        async with await Load.on_server(server.address, DEFAULT, SINGLE, "single") as single:
            for number in range(durations.rounds):
                without.append(await single.measure(durations.slice_s, durations.warmup_s, server.cpu_s))
                found, steps_per_s = await _beside(setting, server, single, number)
                beside.append(found)
                beside_steps_per_s.append(steps_per_s)
                alone_steps_per_s.append(await _alone(setting, server, number))
    setting.found(
        "history.tail",
        [b.percentile_s(TAIL) / w.percentile_s(TAIL) for b, w in zip(beside, without, strict=True)],
        p99_beside_us=[b.percentile_s(TAIL) * 1e6 for b in beside],
        p99_without_us=[w.percentile_s(TAIL) * 1e6 for w in without],
        p50_beside_us=[b.percentile_s(50) * 1e6 for b in beside],
        p50_without_us=[w.percentile_s(50) * 1e6 for w in without],
    )
    setting.found(
        "history.share",
        [b / a for b, a in zip(beside_steps_per_s, alone_steps_per_s, strict=True)],
        steps_per_s_beside=beside_steps_per_s,
        steps_per_s_alone=alone_steps_per_s,
        single_steps_per_s_beside=[b.frames / b.wall_s for b in beside],
        single_steps_per_s_without=[w.frames / w.wall_s for w in without],
    )


async def _beside(setting: Setting, server: Server, single: Load, number: int) -> tuple[LoadSlice, float]:
    """Single steps while a history runs, and its steps per second."""
    durations = setting.durations
    async with (
        await Load.on_server(server.address, DEFAULT, HISTORY, f"beside-{number}") as history,
        history.running(drain=False),
        single.running(),
    ):
        await asyncio.sleep(durations.warmup_s)
        steps, start_s = history.tally.row_steps, time.perf_counter()
        found = await single.window(durations.slice_s, server.cpu_s)
        return found, (history.tally.row_steps - steps) / (time.perf_counter() - start_s)


async def _alone(setting: Setting, server: Server, number: int) -> float:
    """Steps per second of a history that has the server to itself."""
    durations = setting.durations
    async with (
        await Load.on_server(server.address, DEFAULT, HISTORY, f"alone-{number}") as history,
        history.running(drain=False),
    ):
        await asyncio.sleep(durations.warmup_s)
        found = await history.window(durations.slice_s, server.cpu_s)
        return found.row_steps / found.wall_s
