"""Dropping what waits for sessions, also while a batch runs in the engine's thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np

from support.engine_bench import EngineBench
from support.odd_models import counter_package
from tidegate.engine.frame import Source
from tidegate.errors import Displaced, SessionNotFound
from tidegate.tensor import Array

Maker = Callable[..., EngineBench]


def ones(num_rows: int, num_steps: int) -> Array:
    return np.ones((num_rows, num_steps, 2), np.float32)


def dropped(expected: int) -> Displaced:
    return Displaced("dropped", next_step=expected)


async def test_dropping_refuses_what_waits_and_nothing_else(tmp_path: Path, make_bench: Maker) -> None:
    bench = make_bench(counter_package(tmp_path))
    answers = bench.submit([1, 2], ones(2, 1))

    bench.engine.drop(np.array([2], np.int32), dropped)
    await bench.until_complete(answers)

    assert {row: e.facts for row, e in answers.errors.items()} == {1: {"next_step": 0}}
    assert answers.row(0)[0, 0] == 1
    assert bench.engine.next_step[1:3].tolist() == [1, 0]


async def test_what_runs_when_it_is_dropped_is_applied_and_goes_no_further(
    tmp_path: Path, make_bench: Maker, in_thread: None
) -> None:
    bench = make_bench(counter_package(tmp_path), max_slice_steps=4)
    history, behind = bench.submit([1], ones(1, 9)), bench.submit([1], ones(1, 1))
    await bench.batch_starts(1)

    bench.engine.drop(np.array([1], np.int32), dropped)

    assert behind.errors[0].facts == {"next_step": 4}
    assert history.parts == []
    await bench.until_complete(history)
    assert history.row(0)[:, 0].tolist() == [1, 2, 3, 4]
    assert history.errors[0].facts == {"next_step": 4}
    assert bench.engine.next_step[1] == 4


async def test_rows_sent_after_a_drop_are_not_dropped(
    tmp_path: Path, make_bench: Maker, in_thread: None
) -> None:
    bench = make_bench(counter_package(tmp_path))
    running = bench.submit([1], ones(1, 1))
    await bench.batch_starts(1)

    bench.engine.drop(np.array([1, 2], np.int32), dropped)
    later = bench.submit([2], ones(1, 1))
    await bench.until_complete(running, later)

    assert running.errors == later.errors == {}


async def test_rows_sent_behind_a_running_history_that_is_dropped_are_refused_with_it(
    tmp_path: Path, make_bench: Maker, in_thread: None
) -> None:
    bench = make_bench(counter_package(tmp_path), max_slice_steps=4)
    history = bench.submit([1], ones(1, 9))
    await bench.batch_starts(1)
    bench.engine.drop(np.array([1], np.int32), dropped)

    later = bench.submit([1], ones(1, 1))
    await bench.until_complete(history, later)

    assert later.errors[0].facts == {"expected_step": 4}


async def test_settling_waits_for_the_batch_that_holds_a_session(
    tmp_path: Path, make_bench: Maker, in_thread: None
) -> None:
    bench = make_bench(counter_package(tmp_path))
    answers, called = bench.submit([1], ones(1, 1)), []
    await bench.batch_starts(1)

    bench.engine.when_settled(np.array([2], np.int32), lambda: called.append("2"))
    bench.engine.when_settled(np.array([1], np.int32), lambda: called.append("1"))
    assert called == ["2"]
    await bench.engine.settle(np.array([1], np.int32))

    assert answers.complete
    assert called == ["2", "1"]


async def test_whoever_waits_for_progress_hears_of_refusals_too(tmp_path: Path, make_bench: Maker) -> None:
    bench, source = make_bench(counter_package(tmp_path)), Source()
    source.paused = True
    answers = bench.submit([1], ones(1, 1), source=source)
    waiter = asyncio.create_task(bench.engine.progress())
    await asyncio.sleep(0)

    bench.engine.drop(np.array([1], np.int32), lambda _: SessionNotFound("ended"))
    await waiter

    assert isinstance(answers.errors[0], SessionNotFound)
