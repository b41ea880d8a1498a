"""Sequences at the Open Inference door: what a request costs, and what storing before the answer costs."""

from __future__ import annotations

import asyncio

from bench.inference import load_on_echo, load_on_server
from bench.load import LoadSlice
from bench.models import DEFAULT
from bench.raw import cpu_s_per_row
from bench.setting import Setting

NUM_SEQUENCES = 16
"""On one stream, one request of each in flight."""

BACKGROUND = ("--sequence-durability", "background")
BEFORE_ANSWER = ("--sequence-durability", "before-answer")


async def measure_sequences(setting: Setting) -> None:
    """CPU of echo + raw ÷ CPU of the server, per request; and the rate with store-before-answer ÷ without."""
    durations = setting.durations
    ours: list[LoadSlice] = []
    durable: list[LoadSlice] = []
    echoed: list[LoadSlice] = []
    batches: list[float] = []
    raw_s: list[float] = []
    with (
        setting.raw_worker(DEFAULT) as raw,
        setting.echo() as echo,
        setting.server(DEFAULT, *BACKGROUND, name="background") as server,
        setting.server(DEFAULT, *BEFORE_ANSWER, name="before-answer") as durable_server,
    ):
        async with (
            await load_on_server(server.address, DEFAULT, NUM_SEQUENCES) as load,
            await load_on_server(durable_server.address, DEFAULT, NUM_SEQUENCES) as durable_load,
            await load_on_echo(echo.address, DEFAULT, NUM_SEQUENCES) as echo_load,
        ):
            for _ in range(durations.rounds):
                before = await asyncio.to_thread(server.batches)
                ours.append(await load.measure(durations.slice_s, durations.warmup_s, server.cpu_s))
                after = await asyncio.to_thread(server.batches)
                batches.append((after.rows - before.rows) / (after.runs - before.runs))
                durable.append(
                    await durable_load.measure(durations.slice_s, durations.warmup_s, durable_server.cpu_s)
                )
                echoed.append(await echo_load.measure(durations.slice_s, durations.warmup_s, echo.cpu_s))
                raw_s.append(await asyncio.to_thread(cpu_s_per_row, raw, batches[-1], durations.raw_s))
    rates, durable_rates = ([s.frames / s.wall_s for s in slices] for slices in (ours, durable))
    setting.found(
        "oip.efficiency",
        [(e.cpu_s_per_frame + r) / o.cpu_s_per_frame for o, e, r in zip(ours, echoed, raw_s, strict=True)],
        mean_batch=batches,
        server_cpu_us_per_request=[o.cpu_s_per_frame * 1e6 for o in ours],
        echo_cpu_us_per_message=[e.cpu_s_per_frame * 1e6 for e in echoed],
        raw_cpu_us_per_row=[r * 1e6 for r in raw_s],
        server_cores_busy=[o.server_cpu_s / o.wall_s for o in ours],
        load_cores_busy=[o.load_cpu_s / o.wall_s for o in ours],
    )
    setting.found(
        "oip.durable",
        [d / r for d, r in zip(durable_rates, rates, strict=True)],
        requests_per_s=rates,
        durable_requests_per_s=durable_rates,
        durable_cpu_us_per_request=[d.cpu_s_per_frame * 1e6 for d in durable],
        p50_us=[o.percentile_s(50) * 1e6 for o in ours],
        durable_p50_us=[d.percentile_s(50) * 1e6 for d in durable],
    )
