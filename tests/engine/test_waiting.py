"""Frames that wait for others run when those are done, whatever was refused in between."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from support.engine_bench import EngineBench
from support.odd_models import counter_package
from support.waiting import eventually
from tidegate.engine.frame import Source
from tidegate.errors import DeadlineExpired
from tidegate.tensor import Array

Maker = Callable[..., EngineBench]

TIME_LIMIT_S = 0.3

LONG = 10_000
"""Steps that take the engine far longer than the time limit."""


def ones(num_rows: int, num_steps: int) -> Array:
    return np.ones((num_rows, num_steps, 2), np.float32)


async def until(condition: Callable[[], bool]) -> None:
    async def is_so() -> bool:
        return condition()

    await eventually(is_so)


async def test_a_step_behind_a_refused_row_of_a_living_frame_runs(tmp_path: Path, make_bench: Maker) -> None:
    bench = make_bench(counter_package(tmp_path))
    slow, limited = Source(), Source()
    history = bench.submit([1], ones(1, 80), source=slow)
    slow.congested = True
    deadline_s = time.monotonic() + TIME_LIMIT_S
    both = bench.submit([1, 2], ones(2, LONG), source=limited, deadline_s=deadline_s)
    await until(lambda: bool(both.parts))
    limited.congested = True  # session 2 has begun; session 1 waits for its history
    await until(lambda: time.monotonic() > deadline_s)
    limited.congested = False
    bench.engine.wake()
    await until(lambda: bool(both.errors))
    bench.accepted[1] = 80  # as the refused row is taken back

    step = bench.submit([1], ones(1, 1))
    await bench.until_complete(both)
    slow.congested = False
    bench.engine.wake()
    async with asyncio.timeout(10):
        await bench.until_complete(history, step)

    assert {row: type(e) for row, e in both.errors.items()} == {0: DeadlineExpired}
    assert step.row(0)[0, 0] == 81


async def test_what_has_run_does_not_run_again_after_a_mistake_of_ours(
    tmp_path: Path, make_bench: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench(counter_package(tmp_path))
    mistakes: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: mistakes.append(context))

    def fail(*_: object) -> None:
        monkeypatch.undo()
        raise MemoryError

    monkeypatch.setattr(bench.engine.meter, "batch", fail)
    bench.submit([1], ones(1, 1))
    await until(lambda: bool(mistakes))
    second = bench.submit([1], ones(1, 1))
    async with asyncio.timeout(10):
        await bench.until_complete(second)

    assert bench.engine.next_step[1] == 2
    assert second.row(0)[0, 0] == 2, "each input was counted once"
