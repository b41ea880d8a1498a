"""A store that fails stops nobody: what is in memory goes on, and nothing is called durable that is not."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from support.session_bench import LIMITS, MAX_STORED, Lives, SessionBench
from support.session_clients import outcome_of
from support.waiting import until
from tidegate.errors import StoreUnavailable
from tidegate.protocol.lifecycle import Condition
from tidegate.session import checkpointing
from tidegate.session.open_request import OpenMode


@contextlib.contextmanager
def store_is_unreadable(bench: SessionBench) -> Iterator[None]:
    """Let every look at a session fail while the block lasts."""

    def rename(old: str, new: str) -> None:
        keeper = bench.manager.keeper
        connection = keeper._store._database._connection  # type: ignore[attr-defined]
        keeper._thread.submit(connection.execute, f"ALTER TABLE {old} RENAME TO {new}").result()

    rename("sessions", "hidden")
    try:
        yield
    finally:
        rename("hidden", "sessions")


async def test_steps_go_on_and_nothing_is_told_as_durable(bench: SessionBench) -> None:
    changes: list[bool] = []
    bench.manager.keeper.on_change = changes.append
    client = bench.client()
    (handle,) = (await client.open("a")).handles
    await client.steps(handle, 0, [1])
    with bench.store_refuses():
        with pytest.raises(StoreUnavailable, match="store memory:: attempt to write a readonly database"):
            await bench.checkpoint()
        client.ack([handle], [1])
        assert await client.steps(handle, 1, [1]) == [2]

        assert not bench.manager.keeper.works
        assert (bench.value("tidegate_store_ok"), client.durable) == (0, {})
    await bench.checkpoint()
    client.ack([handle], [2])

    assert bench.manager.keeper.works
    assert (bench.value("tidegate_store_ok"), client.durable) == (1, {handle: 2})
    assert changes == [False, True]


async def test_a_failed_write_costs_no_base(bench: SessionBench) -> None:
    client = bench.client()
    (handle,) = (await client.open("a")).handles
    await client.steps(handle, 0, [1])
    client.ack([handle], [1])
    await bench.checkpoint()
    await client.steps(handle, 1, [1])
    with bench.store_refuses(), pytest.raises(StoreUnavailable):
        await bench.checkpoint()

    back = await bench.client().resume("a", have=[1], held_from=[1])

    assert outcome_of(back) == 1


async def test_new_sessions_begin_in_memory_and_get_their_records_later(lives: Lives) -> None:
    bench = lives.begin()
    client = bench.client()
    with bench.store_refuses():
        opened = await client.open("a", "b")
        assert opened.next_steps == [0, 0]
        assert await client.steps(opened.handles[0], 0, [1, 1]) == [1, 2]
        assert await bench.stored("a") is None
        listed, _ = await bench.caller().calls.page("", "", 10)
        assert {v.session_id for v in listed} == {"a", "b"}
    await bench.checkpoint()
    client = lives.begin().client()

    result = await client.resume("a", "b", epochs=opened.epochs)

    assert result.next_steps == [2, 0]
    assert await client.steps(result.handles[0], 2, [1]) == [3]


async def test_a_session_without_a_record_is_put_back_like_any_other(bench: SessionBench) -> None:
    client = bench.client()
    with bench.store_refuses():
        (handle,) = (await client.open("a")).handles
        await client.steps(handle, 0, [1, 1])

    back = await client.resume("a", have=[1], held_from=[0])

    assert outcome_of(back) == 0
    assert await client.steps(back.handles[0], 0, [5]) == [5]


async def test_a_session_without_a_record_ends_without_a_trace(bench: SessionBench) -> None:
    client = bench.client()
    with bench.store_refuses():
        await client.open("a")

    assert await bench.manager.end_session("a") == 0
    await bench.checkpoint()

    assert await bench.condition("a") is Condition.UNKNOWN


async def test_a_live_session_changes_hands_without_the_store(lives: Lives) -> None:
    bench = lives.begin()
    older, newer = bench.client(b"older"), bench.client(b"newer")
    opened = await older.open("a")
    await older.steps(opened.handles[0], 0, [1])
    with bench.store_refuses():
        taken = await newer.resume("a", have=[1])
        assert await newer.steps(taken.handles[0], 1, [1]) == [2]
    await bench.checkpoint()

    again = await lives.begin().client(b"newer").resume("a", have=[2], epochs=taken.epochs)

    assert outcome_of(again) == 2


async def test_nobody_is_put_back_while_the_store_cannot_forget(lives: Lives) -> None:
    bench = lives.begin()
    client = bench.client(b"me")
    (handle,) = (await client.open("a")).handles
    await client.steps(handle, 0, [1])
    client.ack([handle], [1])
    await bench.checkpoint()
    await client.steps(handle, 1, [1, 1])
    await bench.checkpoint()
    with bench.store_refuses():
        refused = await client.resume("a", have=[2], held_from=[0])
        assert outcome_of(refused) is StoreUnavailable
        kept = await client.resume("a", have=[3])
        assert outcome_of(kept) == 3

    assert await client.steps(kept.handles[0], 3, [1]) == [4]
    assert outcome_of(await lives.begin().client(b"me").resume("a")) == 3


async def test_a_session_that_is_only_in_the_store_comes_back_when_that_works(bench: SessionBench) -> None:
    caller = bench.caller()
    await caller.step("a", 0, [1], mode=OpenMode.CREATE)
    bench.grow_idle("a")
    await bench.manager.tidy()
    client = bench.client()
    with bench.store_refuses():
        assert outcome_of(await client.resume("a")) is StoreUnavailable
    with store_is_unreadable(bench):
        assert outcome_of(await client.resume("a")) is StoreUnavailable
        with pytest.raises(StoreUnavailable):
            await caller.step("a", 1, [1])

    assert outcome_of(await client.resume("a")) == 1


async def test_a_stored_session_goes_on_for_its_own_client_while_the_store_takes_nothing(
    lives: Lives,
) -> None:
    bench = lives.begin()
    opened = await bench.client(b"me").open("a", attempt=1)
    bench = lives.begin()
    me, you = bench.client(b"me"), bench.client(b"you")
    with bench.store_refuses():
        assert outcome_of(await you.resume("a")) is StoreUnavailable
        back = await me.resume("a", attempt=2, epochs=opened.epochs)
        assert back.epochs == opened.epochs
        assert await me.steps(back.handles[0], 0, [1, 1]) == [1, 2]
    me.ack(back.handles, [2])
    await bench.checkpoint()

    assert me.durable == {back.handles[0]: 2}
    assert outcome_of(await lives.begin().client(b"you").resume("a")) == 2


async def test_no_id_is_given_anew_while_the_store_cannot_say_whether_it_is_known(
    bench: SessionBench,
) -> None:
    client = bench.client()
    await client.open("live")
    with store_is_unreadable(bench):
        result = await client.open("new", "live", mode=OpenMode.CREATE_OR_RESUME)

        assert {type(e) for e in result.errors.values()} == {StoreUnavailable}
        assert outcome_of(await client.resume("live")) == 0
    assert await bench.condition("new") is Condition.UNKNOWN


async def test_a_session_that_cannot_be_forgotten_does_not_end(bench: SessionBench) -> None:
    client = bench.client()
    handles = (await client.open("a", "b")).handles
    with bench.store_refuses():
        with pytest.raises(StoreUnavailable):
            await bench.manager.end_session("a")
        _, refused = await client.close(handles[1], end=True)

        assert isinstance(refused[0], StoreUnavailable)
        assert await client.steps(handles[0], 0, [1]) == [1]
    assert client.notices == []
    assert await bench.condition("b") is Condition.DETACHED
    assert await bench.manager.end_session("a") == 1


async def test_sessions_past_what_the_store_takes_stay_in_memory_and_harm_no_other(
    bench: SessionBench,
) -> None:
    caller, client = bench.caller(), bench.client()
    for i in range(MAX_STORED - 1):
        await caller.step(f"s{i}", 0, [1], mode=OpenMode.CREATE)
    (handle,) = (await client.open("stored")).handles
    await client.steps(handle, 0, [1])
    client.ack([handle], [1])
    await bench.checkpoint()
    await client.steps(handle, 1, [1])
    client.ack([handle], [2])
    await bench.manager.end_session("s0")
    with bench.store_refuses():
        more = await client.open("x", "y")
        assert more.errors == {}

    await bench.checkpoint()
    assert client.durable == {handle: 2}
    assert [await bench.stored(i) for i in ("x", "y")] == [None, None]
    await bench.manager.end_session("s1")
    await bench.checkpoint()

    assert None not in [await bench.stored(i) for i in ("x", "y")]
    assert await client.steps(more.handles[0], 0, [1]) == [1]


async def test_the_sweep_goes_on_when_the_store_does(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpointing, "RETRY_S", 0.01)
    bench = SessionBench(models, limits=replace(LIMITS, checkpoint_age_s=0.05))
    client = bench.client()
    (handle,) = (await client.open("a")).handles
    sweep = asyncio.create_task(bench.manager.checkpointer.run())
    with bench.store_refuses():
        await client.steps(handle, 0, [1])
        client.ack([handle], [1])
        await until(lambda: not bench.manager.keeper.works)
        await client.open("new")
        assert client.durable == {}
    await until(lambda: client.durable == {handle: 1})
    await until(lambda: bool(bench.place("new").table.is_stored[bench.place("new").slot]))

    assert bench.manager.keeper.works
    sweep.cancel()
    await asyncio.wait([sweep])
    bench.close()


async def test_a_file_that_another_program_writes_to_fails_and_recovers(lives: Lives) -> None:
    bench = lives.begin()
    client = bench.client()
    (handle,) = (await client.open("a")).handles
    await client.steps(handle, 0, [1])
    other = sqlite3.connect(lives.file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(StoreUnavailable, match="database is locked"):
        await bench.checkpoint()
    other.execute("ROLLBACK")
    other.close()
    await bench.checkpoint()

    assert outcome_of(await lives.begin().client().resume("a")) == 1


async def test_the_last_save_waits_for_a_store_that_another_program_writes_to(lives: Lives) -> None:
    bench = lives.begin()
    client = bench.client()
    await client.steps((await client.open("a")).handles[0], 0, [1])
    with bench.store_refuses():
        saving = asyncio.create_task(bench.manager.save_all(within_s=20.0))
        await until(lambda: not bench.manager.keeper.works)

    assert await saving == 0


async def test_what_could_not_be_stored_at_the_end_is_counted(lives: Lives) -> None:
    bench = lives.begin()
    client = bench.client()
    handles = (await client.open("a", "b")).handles
    await client.steps(handles[0], 0, [1])

    with bench.store_refuses():
        assert await bench.manager.save_all() == 1
