"""Sequences that come back from the store, after a rest or a crash."""

from __future__ import annotations

import sqlite3
from dataclasses import replace

import numpy as np
import pytest

from support.sequence_clients import SequenceClient
from support.session_bench import LIMITS, Lives, SessionBench
from support.waiting import until
from tidegate.errors import SessionLost, SessionNotFound, StoreUnavailable, WrongStep
from tidegate.session.copying import copy_state

FIVE = "sequence/counter/int/5"
BACKGROUND = replace(LIMITS, sequence_durability="background")


async def test_a_passivated_sequence_goes_on(door_bench: SessionBench, client: SequenceClient) -> None:
    await client.step(5, 1, start=True)
    await door_bench.passivate(FIVE)

    replies = [client.step(5, 1), client.step(5, 1), client.step(5, 1, 1, end=True), client.step(5, 1)]

    assert [await reply for reply in replies[:3]] == [[2], [3], [4, 5]]
    with pytest.raises(SessionNotFound):
        await replies[3]


async def test_a_passivated_sequence_knows_its_last_request(
    door_bench: SessionBench, client: SequenceClient
) -> None:
    await client.step(5, 1, start=True)
    await client.step(5, 2, request_id="b")
    await door_bench.passivate(FIVE)

    assert await client.step(5, 2, request_id="b") == [3]
    await door_bench.passivate(FIVE)
    assert await client.step(5, 2, start=True, request_id="b") == [3]
    assert await client.step(5, 1) == [4]


async def test_a_look_at_a_passivated_sequence_changes_nothing(
    door_bench: SessionBench, client: SequenceClient
) -> None:
    await client.step(5, 1, start=True, request_id="a")
    await door_bench.passivate(FIVE)

    copied = await copy_state(door_bench.manager.returner, FIVE)

    assert (copied.next_step, copied.states[0].tolist()) == (1, [[1, 1]])
    assert await client.step(5, 1, request_id="a") == [1]
    assert await client.step(5, 1) == [2]


async def test_a_sequence_may_leave_in_one_way_of_storing_and_come_back_in_the_other(lives: Lives) -> None:
    bench = lives.begin(limits=BACKGROUND)
    await SequenceClient(bench.manager).step(5, 1, start=True)
    assert await bench.manager.save_all() == 0
    bench = lives.begin()
    await SequenceClient(bench.manager).step(5, 1)
    bench = lives.begin(limits=BACKGROUND)
    await SequenceClient(bench.manager).step(5, 1)
    bench = lives.begin()

    with pytest.raises(SessionLost):
        await SequenceClient(bench.manager).step(5, 1)
    assert await SequenceClient(bench.manager).step(5, 1, step=2) == [3]


async def crashed(lives: Lives) -> SequenceClient:
    """A server after the crash of one that answered in advance: 2 steps were stored, and 3 answered."""
    bench = lives.begin(limits=BACKGROUND)
    client = SequenceClient(bench.manager)
    await client.step(5, 1, 1, start=True)
    await bench.checkpoint()
    await client.step(5, 1)
    return SequenceClient(lives.begin(limits=BACKGROUND).manager)


async def test_a_sequence_that_may_have_lost_steps_is_refused(lives: Lives) -> None:
    client = await crashed(lives)

    for _ in range(2):
        with pytest.raises(SessionLost, match="stored up to step 2, and later steps may be lost") as caught:
            await client.step(5, 1)
        assert caught.value.facts == {"next_step": 2, "durable_step": 2}


@pytest.mark.parametrize("step", [0, 1, 3])
async def test_whoever_says_another_step_than_the_stored_one_is_refused(lives: Lives, step: int) -> None:
    client = await crashed(lives)

    with pytest.raises(SessionLost):
        await client.step(5, 1, step=step)


async def test_whoever_says_the_stored_step_goes_on(lives: Lives) -> None:
    client = await crashed(lives)

    assert await client.step(5, 1, step=2) == [3]
    assert await client.step(5, 1) == [4]
    with pytest.raises(WrongStep):
        await client.step(5, 1, step=2)


async def test_whoever_begins_anew_goes_on(lives: Lives) -> None:
    client = await crashed(lives)

    assert await client.step(5, 9, start=True) == [9]
    assert await client.step(5, 1) == [10]


async def test_a_stop_that_stored_everything_leaves_no_doubt(lives: Lives) -> None:
    bench = lives.begin(limits=BACKGROUND)
    client = SequenceClient(bench.manager)
    await client.step(5, 1, start=True)
    await client.step(5, 1, request_id="b")
    assert await bench.manager.save_all() == 0
    client = SequenceClient(lives.begin(limits=BACKGROUND).manager)

    assert await client.step(5, 1, request_id="b") == [2]
    assert await client.step(5, 1) == [3]


async def test_a_sequence_that_had_left_memory_is_in_no_doubt(lives: Lives) -> None:
    bench = lives.begin(limits=BACKGROUND)
    await SequenceClient(bench.manager).step(5, 1, start=True)
    await bench.passivate(FIVE)
    client = SequenceClient(lives.begin(limits=BACKGROUND).manager)

    assert await client.step(5, 1) == [2]


async def test_a_sequence_that_cannot_be_marked_does_not_go_on(lives: Lives) -> None:
    bench = lives.begin(limits=BACKGROUND)
    client = SequenceClient(bench.manager)
    await client.step(5, 1, start=True)
    await bench.passivate(FIVE)
    with bench.store_refuses(), pytest.raises(StoreUnavailable):
        await client.step(5, 1)

    assert await client.step(5, 1) == [2]
    client = SequenceClient(lives.begin(limits=BACKGROUND).manager)
    with pytest.raises(SessionLost):
        await client.step(5, 1)


async def test_answers_do_not_wait_for_a_store_in_the_background(lives: Lives) -> None:
    bench = lives.begin(limits=BACKGROUND)
    client = SequenceClient(bench.manager)
    await client.step(5, 1, start=True)
    with bench.store_refuses():
        assert await client.step(5, 1) == [2]
        assert await client.step(5, 1, 1) == [3, 4]
    await bench.checkpoint()

    stored = await bench.stored(FIVE)
    assert stored is not None
    assert stored.next_step == 4


async def test_an_older_state_than_there_should_be_is_refused_until_it_is_named(lives: Lives) -> None:
    bench = lives.begin()
    client = SequenceClient(bench.manager)
    for start in (True, False, False):
        await client.step(5, 1, start=start)
    stored = await bench.stored(FIVE)
    assert stored is not None
    newest = int(np.argmax(stored.steps))
    older = stored.steps[1 - newest]
    lives.end()
    _damage(str(lives.file), newest)
    client = SequenceClient(lives.begin().manager)

    with pytest.raises(SessionLost, match=f"stored up to step {older}"):
        await client.step(5, 1)
    assert await client.step(5, 1, step=older) == [older + 1]
    assert await client.step(5, 1) == [older + 2]
    client = SequenceClient(lives.begin().manager)
    assert await client.step(5, 1) == [older + 3]


def _damage(file: str, row: int) -> None:
    """Spoil the states in one of the two rows of every session."""
    with sqlite3.connect(file) as database:
        database.execute(f"UPDATE state_{row} SET record = zeroblob(length(record))")


async def test_an_unreadable_store_refuses_and_changes_nothing(lives: Lives) -> None:
    bench = lives.begin()
    client = SequenceClient(bench.manager)
    await client.step(5, 1, start=True)
    await bench.passivate(FIVE)
    await until(bench.manager.is_idle)
    keeper = bench.manager.keeper
    connection = keeper._store._database._connection  # type: ignore[attr-defined]
    keeper._thread.submit(connection.execute, "ALTER TABLE sessions RENAME TO hidden").result()
    for start in (False, True):
        with pytest.raises(StoreUnavailable):
            await client.step(5, 1, start=start)
    keeper._thread.submit(connection.execute, "ALTER TABLE hidden RENAME TO sessions").result()

    assert await client.step(5, 1) == [2]
