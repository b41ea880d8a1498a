"""Windows from the initial state, on borrowed slots."""

from __future__ import annotations

import asyncio
from weakref import WeakKeyDictionary

import numpy as np
import pytest

from support.session_bench import LIMITS, MAX_SESSIONS, SessionBench
from support.waiting import until
from tidegate.engine.frame import Source
from tidegate.engine.pool import LoadedModel
from tidegate.errors import (
    ArenaFull,
    DeadlineExpired,
    MessageTooLarge,
    ModelInUse,
    ServerStopping,
)
from tidegate.session.open_request import OpenMode
from tidegate.session.windows import Windows
from tidegate.tensor import Array

# A server has one, so a bench has one.
WINDOWS: WeakKeyDictionary[SessionBench, Windows] = WeakKeyDictionary()


def counts(num_windows: int, num_steps: int) -> Array:
    """Inputs of the counter, each window with numbers of its own."""
    steps = np.arange(num_windows * num_steps, dtype=np.float32).reshape(num_windows, num_steps, 1)
    return np.repeat(steps, 2, axis=2)


async def run(
    bench: SessionBench, x: Array, *, model: str = "counter", time_limit_s: float | None = None
) -> Array:
    loaded = await bench.pool.resolve(model)
    windows = WINDOWS.setdefault(bench, Windows(bench.manager))
    (y,) = await windows.run(loaded, [x], source=Source(), time_limit_s=time_limit_s)
    return y


async def free_slots(bench: SessionBench) -> int:
    return bench.manager.registry.table_of(await bench.pool.resolve("counter")).pool.num_free


@pytest.mark.parametrize("num_windows", [1, 3, MAX_SESSIONS, LIMITS.max_frame_rows])
@pytest.mark.parametrize("num_steps", [1, 3, 30])
async def test_every_window_begins_at_the_initial_state(
    bench: SessionBench, num_windows: int, num_steps: int
) -> None:
    x = counts(num_windows, num_steps)

    first, second = await run(bench, x), await run(bench, x)

    np.testing.assert_array_equal(first, x.cumsum(axis=1))
    np.testing.assert_array_equal(second, first)
    assert await free_slots(bench) == MAX_SESSIONS


async def test_windows_and_sessions_leave_one_another_alone(bench: SessionBench) -> None:
    caller = bench.caller()
    await caller.step("a", 0, [1, 2], mode=OpenMode.CREATE)

    y, answers = await asyncio.gather(run(bench, counts(5, 20)), caller.step("a", 2, [4] * 20))

    np.testing.assert_array_equal(y, counts(5, 20).cumsum(axis=1))
    assert answers == ([7 + 4 * i for i in range(20)], 22)


async def test_a_step_does_not_wait_for_the_end_of_long_windows(bench: SessionBench) -> None:
    caller = bench.caller()
    await caller.step("a", 0, [1], mode=OpenMode.CREATE)
    windows = asyncio.create_task(run(bench, counts(4, 60)))
    await until(lambda: bench.manager.registry.tables()[0].num_borrowed)

    await caller.step("a", 1, [1])

    assert not windows.done()
    await windows


async def test_borrowed_slots_are_no_sessions(bench: SessionBench) -> None:
    windows = asyncio.create_task(run(bench, counts(4, 60)))
    await until(lambda: bench.manager.registry.tables() and bench.manager.registry.tables()[0].num_borrowed)

    bench.manager.check_integrity()
    assert bench.manager.registry.tables()[0].num_sessions == 0
    await bench.checkpoint()
    assert await bench.manager.keeper.read(lambda store: store.page("", "", 10)) == []
    await windows


async def test_a_version_with_windows_at_work_cannot_be_unloaded(bench: SessionBench) -> None:
    windows = asyncio.create_task(run(bench, counts(4, 60)))
    await until(lambda: bench.manager.registry.tables() and bench.manager.registry.tables()[0].num_borrowed)

    with pytest.raises(ModelInUse):
        bench.manager.unload(await bench.pool.resolve("counter"))
    await windows

    bench.manager.unload(await bench.pool.resolve("counter"))


async def test_windows_find_room_where_idle_sessions_can_leave(bench: SessionBench) -> None:
    caller = bench.caller()
    for name in "abcdef":
        await caller.step(name, 0, [1], mode=OpenMode.CREATE)

    y = await run(bench, counts(2, 3))

    np.testing.assert_array_equal(y, counts(2, 3).cumsum(axis=1))
    assert await caller.step("a", 1, [1]) == ([2], 2)


async def test_without_a_free_slot_windows_are_refused_and_told_when_to_try_again(
    bench: SessionBench,
) -> None:
    client = bench.client()
    await client.open(*"abcdef")

    with pytest.raises(ArenaFull) as caught:
        await run(bench, counts(1, 1))

    assert caught.value.retry_after_s == LIMITS.retry_after_s


@pytest.mark.parametrize(
    ("num_windows", "num_steps", "what"),
    [(LIMITS.max_frame_rows + 1, 1, "windows"), (1, LIMITS.max_frame_steps + 1, "steps")],
)
async def test_more_than_the_server_takes_is_refused(
    bench: SessionBench, num_windows: int, num_steps: int, what: str
) -> None:
    with pytest.raises(MessageTooLarge, match=what):
        await run(bench, counts(num_windows, num_steps))


async def test_nothing_new_is_taken_once_the_server_drains(bench: SessionBench) -> None:
    bench.manager.drain()

    with pytest.raises(ServerStopping):
        await run(bench, counts(1, 1))


async def test_windows_whose_time_has_passed_are_refused(bench: SessionBench) -> None:
    with pytest.raises(DeadlineExpired):
        await run(bench, counts(3, 2), time_limit_s=-1.0)

    assert await free_slots(bench) == MAX_SESSIONS


async def test_windows_that_are_given_up_while_they_run_leave_nothing_behind(
    bench: SessionBench, in_thread: None
) -> None:
    loaded: LoadedModel = await bench.pool.resolve("counter")
    windows = asyncio.create_task(run(bench, counts(4, 60)))
    with bench.engine_stalls():
        await until(lambda: loaded.engine._running)
        windows.cancel()
        await asyncio.wait([windows])
        assert await free_slots(bench) == MAX_SESSIONS - 3, "slots were freed under a batch that runs"

    await until(lambda: not loaded.engine.is_busy)
    totals = loaded.engine.meter.totals
    assert (totals.refused.count, totals.answered.count) == (3, 0), "windows ran on slots that they had not"
    assert await free_slots(bench) == MAX_SESSIONS
    assert not loaded.is_in_use
    np.testing.assert_array_equal(await run(bench, counts(6, 2)), counts(6, 2).cumsum(axis=1))


async def test_windows_of_a_batched_model_answer_as_they_do_alone(bench: SessionBench) -> None:
    x = np.random.default_rng(5).normal(size=(5, 9, 3)).astype(np.float32)

    together = await run(bench, x, model="lstm")
    alone = [await run(bench, x[i : i + 1], model="lstm") for i in range(5)]

    assert together.tobytes() == np.concatenate(alone).tobytes()


async def test_windows_leave_half_of_the_slots_to_sessions_and_wait_for_one_another(
    bench: SessionBench,
) -> None:
    requests = [asyncio.create_task(run(bench, counts(4, 20) + i)) for i in range(10)]
    await until(lambda: bench.manager.registry.tables() and bench.manager.registry.tables()[0].num_borrowed)

    caller = bench.caller()
    for name in "abc":
        await caller.step(name, 0, [1], mode=OpenMode.CREATE)

    for i, request in enumerate(requests):
        np.testing.assert_array_equal(await request, (counts(4, 20) + i).cumsum(axis=1))


async def test_windows_that_wait_for_slots_and_are_given_up_leave_the_others_their_turn(
    bench: SessionBench,
) -> None:
    requests = [asyncio.create_task(run(bench, counts(3, 20))) for _ in range(5)]
    await until(lambda: bench.manager.registry.tables() and bench.manager.registry.tables()[0].num_borrowed)
    for request in requests[1:4]:
        request.cancel()

    done = await asyncio.gather(*requests, return_exceptions=True)

    assert [isinstance(d, asyncio.CancelledError) for d in done] == [False, True, True, True, False]
    assert await free_slots(bench) == MAX_SESSIONS


async def test_windows_take_no_room_that_was_made_for_sessions(bench: SessionBench) -> None:
    async with bench.manager.passivator.room:
        windows = asyncio.create_task(run(bench, counts(1, 1)))
        await until(lambda: bench.manager.registry.tables())
        for _ in range(20):
            await asyncio.sleep(0)
        assert not windows.done()

    np.testing.assert_array_equal(await windows, counts(1, 1))
