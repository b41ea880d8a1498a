"""What runs between two batches."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from support.engine_bench import EngineBench
from support.odd_models import counter_package
from tidegate.errors import ServerStopping

Maker = Callable[..., EngineBench]


@pytest.fixture
async def bench(tmp_path: Path, make_bench: Maker) -> EngineBench:
    return make_bench(counter_package(tmp_path), max_slice_steps=2)


def ones(num_steps: int) -> np.ndarray:
    return np.ones((1, num_steps, 2), np.float32)


async def test_an_idle_engine_does_an_errand_at_once_and_gives_its_result(bench: EngineBench) -> None:
    threads = [
        await bench.engine.errands.look(threading.current_thread),
        await bench.engine.errands.work(threading.current_thread),
    ]

    assert threads[0] is threading.main_thread()
    assert threads[1].name.startswith("engine-")
    assert not bench.engine.is_busy


@pytest.mark.parametrize("kind", ["look", "work"])
async def test_what_an_errand_raises_reaches_who_asked_and_the_engine_goes_on(
    bench: EngineBench, kind: str
) -> None:
    with pytest.raises(ZeroDivisionError):
        await getattr(bench.engine.errands, kind)(lambda: 1 // 0)

    answers = bench.submit([1], ones(1))
    await bench.until_complete(answers)


async def test_errands_and_batches_take_turns(bench: EngineBench, in_thread: None) -> None:
    order: list[str] = []
    answers = bench.submit([1], ones(10), on_part=lambda part: order.append(f"batch {part.step_offset}"))
    del answers
    errands = [
        asyncio.create_task(bench.engine.errands.work(lambda i=i: order.append(f"errand {i}")))
        for i in range(3)
    ]

    await asyncio.gather(*errands)
    while bench.engine.is_busy:
        await bench.engine.progress()

    assert order == [
        *("batch 0", "errand 0", "batch 2", "errand 1", "batch 4", "errand 2", "batch 6", "batch 8")
    ]


async def test_a_look_sees_the_state_after_whole_steps(bench: EngineBench, in_thread: None) -> None:
    slots = np.array([1], np.int32)
    answers = bench.submit([1], ones(9))

    def look() -> tuple[int, float]:
        assert not bench.engine.holds(slots)
        return int(bench.engine.next_step[1]), float(bench.runner.arena.read(slots)[0][0, 0])

    seen = [await bench.engine.errands.look(look) for _ in range(3)]
    await bench.until_complete(answers)

    assert [state for _, state in seen] == [step for step, _ in seen]
    assert seen[0][0] < 9


async def test_an_errand_that_nobody_waits_for_is_left_out(bench: EngineBench, in_thread: None) -> None:
    done: list[int] = []
    answers = bench.submit([1], ones(4))
    cut_off = asyncio.create_task(bench.engine.errands.work(lambda: done.append(1)))
    kept = asyncio.create_task(bench.engine.errands.work(lambda: done.append(2)))
    await asyncio.sleep(0)

    cut_off.cancel()
    await kept
    await bench.until_complete(answers)

    assert done == [2]


async def test_an_engine_that_stops_refuses_errands(bench: EngineBench, in_thread: None) -> None:
    answers = bench.submit([1], ones(1))
    waiting = asyncio.create_task(bench.engine.errands.look(lambda: 1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert bench.engine.is_busy

    bench.engine.errands.close()

    with pytest.raises(ServerStopping):
        await waiting
    with pytest.raises(ServerStopping):
        await bench.engine.errands.look(lambda: 1)
    await bench.until_complete(answers)


async def test_no_batch_begins_while_an_errand_runs(bench: EngineBench) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        may_end.wait()

    errand = asyncio.create_task(bench.engine.errands.work(work))
    await asyncio.to_thread(begun.wait)
    answers = bench.submit([1], ones(1))
    for _ in range(5):
        await asyncio.sleep(0)
    applied = int(bench.engine.next_step[1])
    may_end.set()
    await errand
    await bench.until_complete(answers)

    assert applied == 0
