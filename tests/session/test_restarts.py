"""A server dies with what it had not stored; the next one goes on from what it had (promises P2 and P3)."""

from __future__ import annotations

import sqlite3

import pytest

from support.session_bench import MAX_SESSIONS, Lives, SessionBench
from support.session_clients import StreamClient, outcome_of
from tidegate.errors import (
    ArenaFull,
    SessionLost,
    TidegateError,
)
from tidegate.session.copying import copy_state

ME, YOU = b"me", b"you"
BASE, HEAD, LIVE = 3, 7, 9


def inputs(first: int, end: int) -> list[float]:
    """What is sent as the steps [first, end)."""
    return [float(step + 1) for step in range(first, end)]


def sums(first: int, end: int) -> list[float]:
    """The answers to these steps, whatever happened in between."""
    return [(step + 1) * (step + 2) / 2 for step in range(first, end)]


async def live_a_life(bench: SessionBench, session_id: str = "a") -> tuple[StreamClient, int]:
    """Leave a session with its base, its head and its live state; the client has no more than that."""
    client = bench.client(ME)
    opened = await client.open(session_id, attempt=5)
    (handle,) = opened.handles
    for first, end in ((0, BASE), (BASE, HEAD), (HEAD, LIVE)):
        client.ack([handle], [min(first, BASE)])
        assert await client.steps(handle, first, inputs(first, end)) == sums(first, end)
        if end != LIVE:
            await bench.checkpoint()
    stored = await bench.stored(session_id)
    assert stored is not None
    assert sorted(stored.steps) == [BASE, HEAD]
    return client, opened.epochs[0]


# `have`, `held_from`, where the session goes on, and what is durable then: the older state, if the client
# can go on from there too.
RESUMES = [
    (None, None, HEAD, HEAD),
    (None, BASE, HEAD, BASE),
    (None, HEAD + 1, SessionLost, 0),
    (LIVE, None, SessionLost, 0),
    (LIVE, HEAD + 1, SessionLost, 0),
    (LIVE, HEAD, HEAD, HEAD),
    (LIVE, BASE + 1, HEAD, HEAD),
    (LIVE, BASE, HEAD, BASE),
    (LIVE, 0, HEAD, BASE),
    (LIVE + 5, BASE, HEAD, BASE),
    (HEAD + 1, BASE, HEAD, BASE),
    (HEAD, None, HEAD, HEAD),
    (HEAD, HEAD, HEAD, HEAD),
    (HEAD - 1, BASE, BASE, BASE),
    (HEAD - 1, BASE + 1, SessionLost, 0),
    (BASE, None, BASE, BASE),
    (BASE, BASE, BASE, BASE),
    (BASE, 0, BASE, BASE),
    (BASE - 1, 0, SessionLost, 0),
    (BASE - 1, 1, SessionLost, 0),
    (BASE - 1, None, SessionLost, 0),
    (0, None, SessionLost, 0),
    (0, 0, SessionLost, 0),
]


@pytest.mark.parametrize(("have", "held_from", "expected", "durable"), RESUMES)
async def test_where_a_session_goes_on_after_a_restart(
    lives: Lives, have: int | None, held_from: int | None, expected: type[TidegateError] | int, durable: int
) -> None:
    await live_a_life(lives.begin())
    client = lives.begin().client(ME)

    result = await client.resume("a", have=[have], held_from=[held_from], attempt=5)

    assert outcome_of(result) == expected
    if isinstance(expected, int):
        # The next chunk begins before the client's `have`, and ends behind it.
        assert await client.steps(result.handles[0], expected, inputs(expected, 12)) == sums(expected, 12)
        assert result.durable_steps == [durable]


@pytest.mark.parametrize("restarts", [False, True])
async def test_answers_that_were_not_acked_can_be_asked_for_again_after_the_next_checkpoint(
    lives: Lives, restarts: bool
) -> None:
    bench = lives.begin()
    await live_a_life(bench)
    bench = lives.begin() if restarts else bench
    client = bench.client(ME)
    # The library has all answers, but its application has kept only those before BASE, and dies now.
    result = await client.resume("a", have=[LIVE], held_from=[BASE], attempt=6)
    (step,) = result.next_steps
    await client.steps(result.handles[0], step, inputs(step, 12))
    await bench.checkpoint()

    again = await lives.begin().client(YOU).resume("a", have=[BASE], held_from=[BASE])

    assert outcome_of(again) == BASE


@pytest.mark.parametrize("restarts", [False, True])
async def test_a_look_at_a_session_makes_no_durable_state_go(lives: Lives, restarts: bool) -> None:
    bench = lives.begin()
    client = bench.client(ME)
    (handle,) = (await client.open("a")).handles
    for first, end in ((0, BASE), (BASE, HEAD)):
        await client.steps(handle, first, inputs(first, end))
        client.ack([handle], [end])
        await bench.checkpoint()
    assert client.durable == {handle: HEAD}
    client.leave()
    bench.grow_idle("a")
    await bench.manager.tidy()
    bench = lives.begin() if restarts else bench
    await copy_state(bench.manager.returner, "a")

    client = bench.client(ME)
    result = await client.resume("a", have=[HEAD], held_from=[HEAD])
    await client.steps(result.handles[0], HEAD, inputs(HEAD, 12))
    await bench.checkpoint()

    again = await lives.begin().client(ME).resume("a", have=[HEAD], held_from=[HEAD])
    assert outcome_of(again) == HEAD


async def test_a_refused_resume_changes_nothing(lives: Lives) -> None:
    await live_a_life(lives.begin())
    refused = await lives.begin().client(ME).resume("a", have=[5], held_from=[4], attempt=5)

    client = lives.begin().client(ME)
    result = await client.resume("a", attempt=5)

    assert refused.errors[0].facts["durable_step"] == BASE
    assert "expected a state at a step in [4, 5], got states at steps 3, 7" in str(refused.errors[0])
    assert result.next_steps == [HEAD]
    assert await client.steps(result.handles[0], HEAD, inputs(HEAD, 9)) == sums(HEAD, 9)


async def test_states_above_the_chosen_one_are_gone_for_good(lives: Lives) -> None:
    await live_a_life(lives.begin())
    first = await lives.begin().client(ME).resume("a", have=[HEAD - 1], held_from=[0], attempt=5)

    result = await lives.begin().client(ME).resume("a", attempt=5)

    assert first.next_steps == result.next_steps == [BASE]


async def test_a_live_session_put_back_stays_put_back_over_a_restart(lives: Lives) -> None:
    bench = lives.begin()
    await live_a_life(bench)
    client = bench.client(ME)
    back = await client.resume("a", have=[HEAD - 1], held_from=[0], attempt=6)
    assert await client.steps(back.handles[0], BASE, [50]) == [56]

    result = await lives.begin().client(ME).resume("a", attempt=6)

    assert back.next_steps == result.next_steps == [BASE]


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("stores", [False, True])
async def test_another_course_never_meets_the_states_of_the_one_before(
    lives: Lives, restarts: bool, stores: bool
) -> None:
    bench = lives.begin()
    await live_a_life(bench)
    bench = lives.begin() if restarts else bench
    client = bench.client(ME)
    result = await client.resume("a", have=[BASE], held_from=[BASE], attempt=6)
    other = await client.steps(result.handles[0], BASE, [100] * (HEAD - BASE))
    if stores:
        await bench.checkpoint()

    client = lives.begin().client(ME)
    result = await client.resume("a", have=[HEAD], held_from=[BASE], attempt=7)

    step = HEAD if stores else BASE
    assert result.next_steps == [step]
    expected = other[-1] if stores else sums(BASE - 1, BASE)[0]
    assert await client.steps(result.handles[0], step, [0]) == [expected]


@pytest.mark.parametrize("restarts", [False, True])
async def test_a_session_without_an_ack_may_be_put_back_to_its_beginning(
    lives: Lives, restarts: bool
) -> None:
    bench = lives.begin()
    client = bench.client(ME)
    opened = await client.open("a", attempt=1)
    await client.steps(opened.handles[0], 0, inputs(0, 5))
    await bench.checkpoint()
    bench = lives.begin() if restarts else bench
    await bench.client(ME).resume("a", have=[0], held_from=[0], attempt=5)

    client = lives.begin().client(ME)
    result = await client.resume("a", attempt=5)

    assert result.next_steps == [0]
    assert await client.steps(result.handles[0], 0, [4, 4]) == [4, 8]


async def test_who_continues_at_the_newest_state_finds_it_again_after_a_crash(lives: Lives) -> None:
    bench = lives.begin()
    client = bench.client(ME)
    opened = await client.open("a", attempt=1)
    await client.steps(opened.handles[0], 0, inputs(0, 5))
    newest = await bench.client(b"other").resume("a")

    again = await lives.begin().client(b"other").resume("a", have=[5], held_from=[5], attempt=1)

    assert newest.next_steps == newest.durable_steps == again.next_steps == [5]


async def test_a_session_that_finds_no_room_is_refused_and_keeps_all_its_states(lives: Lives) -> None:
    await live_a_life(lives.begin())
    bench = lives.begin(max_sessions=1)
    await bench.client().open("other")

    refused = await bench.client(YOU).resume("a", have=[BASE], held_from=[0])

    assert outcome_of(refused) is ArenaFull
    result = await lives.begin().client(ME).resume("a", attempt=5)
    assert result.next_steps == [HEAD]


async def test_of_more_sessions_than_slots_some_come_back_and_the_others_are_told(lives: Lives) -> None:
    ids = [f"s{i}" for i in range(MAX_SESSIONS)]
    await lives.begin().client().open(*ids)
    bench = lives.begin(max_sessions=2)

    result = await bench.client().resume(*ids)

    assert {type(e) for e in result.errors.values()} == {ArenaFull}
    assert len(result.errors) == MAX_SESSIONS - 2
    assert bench.in_memory() == {ids[i] for i in range(MAX_SESSIONS) if i not in result.errors}


async def test_a_damaged_state_is_named_and_the_other_one_serves(lives: Lives) -> None:
    await live_a_life(lives.begin())
    lives.end()
    with sqlite3.connect(lives.file) as file:
        (head_table,) = (
            table
            for table in ("state_0", "state_1")
            if file.execute(f"SELECT step FROM {table}").fetchone() == (HEAD,)
        )
        (record,) = file.execute(f"SELECT record FROM {head_table}").fetchone()
        file.execute(f"UPDATE {head_table} SET record = ?", (record[:-1] + bytes([record[-1] ^ 1]),))
    file.close()
    client = lives.begin().client(ME)

    refused = await client.resume("a", have=[HEAD], attempt=5)
    result = await client.resume("a", have=[HEAD], held_from=[0], attempt=5)

    assert outcome_of(refused) is SessionLost
    assert f"row {head_table[-1]}" in str(refused.errors[0])
    assert result.next_steps == [BASE]
    assert await client.steps(result.handles[0], BASE, inputs(BASE, 9)) == sums(BASE, 9)
