"""States go to the store in the background, and whoever holds a session is told how far it is durable."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from support.session_bench import LIMITS, Lives, SessionBench
from support.session_clients import series
from support.waiting import until
from tidegate.protocol.lifecycle import Condition
from tidegate.session import checkpointing
from tidegate.session.stores.store import NO_STATE

STATE_BYTES = 8  # of a counter of width 2


async def stored_sums(bench: SessionBench, session_id: str) -> dict[int, list[float]]:
    """The stored states of a counter, by their steps."""
    stored = await bench.stored(session_id)
    assert stored is not None
    wanted = [(stored.number, session_id, row) for row in (0, 1) if stored.steps[row] != NO_STATE]
    states = await bench.manager.keeper.read(lambda store: store.read(wanted, stored.model))
    steps = [stored.steps[row] for _, _, row in wanted]
    return {step: np.frombuffer(s or b"", np.float32).tolist() for step, s in zip(steps, states, strict=True)}


def is_writing(bench: SessionBench, session_id: str) -> bool:
    table, slot = bench.place(session_id)
    return bool(table.books.is_writing(np.array([slot], np.int32))[0])


async def test_a_state_is_the_one_after_its_step_while_steps_go_on(
    bench: SessionBench, in_thread: None
) -> None:
    client = bench.client()
    handles = (await client.open("a", "b")).handles
    sent = [
        client.send(handles, [first, first], series([1.0] * 60, [2.0] * 60)) for first in range(0, 240, 60)
    ]
    seen: set[int] = set()
    while not all(s.done.is_set() for s in sent):
        await bench.checkpoint()
        for session_id, value in (("a", 1.0), ("b", 2.0)):
            for step, state in (await stored_sums(bench, session_id)).items():
                assert state == [step * value] * 2
                seen.add(step)

    assert len(seen - {0, 240}) > 2, "states in the middle of what was sent"
    assert sent[-1].row(1)[-1, 0] == 480


async def test_what_is_stored_becomes_durable_with_the_ack(bench: SessionBench) -> None:
    client = bench.client()
    handles = (await client.open("a", "b")).handles
    for handle in handles:
        await client.steps(handle, 0, [1, 1, 1])
    await bench.checkpoint()
    assert client.durable == {}

    client.ack(handles, [2, 3])

    assert client.durable == {handles[1]: 3}


async def test_what_was_acked_becomes_durable_with_the_commit(bench: SessionBench) -> None:
    client = bench.client()
    (handle,) = (await client.open("a")).handles
    await client.steps(handle, 0, [1, 1, 1])
    client.ack([handle], [3])
    with bench.store_stalls():
        saving = asyncio.create_task(bench.checkpoint())
        await until(lambda: is_writing(bench, "a"))
        assert client.durable == {}
    await saving

    assert client.durable == {handle: 3}


async def test_the_base_is_never_written_over(bench: SessionBench) -> None:
    client = bench.client()
    (handle,) = (await client.open("a")).handles
    for step in range(1, 9):
        await client.steps(handle, step - 1, [1])
        client.ack([handle], [min(step, 3)])
        await bench.checkpoint()

        stored = await stored_sums(bench, "a")
        assert min(step, 3) in stored, "the durable state"
        assert step in stored, "the newest state"

    assert client.durable == {handle: 3}


async def test_an_ack_of_a_state_that_is_being_written_over_tells_nothing(bench: SessionBench) -> None:
    client = bench.client()
    (handle,) = (await client.open("a")).handles
    await client.steps(handle, 0, [1])
    client.ack([handle], [1])
    await bench.checkpoint()
    await client.steps(handle, 1, [1])
    await bench.checkpoint()
    await client.steps(handle, 2, [1])
    with bench.store_stalls():
        saving = asyncio.create_task(bench.checkpoint())
        await until(lambda: is_writing(bench, "a"))
        client.ack([handle], [2])
        assert client.durable == {handle: 1}
    await saving

    assert set(await stored_sums(bench, "a")) == {1, 3}
    client.ack([handle], [3])
    assert client.durable == {handle: 3}


async def test_only_what_has_changed_is_stored(bench: SessionBench) -> None:
    client = bench.client()
    handles = (await client.open("a", "b")).handles
    await client.steps(handles[0], 0, [1])

    counts = [await bench.manager.checkpointer.save_all() for _ in range(2)]

    assert counts == [1, 0]
    assert bench.value("tidegate_checkpoints_total", model="counter", version="1") == 1


async def test_a_displaced_stream_is_told_nothing_more(bench: SessionBench) -> None:
    older, newer = bench.client(), bench.client()
    (handle,) = (await older.open("a")).handles
    await older.steps(handle, 0, [1])
    older.ack([handle], [1])
    with bench.store_stalls():
        saving = asyncio.create_task(bench.checkpoint())
        await until(lambda: is_writing(bench, "a"))
        resume = asyncio.create_task(newer.resume("a"))
        await until(lambda: older.notices != [])
    await saving
    taken = await resume

    assert older.durable == {}
    assert taken.durable_steps == [1]


@pytest.mark.parametrize(("have", "held_from", "expected"), [(5, 3, 5), (4, 3, 3), (4, 0, 3)])
async def test_a_resume_while_a_write_is_under_way_leaves_one_course(
    lives: Lives, have: int, held_from: int, expected: int
) -> None:
    bench = lives.begin()
    older, newer = bench.client(), bench.client()
    (handle,) = (await older.open("a")).handles
    await older.steps(handle, 0, [1] * 3)
    older.ack([handle], [3])
    await bench.checkpoint()
    await older.steps(handle, 3, [1] * 2)
    with bench.store_stalls():
        saving = asyncio.create_task(bench.checkpoint())
        await until(lambda: is_writing(bench, "a"))
        resume = asyncio.create_task(newer.resume("a", have=[have], held_from=[held_from]))
        await until(lambda: older.notices != [])
    await saving
    taken = await resume

    assert taken.next_steps == [expected]
    assert all(step <= expected for step in await stored_sums(bench, "a"))
    assert await newer.steps(taken.handles[0], expected, [7]) == [expected + 7]
    await bench.checkpoint()
    client = lives.begin().client()
    result = await client.resume("a")
    assert result.next_steps == [expected + 1]
    assert await client.steps(result.handles[0], expected + 1, [0]) == [expected + 7]


async def test_a_session_that_ends_while_it_is_being_stored_does_not_come_back(lives: Lives) -> None:
    bench = lives.begin()
    client = bench.client()
    handles = (await client.open("a", "b")).handles
    await client.steps(handles[0], 0, [1])
    await client.steps(handles[1], 0, [1])
    with bench.store_stalls():
        saving = asyncio.create_task(bench.checkpoint())
        await until(lambda: is_writing(bench, "a"))
        ending = asyncio.create_task(bench.manager.end_session("a"))
        closing = asyncio.create_task(client.close(handles[1], end=True))
    await asyncio.gather(saving, ending, closing)
    bench = lives.begin()

    assert [await bench.condition(i) for i in ("a", "b")] == [Condition.UNKNOWN] * 2
    assert bench.manager.keeper._store.count().sessions == 0


async def test_saves_at_once_do_not_meet_in_one_session(bench: SessionBench) -> None:
    client = bench.client()
    (handle,) = (await client.open("a")).handles
    for step in range(5):
        await client.steps(handle, step, [1])
        await asyncio.gather(*(bench.checkpoint() for _ in range(3)))
        assert set(await stored_sums(bench, "a")) == {step + 1}

    bench.manager.check_integrity()


async def test_a_save_that_nobody_waits_for_any_more_is_entered_all_the_same(bench: SessionBench) -> None:
    client = bench.client()
    (handle,) = (await client.open("a")).handles
    await client.steps(handle, 0, [1])
    client.ack([handle], [1])
    with bench.store_stalls():
        saving = asyncio.create_task(bench.checkpoint())
        await until(lambda: is_writing(bench, "a"))
        saving.cancel()
        await asyncio.wait([saving])
    await bench.manager.checkpointer.settled()

    assert client.durable == {handle: 1}


async def test_a_session_that_the_store_does_not_have_harms_no_other(bench: SessionBench) -> None:
    client = bench.client()
    handles = (await client.open("a", "b", "c")).handles
    for handle in handles:
        await client.steps(handle, 0, [1])
    client.ack(handles, [1, 1, 1])
    number = int(bench.place("b").table.number[bench.place("b").slot])
    await bench.manager.keeper.write(lambda store: store.end([number]))

    await bench.checkpoint()

    assert client.durable == {handles[0]: 1, handles[2]: 1}
    assert bench.value("tidegate_errors_total", code="INTERNAL", reason="INTERNAL") == 1


async def test_the_sweep_stores_by_itself(models: Path) -> None:
    bench = SessionBench(models, limits=replace(LIMITS, checkpoint_age_s=0.05))
    client = bench.client()
    (handle,) = (await client.open("a")).handles
    sweep = asyncio.create_task(bench.manager.checkpointer.run())
    for step in range(3):
        await client.steps(handle, step, [1])
        client.ack([handle], [step + 1])
        await until(lambda step=step: client.durable == {handle: step + 1})  # type: ignore[misc]

    sweep.cancel()
    await asyncio.wait([sweep])
    bench.close()


async def test_the_sweep_writes_no_more_than_it_may(
    bench: SessionBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpointing, "PIECE_BYTES", STATE_BYTES)
    client = bench.client()
    handles = (await client.open(*(f"s{i}" for i in range(5)))).handles
    for handle in handles:
        await client.steps(handle, 0, [1])
    table = bench.place("s0").table
    began_s = time.monotonic()

    await bench.manager.checkpointer.save(
        table, table.dirty(0, table.pool.capacity + 1), bytes_per_s=20 * STATE_BYTES
    )

    assert time.monotonic() - began_s >= 5 / 20
    assert bench.manager.checkpointer.num_dirty() == 0


async def test_everything_is_stored_before_a_server_ends(lives: Lives) -> None:
    bench = lives.begin()
    client = bench.client()
    handles = (await client.open("a", "b")).handles
    await client.steps(handles[0], 0, [1, 1])

    assert await bench.manager.save_all() == 0

    assert (await lives.begin().client().resume("a", "b")).next_steps == [2, 0]


async def test_a_server_that_keeps_nothing_says_how_much_is_lost_with_it(bench: SessionBench) -> None:
    await bench.client().open("a", "b")

    assert await bench.manager.save_all() == 2
