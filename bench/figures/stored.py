"""A million stored sessions: how fast they are stored again, and how fast a server starts with them."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bench.figures.start import start_once
from bench.models import DEFAULT
from bench.setting import Setting
from bench.storing import StoreSlice

PARTS = 5
"""The sessions are stored again in so many parts; a part is a round."""


async def measure_stored(setting: Setting) -> None:
    """Sessions stored per second, then seconds to SERVING, with the store that this leaves."""
    store = setting.folder / "million" / "tidegate.db"
    store.parent.mkdir()
    prepared, slices = await asyncio.to_thread(_store, setting, store)
    setting.found(
        "checkpoint.rate",
        [s.sessions_per_s for s in slices],
        cpu_us_per_session=[s.cpu_s / s.sessions * 1e6 for s in slices],
        sessions_per_round=slices[0].sessions,
        **prepared,
    )
    models = setting.package(DEFAULT).parents[1]
    setting.found(
        "start.million",
        [
            await asyncio.to_thread(start_once, setting, models, store)
            for _ in range(setting.durations.rounds)
        ],
        store_mb=store.stat().st_size / 1e6,
    )
    for file in store.parent.iterdir():
        file.unlink()


def _store(setting: Setting, store: Path) -> tuple[dict[str, float], list[StoreSlice]]:
    """Fill the store, and store everything once more."""
    with setting.store_worker(DEFAULT, store, setting.durations.sessions) as worker:
        prepared = worker.prepared()
        slices = [worker.slice(part, PARTS) for part in range(PARTS)]
        worker.close()
    return prepared, slices
