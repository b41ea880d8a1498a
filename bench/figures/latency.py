"""One stream that sends a step, waits for the answer and sends the next."""

from __future__ import annotations

import asyncio

import numpy as np
from numpy.typing import NDArray

from bench.load import Load, LoadShape, LoadSlice
from bench.models import DEFAULT
from bench.setting import Setting

SHAPE = LoadShape(streams=1, in_flight=1, rows=1, sessions=1)
TAIL = 99


async def measure_latency(setting: Setting) -> None:
    """p50, and p99 of all slices together, ÷ the same of the echo + one raw step."""
    durations = setting.durations
    ours: list[LoadSlice] = []
    floor: list[LoadSlice] = []
    step_s: list[float] = []
    with setting.raw_worker(DEFAULT) as raw, setting.server(DEFAULT) as server, setting.echo() as echo:
        async with (
            await Load.on_server(server.address, DEFAULT, SHAPE) as load,
            await Load.on_echo(echo.address, DEFAULT, SHAPE) as echo_load,
        ):
            for _ in range(durations.rounds):
                ours.append(await load.measure(durations.slice_s, durations.warmup_s, server.cpu_s))
                floor.append(await echo_load.measure(durations.slice_s, durations.warmup_s, echo.cpu_s))
                step_s.append((await asyncio.to_thread(raw.slice, 1, durations.raw_s / 2)).median_run_s)
    setting.found(
        "single.latency",
        [o.percentile_s(50) / (f.percentile_s(50) + s) for o, f, s in zip(ours, floor, step_s, strict=True)],
        p50_us=[o.percentile_s(50) * 1e6 for o in ours],
        echo_p50_us=[f.percentile_s(50) * 1e6 for f in floor],
        raw_step_us=[s * 1e6 for s in step_s],
    )
    tail_s, echo_tail_s = _pooled_tail_s(ours), _pooled_tail_s(floor)
    setting.found(
        "single.tail",
        tail_s / (echo_tail_s + float(np.median(step_s))),
        p99_us=tail_s * 1e6,
        echo_p99_us=echo_tail_s * 1e6,
        samples=sum(o.frames for o in ours),
    )


def _pooled_tail_s(slices: list[LoadSlice]) -> float:
    latencies: NDArray[np.float64] = np.concatenate([s.latencies_s for s in slices])
    return float(np.percentile(latencies, TAIL))
