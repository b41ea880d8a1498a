"""Messages of one row from many streams: what each costs."""

from __future__ import annotations

import asyncio

from bench.load import Load, LoadShape, LoadSlice
from bench.models import DEFAULT
from bench.raw import cpu_s_per_row
from bench.setting import Setting

SHAPE = LoadShape(streams=64, in_flight=1, rows=1, sessions=64 * 156)
"""10,000 sessions, as far as 64 divides them."""


async def measure_single(setting: Setting) -> None:
    """CPU of echo + raw at the mean batch reached ÷ CPU of the server, per message."""
    durations = setting.durations
    ours: list[LoadSlice] = []
    echoed: list[LoadSlice] = []
    batches: list[float] = []
    raw_s: list[float] = []
    with setting.raw_worker(DEFAULT) as raw, setting.server(DEFAULT) as server, setting.echo() as echo:
        async with (
            await Load.on_server(server.address, DEFAULT, SHAPE) as load,
            await Load.on_echo(echo.address, DEFAULT, SHAPE) as echo_load,
        ):
            for _ in range(durations.rounds):
                before = await asyncio.to_thread(server.batches)
                ours.append(await load.measure(durations.slice_s, durations.warmup_s, server.cpu_s))
                after = await asyncio.to_thread(server.batches)
                batches.append((after.rows - before.rows) / (after.runs - before.runs))
                echoed.append(await echo_load.measure(durations.slice_s, durations.warmup_s, echo.cpu_s))
                raw_s.append(await asyncio.to_thread(cpu_s_per_row, raw, batches[-1], durations.raw_s))
    setting.found(
        "single.efficiency",
        [(e.cpu_s_per_frame + r) / o.cpu_s_per_frame for o, e, r in zip(ours, echoed, raw_s, strict=True)],
        mean_batch=batches,
        server_cpu_us_per_message=[o.cpu_s_per_frame * 1e6 for o in ours],
        echo_cpu_us_per_message=[e.cpu_s_per_frame * 1e6 for e in echoed],
        raw_cpu_us_per_row=[r * 1e6 for r in raw_s],
        messages_per_s=[o.frames / o.wall_s for o in ours],
        echo_messages_per_s=[e.frames / e.wall_s for e in echoed],
        server_cores_busy=[o.server_cpu_s / o.wall_s for o in ours],
        echo_cores_busy=[e.server_cpu_s / e.wall_s for e in echoed],
        load_cores_busy=[o.load_cpu_s / o.wall_s for o in ours],
    )
