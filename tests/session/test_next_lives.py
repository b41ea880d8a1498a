"""What the next server knows of sessions and their clients."""

from __future__ import annotations

import sqlite3

import numpy as np
import pytest

from support.session_bench import Lives, SessionBench
from support.session_clients import StreamClient, outcome_of
from tidegate.errors import SessionExists, SessionLost, SessionNotFound, StaleAttempt
from tidegate.protocol.lifecycle import Condition
from tidegate.session.open_request import OpenMode

ME, YOU = b"me", b"you"
STORED, LIVE = 7, 9


async def live_a_life(bench: SessionBench) -> StreamClient:
    """Leave a session of which the store has fewer steps than were answered."""
    client = bench.client(ME)
    (handle,) = (await client.open("a", attempt=5)).handles
    await client.steps(handle, 0, [1.0] * STORED)
    await bench.checkpoint()
    await client.steps(handle, STORED, [1.0] * (LIVE - STORED))
    return client


async def test_a_session_is_known_from_its_open_on(lives: Lives) -> None:
    await lives.begin().client().open("a", "b")

    result = await lives.begin().client().resume("b", "a")

    assert result.next_steps == [0, 0]


async def test_an_older_attempt_is_refused_over_a_restart(lives: Lives) -> None:
    bench = lives.begin()
    await bench.client(ME).open("a", attempt=5)
    await bench.client(ME).resume("a", attempt=7)
    bench = lives.begin()

    assert outcome_of(await bench.client(ME).resume("a", attempt=6)) is StaleAttempt
    assert outcome_of(await bench.client(ME).resume("a", attempt=7)) == 0
    assert outcome_of(await bench.client(YOU).resume("a", attempt=0)) == 0


async def test_a_create_sent_again_over_a_restart_is_the_same_session(lives: Lives) -> None:
    await live_a_life(lives.begin())
    bench = lives.begin()

    stranger = await bench.client(YOU).open("a")
    again = await bench.client(ME).open("a", attempt=6)

    assert outcome_of(stranger) is SessionExists
    assert outcome_of(again) == STORED


@pytest.mark.parametrize("how", ["by its id", "by its handle", "passivated", "by its id in the next life"])
async def test_an_ended_session_does_not_come_back(lives: Lives, how: str) -> None:
    bench = lives.begin()
    client = await live_a_life(bench)
    if how == "passivated":
        client.leave()
        bench.grow_idle("a")
        await bench.manager.tidy()
    if how == "by its id in the next life":
        bench = lives.begin()
    if how == "by its handle":
        assert await client.close(1, end=True) == ([LIVE], {})
    else:
        await bench.manager.end_session("a")

    bench = lives.begin()

    assert await bench.condition("a") is Condition.UNKNOWN
    assert outcome_of(await bench.client(ME).resume("a")) is SessionNotFound
    result = await bench.client(YOU).open("a")
    assert result.next_steps == [0]


async def test_a_tombstone_outlives_a_restart(lives: Lives) -> None:
    bench = lives.begin()
    client = await live_a_life(bench)
    client.leave()
    await bench.lose("a")

    refused = await lives.begin().client(ME).open("a", mode=OpenMode.CREATE_OR_RESUME)

    assert outcome_of(refused) is SessionLost
    assert refused.errors[0].facts["next_step"] == LIVE


async def test_a_real_model_goes_on_bit_by_bit_as_if_nothing_had_happened(lives: Lives) -> None:
    x = np.random.default_rng(3).normal(size=(1, 24, 3)).astype(np.float32)
    bench = lives.begin()
    alone = bench.client()
    sent = alone.send((await alone.open("alone", model="lstm")).handles, [0], x)
    await sent.done.wait()
    client = bench.client()
    before = client.send((await client.open("a", model="lstm")).handles, [0], x[:, :10])
    await before.done.wait()
    await bench.checkpoint()

    client = lives.begin().client()
    after = client.send((await client.resume("a", have=[10])).handles, [10], x[:, 10:])
    await after.done.wait()

    whole = np.concatenate([before.row(0), after.row(0)])
    assert whole.tobytes() == sent.row(0).tobytes()


async def test_a_model_with_two_states_goes_to_the_store_and_back(bench: SessionBench) -> None:
    x = np.random.default_rng(5).normal(size=(1, 9, 3)).astype(np.float32)
    client = bench.client()
    handles = (await client.open("a", model="lstm")).handles
    await client.send(handles, [0], x[:, :5]).done.wait()
    table, slot = bench.place("a")
    before = [s.copy() for s in table.model.runner.arena.read(np.array([slot], np.int32))]
    await client.close(*handles)
    bench.grow_idle("a")
    await bench.manager.tidy()
    assert bench.in_memory() == set()

    assert outcome_of(await client.resume("a")) == 5

    table, slot = bench.place("a")
    after = table.model.runner.arena.read(np.array([slot], np.int32))
    assert [s.tobytes() for s in after] == [s.tobytes() for s in before]


@pytest.mark.parametrize("num_states", [1, 2])
async def test_a_newest_state_that_is_missing_is_told_to_who_can_go_on_from_there_alone(
    lives: Lives, num_states: int
) -> None:
    bench = lives.begin()
    client = bench.client(ME)
    (handle,) = (await client.open("a")).handles
    for i in range(num_states):
        await client.steps(handle, 2 * i, [1, 1])
        client.ack([handle], [2])
        await bench.checkpoint()
    lives.end()
    with sqlite3.connect(lives.file) as file:  # as a damaged page would do, without an error
        file.execute(f"DELETE FROM state_{num_states - 1}")
    file.close()
    client = lives.begin().client(ME)

    refused = await client.resume("a")
    back = await client.resume("a", have=[2], held_from=[0])

    older = 2 * (num_states - 1)
    assert outcome_of(refused) is SessionLost
    assert str(refused.errors[0]).endswith(f"the state at step {older + 2} is missing")
    assert outcome_of(back) == older
    assert outcome_of(await lives.begin().client(ME).resume("a")) == older
