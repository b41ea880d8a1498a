"""What checkpoints cost a server that is busy."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from bench.figures.frames import SHAPE
from bench.load import Load, LoadSlice
from bench.models import DEFAULT
from bench.setting import Setting

NEVER = ("--checkpoint-age-s", "86400")
"""Nothing is stored within a day."""


async def measure_checkpoint(setting: Setting) -> None:
    """CPU per frame of a server that stores nothing ÷ that of one with its shipped store; both get acks."""
    durations = setting.durations
    shape = replace(SHAPE, acks=True)
    bare: list[LoadSlice] = []
    stored: list[LoadSlice] = []
    states_per_s: list[float] = []
    with (
        setting.server(DEFAULT, *NEVER, name="bare", store="memory:") as bare_server,
        setting.server(DEFAULT) as server,
    ):
        async with (
            await Load.on_server(bare_server.address, DEFAULT, shape) as bare_load,
            await Load.on_server(server.address, DEFAULT, shape) as load,
        ):
            for _ in range(durations.rounds):
                bare.append(await bare_load.measure(durations.slice_s, durations.warmup_s, bare_server.cpu_s))
                before = await asyncio.to_thread(server.states_stored)
                stored.append(await load.measure(durations.slice_s, durations.warmup_s, server.cpu_s))
                after = await asyncio.to_thread(server.states_stored)
                states_per_s.append((after - before) / (durations.slice_s + durations.warmup_s))
    setting.found(
        "checkpoint.overhead",
        [b.cpu_s_per_frame / s.cpu_s_per_frame for b, s in zip(bare, stored, strict=True)],
        bare_cpu_us_per_frame=[b.cpu_s_per_frame * 1e6 for b in bare],
        cpu_us_per_frame=[s.cpu_s_per_frame * 1e6 for s in stored],
        bare_frames_per_s=[b.frames / b.wall_s for b in bare],
        frames_per_s=[s.frames / s.wall_s for s in stored],
        states_stored_per_s=states_per_s,
    )
