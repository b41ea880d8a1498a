"""Frames of 256 rows over gRPC: what they cost, and how many steps a second come out."""

from __future__ import annotations

import asyncio

from bench.load import Load, LoadShape, LoadSlice
from bench.models import DEFAULT, LstmShape
from bench.raw import RawSlice, RawWorker
from bench.setting import Setting

SHAPE = LoadShape(streams=4, in_flight=4, rows=256, sessions=10_000)
BATCHES = (32, 64, 128, 256, 512, 1024)
"""Where raw ONNX Runtime's best batch is looked for."""


async def measure_frames(setting: Setting, model: LstmShape = DEFAULT, suffix: str = "") -> None:
    """CPU of echo + raw ÷ CPU of the server, and the server's rate ÷ raw's at its best batch."""
    durations = setting.durations
    ours: list[LoadSlice] = []
    floor: list[LoadSlice] = []
    same: list[RawSlice] = []
    best: list[RawSlice] = []
    with setting.raw_worker(model) as raw, setting.server(model) as server, setting.echo() as echo:
        best_batch = await asyncio.to_thread(_best_batch, raw, durations.raw_s / 2)
        async with (
            await Load.on_server(server.address, model, SHAPE) as load,
            await Load.on_echo(echo.address, model, SHAPE) as echo_load,
        ):
            for _ in range(durations.rounds):
                ours.append(await load.measure(durations.slice_s, durations.warmup_s, server.cpu_s))
                floor.append(await echo_load.measure(durations.slice_s, durations.warmup_s, echo.cpu_s))
                same.append(await asyncio.to_thread(raw.slice, SHAPE.rows, durations.raw_s))
                best.append(await asyncio.to_thread(raw.slice, best_batch, durations.raw_s))
    rates = [o.row_steps / o.wall_s for o in ours]
    setting.found(
        "frames.efficiency" + suffix,
        [
            (f.cpu_s_per_frame + SHAPE.rows * r.cpu_s_per_row) / o.cpu_s_per_frame
            for o, f, r in zip(ours, floor, same, strict=True)
        ],
        server_cpu_us_per_frame=[o.cpu_s_per_frame * 1e6 for o in ours],
        echo_cpu_us_per_frame=[f.cpu_s_per_frame * 1e6 for f in floor],
        raw_cpu_us_per_frame=[r.cpu_s_per_row * SHAPE.rows * 1e6 for r in same],
        server_cores_busy=[o.server_cpu_s / o.wall_s for o in ours],
        load_cores_busy=[o.load_cpu_s / o.wall_s for o in ours],
    )
    setting.found(
        "frames.rate" + suffix,
        [rate / b.rows_per_s for rate, b in zip(rates, best, strict=True)],
        steps_per_s=rates,
        raw_rows_per_s=[b.rows_per_s for b in best],
        raw_best_batch=best_batch,
    )


def _best_batch(raw: RawWorker, duration_s: float) -> int:
    return max(BATCHES, key=lambda batch: raw.slice(batch, duration_s).rows_per_s)
