"""A million live sessions: how long they take to open, what they weigh, and what they do to latency."""

from __future__ import annotations

from bench.load import Load, LoadShape, LoadSlice
from bench.models import DEFAULT
from bench.setting import Setting

ROWS = 256
FEW = 1_000
ALLOWANCE_BYTES = 300e6
"""What a server may weigh beside the states."""


async def measure_million(setting: Setting) -> None:
    """All three figures, once; the frames of the two sides in turns."""
    durations = setting.durations
    many_shape = LoadShape(streams=1, in_flight=1, rows=ROWS, sessions=durations.sessions)
    few_shape = LoadShape(streams=1, in_flight=1, rows=ROWS, sessions=FEW)
    at_many: list[LoadSlice] = []
    at_few: list[LoadSlice] = []
    with (
        setting.server(DEFAULT, "--max-sessions", str(durations.sessions), name="many") as many_server,
        setting.server(DEFAULT, name="few") as few_server,
    ):
        empty_bytes = many_server.rss_bytes()
        async with (
            await Load.on_server(many_server.address, DEFAULT, many_shape) as many,
            await Load.on_server(few_server.address, DEFAULT, few_shape) as few,
        ):
            setting.found("million.open", many.open_s)
            for _ in range(durations.rounds):
                at_many.append(
                    await many.measure(durations.slice_s / 2, durations.warmup_s, many_server.cpu_s)
                )
                at_few.append(await few.measure(durations.slice_s / 2, durations.warmup_s, few_server.cpu_s))
            full_bytes = many_server.rss_bytes()
    setting.found(
        "million.latency",
        [m.percentile_s(50) / f.percentile_s(50) for m, f in zip(at_many, at_few, strict=True)],
        p50_us_at_many=[m.percentile_s(50) * 1e6 for m in at_many],
        p50_us_at_few=[f.percentile_s(50) * 1e6 for f in at_few],
    )
    setting.found(
        "million.memory",
        full_bytes / (durations.sessions * DEFAULT.state_bytes + ALLOWANCE_BYTES),
        rss_mb=full_bytes / 1e6,
        rss_mb_before=empty_bytes / 1e6,
        state_mb=durations.sessions * DEFAULT.state_bytes / 1e6,
    )
