"""Answers that wait for the store: what could not be stored did not happen."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import numpy as np
import pytest

from support.sequence_clients import SequenceClient, indices
from support.session_bench import Lives, SessionBench
from support.waiting import until
from tidegate.errors import InvalidRequest, SessionNotFound, StoreUnavailable
from tidegate.protocol.lifecycle import Condition
from tidegate.session.sequences.request import SequenceAnswer

FIVE = "sequence/counter/int/5"


async def begun(lives: Lives, *ids: int) -> tuple[SessionBench, SequenceClient]:
    """A server with sequences that have had one step, of 1."""
    bench = lives.begin()
    client = SequenceClient(bench.manager)
    for sequence_id in ids:
        await client.step(sequence_id, 1, start=True)
    return bench, client


async def test_an_answer_leaves_when_its_state_is_stored(lives: Lives) -> None:
    bench, client = await begun(lives, 5)
    with bench.store_stalls():
        reply = client.step(5, 1)
        await until(lambda: bench.place(FIVE).next_step == 2)
        await asyncio.sleep(0.01)
        assert not reply.has_come

    assert await reply == [2]
    stored = await bench.stored(FIVE)
    assert stored is not None
    assert stored.next_step == 2


async def test_a_crash_loses_and_repeats_nothing(lives: Lives) -> None:
    _, client = await begun(lives, 5)
    await client.step(5, 2, request_id="b")
    client = SequenceClient(lives.begin().manager)

    assert await client.step(5, 2, request_id="b") == [3]
    assert (await client.step(5, 4).answer()).first_step == 2
    assert await client.step(5, 0, step=3) == [7]


async def test_a_start_that_is_repeated_after_a_crash_does_not_begin_anew(lives: Lives) -> None:
    client = SequenceClient(lives.begin().manager)
    await client.step(5, 1, start=True, request_id="a")
    client = SequenceClient(lives.begin().manager)

    assert await client.step(5, 1, start=True, request_id="a") == [1]
    assert await client.step(5, 1) == [2]


async def test_all_that_wait_share_a_commit(lives: Lives) -> None:
    bench, client = await begun(lives, 1, 2, 3, 4)
    commits = 0

    def count(statement: str) -> None:
        nonlocal commits
        commits += statement == "COMMIT"

    keeper = bench.manager.keeper
    connection = keeper._store._database._connection  # type: ignore[attr-defined]
    keeper._thread.submit(connection.set_trace_callback, count).result()
    with bench.store_stalls():
        replies = [client.step(i, 1) for i in (1, 2, 3, 4)]
        await until(
            lambda: all(bench.place(f"sequence/counter/int/{i}").next_step == 2 for i in (1, 2, 3, 4))
        )
    answers = [await reply for reply in replies]

    assert answers == [[2]] * 4
    assert commits == 1


async def test_what_cannot_be_stored_did_not_happen(lives: Lives) -> None:
    bench, client = await begun(lives, 5, 6)
    with bench.store_refuses():
        replies = [client.step(5, 10), client.step(5, 10), client.step(5, 10), client.step(6, 10)]
        for reply in replies:
            with pytest.raises(StoreUnavailable):
                await reply
        await until(bench.manager.is_idle)
        assert bench.in_memory() == set()
    with pytest.raises(StoreUnavailable, match="it was not applied: the sequence stands at step 1"):
        await replies[0]

    assert await client.step(5, 2) == [3]
    assert await client.step(6, 3) == [4]


async def test_steps_on_their_way_when_the_store_fails_are_refused_too(lives: Lives, in_thread: None) -> None:
    bench, client = await begun(lives, 5)
    paused = SequenceClient(bench.manager)
    table, slot = bench.place(FIVE)
    with bench.store_refuses(), ExitStack() as engine_stalls:
        with bench.store_stalls():
            replies = [client.step(5, 10)]
            await until(lambda: table.books.is_writing(np.array([slot]))[0])
            paused.source.paused = True
            running, waiting = client.step(5, 10), paused.step(5, 10)
            engine_stalls.enter_context(bench.engine_stalls("counter/2"))
            await until(lambda: table.accepted[slot] == 4)
            replies += [running, waiting, client.step(5, 10)]
        with pytest.raises(StoreUnavailable):
            await replies[0]
        replies.append(client.step(5, 10, start=True))
        engine_stalls.close()
        for reply in replies:
            with pytest.raises(StoreUnavailable):
                await reply

    assert await client.step(5, 2) == [3]


async def test_a_step_that_is_numbered_again_when_the_store_has_failed_is_refused(
    lives: Lives, in_thread: None
) -> None:
    bench, session_id = lives.begin(), "sequence/table/int/5"
    client = SequenceClient(bench.manager)
    await client.step(5, model="table", start=True, inputs=indices(1)).answer()
    table, slot = bench.place(session_id)
    with bench.store_refuses(), ExitStack() as engine_stalls:
        with bench.store_stalls():
            first = client.step(5, model="table", inputs=indices(1))
            await until(lambda: table.books.is_writing(np.array([slot]))[0])
            engine_stalls.enter_context(bench.engine_stalls("table/1"))
            bad, behind = (client.step(5, model="table", inputs=indices(i)) for i in (99, 1))
            await until(lambda: table.accepted[slot] == 4)
        # Whoever has the id keeps the sequence in memory meanwhile.
        async with bench.manager.holds.take([session_id]):
            for reply, error in (
                (first, StoreUnavailable),
                (bad, InvalidRequest),
                (behind, StoreUnavailable),
            ):
                with pytest.raises(error):
                    await reply
                engine_stalls.close()
    await until(bench.manager.is_idle)

    assert (await client.step(5, model="table", inputs=indices(1)).answer()).first_step == 1


async def test_a_sequence_whose_first_step_is_not_stored_has_not_begun(lives: Lives, in_thread: None) -> None:
    bench, client = await begun(lives, 6)
    with ExitStack() as store_refuses:
        with bench.engine_stalls("counter/2"):
            begins = client.step(5, 1, start=True)
            await until(lambda: bench.manager.registry.find(FIVE) and bench.runs(FIVE))
            store_refuses.enter_context(bench.store_refuses())
        with pytest.raises(StoreUnavailable):
            await begins
    assert await bench.stored(FIVE) is not None

    with pytest.raises(SessionNotFound):
        await client.step(5, 1)


async def test_a_request_that_was_refused_for_the_store_is_no_repeat(lives: Lives) -> None:
    bench, client = await begun(lives, 5)
    with bench.store_refuses(), pytest.raises(StoreUnavailable):
        await client.step(5, 10, request_id="b")

    assert await client.step(5, 10, request_id="b") == [11]
    assert await client.step(5, 10, request_id="b") == [11]


async def test_a_sequence_that_cannot_be_stored_has_not_begun(lives: Lives) -> None:
    bench, client = await begun(lives)
    with bench.store_refuses():
        begins, behind = client.step(5, 1, start=True), client.step(5, 1)
        with pytest.raises(StoreUnavailable):
            await begins
        with pytest.raises((StoreUnavailable, SessionNotFound)):
            await behind

    with pytest.raises(SessionNotFound):
        await client.step(5, 1)
    assert await client.step(5, 1, start=True) == [1]


async def test_an_end_is_answered_before_the_store_has_forgotten_the_sequence(lives: Lives) -> None:
    bench, client = await begun(lives, 5)

    assert await client.step(5, 1, end=True) == [2]

    assert await bench.condition(FIVE) is not Condition.UNKNOWN
    again = client.step(5, 7, start=True)
    assert await again == [7]
    assert bench.value("tidegate_sequence_restarts_total", model="counter") is None


async def test_a_sequence_that_the_store_does_not_forget_stays_ended(lives: Lives) -> None:
    bench, client = await begun(lives, 5)
    keeper = bench.manager.keeper
    connection = keeper._store._database._connection  # type: ignore[attr-defined]
    reply = client.step(5, 1, end=True)
    reply_came = asyncio.ensure_future(reply.outcome())
    reply_came.add_done_callback(
        lambda _: keeper._thread.submit(connection.execute, "PRAGMA query_only = 1").result()
    )
    assert isinstance(await reply_came, SequenceAnswer)
    await until(bench.manager.is_idle)
    assert bench.in_memory() == set()

    for start in (False, True):
        with pytest.raises(StoreUnavailable):
            await client.step(5, 1, start=start)
    keeper._thread.submit(connection.execute, "PRAGMA query_only = 0").result()
    await bench.manager.tidy()

    assert await bench.stored(FIVE) is None
    with pytest.raises(SessionNotFound):
        await client.step(5, 1)


async def test_a_restart_that_the_store_refuses_leaves_the_sequence_as_it_was(lives: Lives) -> None:
    bench, client = await begun(lives, 5)
    with bench.store_refuses(), pytest.raises(StoreUnavailable):
        await client.step(5, 10, start=True)

    assert await client.step(5, 2) == [3]


async def test_sequences_that_the_store_never_had_are_forgotten(lives: Lives) -> None:
    bench, client = await begun(lives, 5)
    with bench.store_refuses():
        for sequence_id in range(10, 20):
            with pytest.raises(StoreUnavailable):
                await client.step(sequence_id, 1, start=True)
        await until(bench.manager.is_idle)

        assert bench.manager.sequences._ender._undeleted == {}
    assert bench.in_memory() == {FIVE}


async def test_steps_and_checkpoints_of_the_sweep_get_on(lives: Lives) -> None:
    bench, client = await begun(lives, 5)
    sweeping = asyncio.create_task(_sweep(bench))
    replies = [client.step(5, *([1] * (1 + i % 3))) for i in range(40)]
    answers = [await reply for reply in replies]
    sweeping.cancel()

    assert answers[-1] == [1 + sum(1 + i % 3 for i in range(40))]


async def _sweep(bench: SessionBench) -> None:
    while True:
        await bench.checkpoint()
        await asyncio.sleep(0)
