"""Detached sessions leave memory for the store, and come back by themselves."""

from __future__ import annotations

import asyncio

import pytest

from support.session_bench import LIMITS, MAX_SESSIONS, SessionBench
from support.session_clients import StreamClient, outcome_of, series
from support.waiting import until
from tidegate.errors import ArenaFull
from tidegate.protocol.lifecycle import Condition
from tidegate.session import opening as opening_module
from tidegate.session.copying import copy_state
from tidegate.session.open_request import OpenMode

CREATE = OpenMode.CREATE


async def detached(bench: SessionBench, *session_ids: str, steps: int = 1) -> None:
    """Leave sessions behind, the first one longest ago, each with a sum of its steps."""
    client = bench.client()
    for session_id in session_ids:
        handles = (await client.open(session_id)).handles
        await client.steps(handles[0], 0, [1.0] * steps)
        await client.close(*handles)
    client.leave()


async def passivated(bench: SessionBench, session_id: str, *, steps: int = 2) -> None:
    await detached(bench, session_id, steps=steps)
    bench.grow_idle(session_id)
    await bench.manager.tidy()
    assert await bench.condition(session_id) is Condition.PASSIVATED


async def held_full(client: StreamClient, count: int) -> list[int]:
    return (await client.open(*(f"held{i}" for i in range(count)))).handles


async def test_an_idle_session_leaves_memory_and_nothing_of_it_is_lost(bench: SessionBench) -> None:
    await detached(bench, "a", "b", steps=3)
    bench.grow_idle("a")

    await bench.manager.tidy()

    assert bench.in_memory() == {"b"}
    view = await bench.caller().calls.view("a")
    assert (view.condition, view.next_step) == (Condition.PASSIVATED, 3)
    assert bench.value("tidegate_passivations_total", reason="idle") == 1


async def test_a_passivated_session_comes_back_by_a_resume(bench: SessionBench) -> None:
    await passivated(bench, "a")
    client = bench.client()

    taken = await client.resume("a")

    assert taken.next_steps == [2]
    assert await client.steps(taken.handles[0], 2, [5]) == [7]
    assert bench.value("tidegate_returns_total", model="counter", version="1") == 1


async def test_a_passivated_session_comes_back_by_a_single_call(bench: SessionBench) -> None:
    await passivated(bench, "a")

    assert await bench.caller().step("a", 2, [5]) == ([7], 3)
    assert await bench.condition("a") is Condition.DETACHED


async def test_a_passivated_session_comes_back_for_a_look(bench: SessionBench) -> None:
    await passivated(bench, "a")

    copy = await copy_state(bench.manager.returner, "a")

    assert (copy.next_step, copy.states[0].ravel().tolist()) == (2, [2, 2])


async def test_a_session_goes_and_comes_back_as_often_as_it_likes(bench: SessionBench) -> None:
    caller = bench.caller()
    await caller.step("a", 0, [1], mode=CREATE)

    for step in range(1, 8):
        bench.grow_idle("a")
        await bench.manager.tidy()
        assert await caller.step("a", step, [1]) == ([step + 1], step + 1)


async def test_a_version_unloaded_meanwhile_is_loaded_for_a_session_that_returns(bench: SessionBench) -> None:
    await passivated(bench, "a")
    bench.manager.unload(bench.pool.models()[0])

    assert await bench.caller().step("a", 2, [5]) == ([7], 3)


async def test_a_full_arena_makes_room_from_the_sessions_used_longest_ago(bench: SessionBench) -> None:
    ids = [f"s{i}" for i in range(MAX_SESSIONS)]
    await detached(bench, *ids)
    client = bench.client()

    result = await client.open("x", "y")

    assert result.errors == {}
    assert bench.in_memory() == {"x", "y", *ids[2:]}
    assert bench.value("tidegate_passivations_total", reason="room") == 2
    assert (await client.resume("s0")).next_steps == [1]


async def test_more_sessions_than_slots_serve_everybody_in_turn(bench: SessionBench) -> None:
    caller, ids = bench.caller(), [f"s{i}" for i in range(2 * MAX_SESSIONS)]

    for step in range(3):
        for i, session_id in enumerate(ids):
            mode = CREATE if step == 0 else OpenMode.RESUME
            answer, _ = await caller.step(session_id, step, [i], mode=mode)
            assert answer == [i * (step + 1)]

    assert len(bench.in_memory()) == MAX_SESSIONS


async def test_attached_sessions_stay_whatever_happens(bench: SessionBench) -> None:
    client = bench.client()
    handles = await held_full(client, MAX_SESSIONS)
    bench.grow_idle(*bench.in_memory())

    await bench.manager.tidy()
    refused = await bench.client().open("x")

    assert outcome_of(refused) is ArenaFull
    assert len(bench.in_memory()) == MAX_SESSIONS
    assert await client.steps(handles[0], 0, [1]) == [1]


async def test_room_is_made_from_the_next_oldest_where_the_oldest_is_at_work(
    bench: SessionBench, in_thread: None
) -> None:
    await detached(bench, "oldest", "held", "next")
    await bench.checkpoint()  # or "next" would wait for the batch that runs
    await held_full(bench.client(), MAX_SESSIONS - 3)
    with bench.engine_stalls():
        call = asyncio.create_task(bench.caller().step("oldest", 1, [1]))
        await until(lambda: bench.runs("oldest"))
        bench.grow_idle("oldest")
        async with bench.manager.holds.take(["held"]):
            opening = asyncio.create_task(bench.client().open("x"))
            await until(lambda: "x" in bench.in_memory() or opening.done())
    result = await opening

    assert result.errors == {}
    assert await call == ([2], 2)
    assert {"oldest", "held", "x"} <= bench.in_memory()
    assert await bench.condition("next") is Condition.PASSIVATED


async def test_a_session_whose_steps_wait_stays(bench: SessionBench, in_thread: None) -> None:
    client = bench.client()
    handles = (await client.open("a")).handles
    with bench.engine_stalls():
        sent = client.send(handles, [0], series([1]))
        await until(lambda: bench.runs("a"))
        client.leave()
        bench.grow_idle("a")

        tidying = asyncio.create_task(bench.manager.tidy())
        await until(lambda: bench.is_held("a"))
    await tidying
    await sent.done.wait()

    assert (await bench.client().resume("a")).next_steps == [1]


async def test_a_session_that_somebody_works_on_stays(bench: SessionBench) -> None:
    await detached(bench, "a", "b")
    bench.grow_idle("a", "b")

    async with bench.manager.holds.take(["a"]):
        await bench.manager.tidy()

    assert bench.in_memory() == {"a"}


async def test_a_session_used_while_it_is_being_stored_stays(bench: SessionBench) -> None:
    await detached(bench, "a")
    bench.grow_idle("a")
    with bench.store_stalls():
        tidying = asyncio.create_task(bench.manager.tidy())
        await until(lambda: bench.is_held("a"))
        resume = asyncio.create_task(bench.client().resume("a"))
    await tidying

    assert (await resume).next_steps == [1]
    assert await bench.condition("a") is Condition.ATTACHED


async def test_a_store_that_fails_keeps_sessions_in_memory(bench: SessionBench) -> None:
    await detached(bench, "a")
    bench.grow_idle("a")

    with bench.store_refuses():
        await bench.manager.tidy()
        assert bench.in_memory() == {"a"}
        assert await bench.caller().step("a", 1, [1]) == ([2], 2)
    bench.grow_idle("a")
    await bench.manager.tidy()

    assert bench.in_memory() == set()
    assert await bench.caller().step("a", 2, [1]) == ([3], 3)


async def test_a_full_arena_refuses_while_the_store_fails(bench: SessionBench) -> None:
    await detached(bench, *(f"s{i}" for i in range(MAX_SESSIONS)))

    with bench.store_refuses():
        refused = await bench.client().open("x")

    assert outcome_of(refused) is ArenaFull
    assert refused.errors[0].retry_after_s == LIMITS.retry_after_s  # type: ignore[attr-defined]
    assert outcome_of(await bench.client().open("x")) == 0


async def test_an_id_used_anew_while_its_old_session_still_runs_leaves_memory_once(
    bench: SessionBench, in_thread: None
) -> None:
    client = bench.client()
    handles = (await client.open("a")).handles
    with bench.engine_stalls():
        client.send(handles, [0], series([1]))
        await until(lambda: bench.runs("a"))
        old = bench.place("a")
        client.leave()
        ending = asyncio.create_task(bench.manager.end_session("a"))
        await until(lambda: bench.in_memory() == set())
        newer = bench.client()
        await newer.close(*(await newer.open("a")).handles)
        old.table.last_used_s[old.slot] = 0.0
        bench.grow_idle("a")

        await bench.manager.tidy()

        assert bench.in_memory() == set()
    assert await ending == 1
    assert old.table.num_sessions == 0


@pytest.mark.parametrize("steps", [0, 3])
async def test_a_session_without_steps_is_passivated_too(bench: SessionBench, steps: int) -> None:
    client = bench.client()
    handles = (await client.open("a")).handles
    if steps:
        await client.steps(handles[0], 0, [1.0] * steps)
    await client.close(*handles)
    bench.grow_idle("a")

    await bench.manager.tidy()

    assert bench.in_memory() == set()
    assert (await client.resume("a")).next_steps == [steps]


async def test_an_open_in_pieces_makes_room_for_all_of_them(
    bench: SessionBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening_module, "PIECE", 2)
    client = bench.client()
    older = await client.open(*[f"old-{i}" for i in range(MAX_SESSIONS)])
    await client.close(*older.handles)

    newer = await client.open(*[f"new-{i}" for i in range(MAX_SESSIONS)])
    await client.close(*newer.handles)
    again = await client.resume(*[f"old-{i}" for i in range(MAX_SESSIONS)])

    assert newer.errors == again.errors == {}
