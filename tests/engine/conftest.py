"""Engines with real runners on small packages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from support.engine_bench import EngineBench
from support.pools import OPTIONS
from tidegate.engine.pool import ModelPool
from tidegate.repository.repository import Repository
from tidegate.telemetry.metrics import Metrics


@pytest.fixture
def make_bench() -> Iterator[Callable[..., EngineBench]]:
    """Makes engines, and stops their threads."""
    made: list[EngineBench] = []

    def make(
        package: Path, *, max_batch_size: int = 4, max_slice_steps: int = 4, delay_us: int = 0
    ) -> EngineBench:
        made.append(
            EngineBench(
                package, max_batch_size=max_batch_size, max_slice_steps=max_slice_steps, delay_us=delay_us
            )
        )
        return made[-1]

    yield make
    for bench in made:
        bench.engine.close()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def pool(tmp_path: Path, metrics: Metrics) -> AsyncIterator[ModelPool]:
    """A pool on the test's own folder."""
    pool = ModelPool(Repository(tmp_path), OPTIONS, metrics)
    yield pool
    pool.close()
