"""Detached sessions that nobody uses are given up, and remembered."""

from __future__ import annotations

import asyncio

from support.session_bench import LIMITS, SessionBench
from support.session_clients import StreamClient, outcome_of, series
from tidegate.errors import SessionLost
from tidegate.protocol.lifecycle import Condition
from tidegate.session.open_request import OpenMode


def grow_idle(bench: SessionBench, *session_ids: str) -> None:
    """Let the time limit of detached sessions pass."""
    for session_id in session_ids:
        table, slot = bench.manager.registry.get(session_id)
        table.last_used_s[slot] -= LIMITS.detached_idle_timeout_s + 1


async def opened(client: StreamClient, *session_ids: str) -> list[int]:
    return (await client.open(*session_ids)).handles


async def test_an_idle_session_leaves_a_tombstone_until_it_is_ended(bench: SessionBench) -> None:
    client = bench.client(b"me")
    handles = await opened(client, "a", "b")
    await client.steps(handles[0], 0, [1, 1])
    await client.close(*handles)
    grow_idle(bench, "a")

    assert bench.manager.evict_idle() == 1

    for mode in OpenMode:
        refused = await client.open("a", mode=mode)
        assert outcome_of(refused) is SessionLost
        assert refused.errors[0].facts["next_step"] == 2
    assert await bench.condition("b") is Condition.DETACHED
    assert await bench.manager.end_session("a") == 2
    assert outcome_of(await client.open("a")) == 0


async def test_evictions_are_counted(bench: SessionBench) -> None:
    client = bench.client()
    await client.close(*await opened(client, "a", "b"))
    grow_idle(bench, "a", "b")

    bench.manager.evict_idle()

    value = bench.metrics.registry.get_sample_value
    assert value("tidegate_evictions_total", {"reason": "idle"}) == 2
    assert value("tidegate_tombstones") == 2


async def test_an_attached_session_is_never_evicted(bench: SessionBench) -> None:
    client = bench.client()
    handles = await opened(client, "a")
    grow_idle(bench, "a")

    assert bench.manager.evict_idle() == 0
    assert await client.steps(handles[0], 0, [1]) == [1]


async def test_a_session_that_still_runs_is_not_evicted(bench: SessionBench, in_thread: None) -> None:
    client = bench.client()
    handles = await opened(client, "a")
    sent = client.send(handles, [0], series([1]))
    await asyncio.sleep(0)
    client.leave()
    grow_idle(bench, "a")

    assert bench.manager.evict_idle() == 0
    await sent.done.wait()
    assert bench.manager.evict_idle() == 1
