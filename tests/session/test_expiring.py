"""Sessions that nobody uses for very long are given up, and no others."""

from __future__ import annotations

import asyncio
import time

import numpy as np

from support.session_bench import LIMITS, SessionBench
from support.session_clients import outcome_of
from support.waiting import until
from tidegate.errors import SessionLost
from tidegate.protocol.lifecycle import Condition
from tidegate.session.open_request import OpenMode


async def forget(bench: SessionBench, *numbers: int) -> None:
    """Let the store have heard of sessions very long ago."""
    used_s = np.full(len(numbers), time.time() - 2 * LIMITS.expire_after_s)
    await bench.manager.keeper.write(lambda store: store.touch(np.array(numbers), used_s))


def number(bench: SessionBench, session_id: str) -> int:
    """What the store calls a session in memory."""
    table, slot = bench.place(session_id)
    return int(table.number[slot])


async def test_a_session_that_nobody_uses_for_very_long_leaves_a_tombstone(bench: SessionBench) -> None:
    client = bench.client()
    handles = (await client.open("a", "b")).handles
    await client.steps(handles[0], 0, [1, 1])
    await client.close(*handles)
    client.leave()
    bench.grow_idle("a", by_s=LIMITS.expire_after_s + 1)

    await bench.manager.tidy()

    for mode in OpenMode:
        refused = await bench.client(b"me").open("a", mode=mode)
        bench.manager.remove_stream(next(iter(bench.manager._streams.values())))
        assert outcome_of(refused) is SessionLost
        assert refused.errors[0].facts["next_step"] == 2
        assert "expired: not used since" in str(refused.errors[0])
    assert bench.value("tidegate_losses_total", reason="expired") == 1
    assert await bench.condition("b") is Condition.DETACHED
    assert await bench.manager.end_session("a") == 2
    assert outcome_of(await bench.client().open("a")) == 0


async def test_a_session_in_memory_does_not_expire_though_the_store_has_not_heard_of_it_for_long(
    bench: SessionBench,
) -> None:
    client = bench.client()
    handles = (await client.open("a", "b")).handles
    await forget(bench, number(bench, "a"), number(bench, "b"))

    await client.close(handles[1])  # just used, which the store does not know
    await bench.manager.tidy()

    assert await bench.stored("a") is not None
    assert [(await bench.stored(i)).tombstone for i in ("a", "b")] == [None, None]  # type: ignore[union-attr]
    await client.steps(handles[0], 0, [1])
    await bench.checkpoint()
    assert (await bench.client().resume("b")).next_steps == [0]


async def test_a_session_that_a_stream_held_until_now_is_not_old_once_it_leaves_memory(
    bench: SessionBench,
) -> None:
    client = bench.client()
    handles = (await client.open("a")).handles
    await forget(bench, number(bench, "a"))

    await client.close(*handles)
    await bench.passivate("a")
    await bench.manager.tidy()

    assert await bench.condition("a") is Condition.PASSIVATED


async def test_a_session_does_not_expire_while_it_is_resumed(bench: SessionBench) -> None:
    client = bench.client()
    await client.close(*(await client.open("a")).handles)
    forgotten = number(bench, "a")
    await bench.passivate("a")
    await forget(bench, forgotten)
    with bench.store_stalls():
        resume = asyncio.create_task(client.resume("a"))
        await until(lambda: bench.is_held("a"))
        tidying = asyncio.create_task(bench.manager.tidy())

    assert (await resume).next_steps == [0]
    await tidying
    assert await bench.condition("a") is Condition.ATTACHED
