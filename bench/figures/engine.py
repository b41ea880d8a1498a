"""What the engine costs beside the arithmetic."""

from __future__ import annotations

import asyncio

from bench.engine import FRAME_ROWS
from bench.models import DEFAULT, LstmShape
from bench.setting import Setting


async def measure_engine(setting: Setting, model: LstmShape = DEFAULT, suffix: str = "") -> None:
    """CPU per row of raw ONNX Runtime on batches of 64 ÷ that of the engine fed with frames of 64."""
    durations = setting.durations
    raw, engine = [], []
    with setting.raw_worker(model) as raw_worker, setting.engine_worker(model) as engine_worker:
        for _ in range(durations.rounds):
            raw.append(await asyncio.to_thread(raw_worker.slice, FRAME_ROWS, durations.slice_s / 2))
            engine.append(await asyncio.to_thread(engine_worker.slice, durations.slice_s / 2))
    setting.found(
        "engine.efficiency" + suffix,
        [r.cpu_s_per_row / e.cpu_s_per_row for r, e in zip(raw, engine, strict=True)],
        raw_cpu_us_per_row=[r.cpu_s_per_row * 1e6 for r in raw],
        engine_cpu_us_per_row=[e.cpu_s_per_row * 1e6 for e in engine],
        engine_rows_per_s=[e.rows / e.wall_s for e in engine],
    )
