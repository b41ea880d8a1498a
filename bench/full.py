"""What `make bench-full` adds: two published shapes, and a sweep over streams, rows and sessions.

Nothing here has a goal. The shapes are those of STAC-ML Markets (Inference): LSTM_A has 2 layers of 100
and 100 features, LSTM_B 3 layers of 200 and 250 features.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure as Drawing
from rich.console import Console

from bench import table
from bench.figures.engine import measure_engine
from bench.figures.frames import measure_frames
from bench.load import Load, LoadShape
from bench.models import DEFAULT, STAC_A, STAC_B
from bench.setting import Figure, Numbers, Setting

STREAMS = (1, 4, 16, 64)
ROWS = (1, 4, 16, 64, 256, 1024)
SESSIONS = (20_000, 60_000)
IN_FLIGHT = 4
"""Frames in flight over all streams, or one per stream where there are more streams."""


@dataclass(frozen=True)
class Point:
    """One point of the sweep.

    Attributes:
        steps_per_s: Session-steps per second.
        cpu_us_per_step: CPU-microseconds of the server for one of them.
        p50_us: Half of the frames were answered within this time.
        p99_us: And all but one in a hundred within this.
    """

    streams: int
    rows: int
    sessions: int
    steps_per_s: float
    cpu_us_per_step: float
    p50_us: float
    p99_us: float


async def measure_full(setting: Setting, machine: Numbers, results: Path, console: Console) -> None:
    """Measure, print, and write `full.json`, `full-raw.json` and `sweep.png` to `results`."""
    figures: list[Figure] = []

    def report(figure: Figure) -> None:
        figures.append(figure)
        console.print(table.line(figure))

    setting.report = report
    setting.raw.clear()
    for model in (STAC_A, STAC_B):
        await measure_engine(setting, model, f".{model.name}")
        await measure_frames(setting, model, f".{model.name}")
    points = await _sweep(setting, console)
    setting.raw["sweep"] = {"points": [vars(p) for p in points]}
    table.show(figures, "Other shapes", console)
    table.write(results / "full.json", figures, machine, setting.raw)
    await asyncio.to_thread(draw, points, results / "sweep.png", str(machine["cpu"]))


async def _sweep(setting: Setting, console: Console) -> list[Point]:
    """One slice for each combination."""
    points = []
    for sessions in SESSIONS:
        for streams in STREAMS:
            for rows in ROWS:
                shape = LoadShape(streams, max(1, IN_FLIGHT // streams), rows, sessions)
                if shape.streams * shape.in_flight * shape.rows <= sessions // 2:
                    point = await _point(setting, shape)
                    points.append(point)
                    console.print(
                        f"{streams:3} streams  {rows:5} rows  {sessions:6} sessions"
                        f"  {point.steps_per_s:9,.0f} steps/s  {point.cpu_us_per_step:6.1f} µs CPU per step"
                    )
    return points


async def _point(setting: Setting, shape: LoadShape) -> Point:
    durations = setting.durations
    with setting.server(DEFAULT) as server:
        async with await Load.on_server(server.address, DEFAULT, shape) as load:
            found = await load.measure(durations.slice_s / 2, durations.warmup_s, server.cpu_s)
    return Point(
        streams=shape.streams,
        rows=shape.rows,
        sessions=shape.sessions,
        steps_per_s=found.row_steps / found.wall_s,
        cpu_us_per_step=found.server_cpu_s / found.row_steps * 1e6,
        p50_us=found.percentile_s(50) * 1e6,
        p99_us=found.percentile_s(99) * 1e6,
    )


def draw(points: list[Point], path: Path, machine: str) -> None:
    """Draw steps per second over rows, a line for each number of streams and of sessions."""
    drawing = Drawing(figsize=(12, 5), layout="constrained")
    rates, latencies = drawing.subplots(1, 2)
    styles = dict(zip(SESSIONS, ("-", "--"), strict=True))
    for sessions in SESSIONS:
        for color, streams in enumerate(STREAMS):
            line = [p for p in points if (p.streams, p.sessions) == (streams, sessions)]
            rows = [p.rows for p in line]
            look = {"color": f"C{color}", "linestyle": styles[sessions], "marker": "."}
            label = f"{streams} streams, {sessions:,} sessions"
            rates.plot(rows, [p.steps_per_s for p in line], label=label, **look)
            latencies.plot(rows, [p.p99_us / 1000 for p in line], label=label, **look)
    rates.set(title=f"{machine}, LSTM 2×128", ylabel="session-steps per second")
    latencies.set(title="99 % of the frames are answered within", ylabel="milliseconds")
    for axes in (rates, latencies):
        axes.set(xscale="log", yscale="log", xlabel="rows per frame")
        axes.grid(visible=True, which="both", alpha=0.3)
    rates.legend(fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    drawing.savefig(path, dpi=120)
