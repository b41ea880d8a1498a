"""A fork goes on from the state of another session, which stays as it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from support.session_bench import MAX_SESSIONS, MAX_STORED, SessionBench
from support.session_clients import Caller
from support.waiting import until
from tidegate.errors import (
    InvalidRequest,
    SessionExists,
    SessionLost,
    SessionNotFound,
    StoreFull,
    StoreUnavailable,
    TidegateError,
)
from tidegate.protocol.lifecycle import Condition
from tidegate.session.open_request import OpenMode
from tidegate.session.snapshot import unpack
from tidegate.session.snapshots import Snapshots
from tidegate.session.stores.store import NO_STATE

CREATE = OpenMode.CREATE
X = np.random.default_rng(8).normal(0, 1, (1, 12, 3)).astype(np.float32)


@pytest.fixture
def caller(bench: SessionBench) -> Caller:
    return bench.caller()


@pytest.fixture
def snapshots(bench: SessionBench) -> Snapshots:
    return Snapshots(bench.manager)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


@pytest.fixture
async def durable(models: Path, path: Path) -> AsyncIterator[SessionBench]:
    """A bench with a store in a file."""
    bench = SessionBench(models, store=f"sqlite:///{path}")
    yield bench
    bench.close()


async def test_a_fork_answers_as_the_original_fed_alike(bench: SessionBench, snapshots: Snapshots) -> None:
    client = bench.client()
    handles = (await client.open("a", model="lstm")).handles
    await client.send(handles, [0], X[:, :7]).done.wait()

    view = await snapshots.fork("a", "b")

    forked = (await client.open("b", mode=OpenMode.RESUME, model="lstm")).handles
    sent = client.send([*handles, *forked], [7, 7], np.repeat(X[:, 7:], 2, axis=0))
    await sent.done.wait()
    assert (view.session_id, view.next_step, view.condition) == ("b", 7, Condition.DETACHED)
    assert not sent.errors
    assert sent.row(0).tobytes() == sent.row(1).tobytes()


async def test_the_original_is_as_it_was_and_stays_with_its_stream(
    bench: SessionBench, snapshots: Snapshots
) -> None:
    client = bench.client()
    (handle,) = (await client.open("a")).handles
    await client.steps(handle, 0, [1, 2])
    stored_before = await bench.stored("a")

    await snapshots.fork("a", "b")

    assert await bench.stored("a") == stored_before
    assert await bench.condition("a") is Condition.ATTACHED
    assert await client.steps(handle, 2, [4]) == [7.0]
    assert not client.notices


async def test_what_happens_to_the_fork_does_not_happen_to_the_original(
    snapshots: Snapshots, caller: Caller
) -> None:
    await caller.step("a", 0, [1, 2], mode=CREATE)
    await snapshots.fork("a", "b")

    assert await caller.step("b", 2, [10]) == ([13], 3)
    assert await caller.step("a", 2, [4]) == ([7], 3)


async def test_a_fork_waits_for_the_slice_that_runs_and_has_the_state_behind_it(
    bench: SessionBench, snapshots: Snapshots, in_thread: None
) -> None:
    client = bench.client()
    (handle,) = (await client.open("a")).handles
    engine = bench.place("a").table.model.engine
    with bench.engine_stalls():
        sent = client.send([handle], [0], np.ones((1, 20, 2), np.float32))
        await until(lambda: bench.runs("a"))
        task = asyncio.create_task(snapshots.fork("a", "b"))
        await until(lambda: engine.errands.is_busy)

    view = await task

    await sent.done.wait()
    assert view.next_step == 4
    assert await bench.caller().step("b", 4, [1]) == ([5], 5)


async def test_the_new_session_is_stored_with_its_state_before_the_answer(
    bench: SessionBench, snapshots: Snapshots, caller: Caller
) -> None:
    await caller.step("a", 0, [1, 2, 3], mode=CREATE)

    await snapshots.fork("a", "b")

    stored = await bench.stored("b")
    table, slot = bench.place("b")
    books = table.books
    assert stored is not None
    assert (stored.steps, stored.epoch) == ((NO_STATE, 3), int(table.epoch[slot]))
    assert (books.base_step[slot], books.base_row[slot], books.acked[slot]) == (3, 1, 3)
    assert not books.is_dirty(np.array([slot]), table.next_step[[slot]])[0]


async def test_a_session_that_has_had_no_step_is_forked_too(
    bench: SessionBench, snapshots: Snapshots
) -> None:
    await bench.client().open("a")

    view = await snapshots.fork("a", "b")

    assert view.next_step == 0
    assert await bench.caller().step("b", 0, [1]) == ([1], 1)


async def test_a_passivated_session_is_forked_and_exported(
    bench: SessionBench, snapshots: Snapshots, caller: Caller
) -> None:
    await caller.step("a", 0, [1, 2], mode=CREATE)
    await bench.passivate("a")

    await snapshots.fork("a", "b")
    await bench.passivate("a", "b")
    data = await snapshots.export("b")

    assert (unpack(data).session_id, unpack(data).next_step) == ("b", 2)
    assert await caller.step("a", 2, [4]) == ([7], 3)
    assert await caller.step("b", 2, [5]) == ([8], 3)


async def test_a_fork_survives_a_crash_right_after_its_answer(models: Path, path: Path) -> None:
    before = SessionBench(models, store=f"sqlite:///{path}")
    await before.caller().step("a", 0, [1, 2], mode=CREATE)
    view = await Snapshots(before.manager).fork("a", "b")
    before.crash()

    after = SessionBench(models, store=f"sqlite:///{path}")
    client = after.client()
    opened = await client.resume("b", have=[2], held_from=[2])

    assert view.durable_step == 2
    assert (opened.next_steps, opened.durable_steps) == ([2], [2])
    assert await client.steps(opened.handles[0], 2, [4]) == [7.0]
    after.close()


@pytest.mark.parametrize("source", ["s0", f"s{MAX_SESSIONS - 1}"])
async def test_full_memory_makes_room_for_a_fork_and_keeps_the_original(
    bench: SessionBench, snapshots: Snapshots, caller: Caller, source: str
) -> None:
    for n in range(MAX_SESSIONS):
        await caller.step(f"s{n}", 0, [1], mode=CREATE)

    view = await snapshots.fork(source, "b")

    assert view.condition is Condition.DETACHED
    assert source in bench.in_memory()
    assert await caller.step("b", 1, [1]) == ([2], 2)


async def test_a_fork_that_finds_no_room_at_all_waits_in_the_store(
    bench: SessionBench, snapshots: Snapshots
) -> None:
    client = bench.client()
    handles = (await client.open(*(f"s{n}" for n in range(MAX_SESSIONS)))).handles
    await client.steps(handles[0], 0, [1])

    view = await snapshots.fork("s0", "b")

    assert view.condition is Condition.PASSIVATED
    await client.close(*handles)
    assert await bench.caller().step("b", 1, [1]) == ([2], 2)


@pytest.mark.parametrize(
    ("session_id", "new_id", "error"),
    [
        ("unknown", "b", SessionNotFound),
        ("a", "a", SessionExists),
        ("a", "asleep", SessionExists),
        ("a", "lost", SessionLost),
        ("lost", "b", SessionLost),
        ("a", "", InvalidRequest),
        ("", "b", InvalidRequest),
    ],
)
async def test_a_fork_is_refused(
    bench: SessionBench,
    snapshots: Snapshots,
    caller: Caller,
    session_id: str,
    new_id: str,
    error: type[TidegateError],
) -> None:
    for known in ("a", "asleep", "lost"):
        await caller.step(known, 0, [1], mode=CREATE)
    await bench.passivate("asleep")
    await bench.lose("lost")

    with pytest.raises(error):
        await snapshots.fork(session_id, new_id)

    assert await bench.condition("b") is Condition.UNKNOWN
    assert not any(bench.is_held(held) for held in (session_id, new_id))


async def test_a_store_that_takes_nothing_lets_nothing_begin(durable: SessionBench, path: Path) -> None:
    snapshots = Snapshots(durable.manager)
    await durable.caller().step("a", 0, [1], mode=CREATE)
    data = await snapshots.export("a")
    await asyncio.to_thread(path.rename, path.with_name("taken.db"))

    for begin in (snapshots.fork("a", "b"), snapshots.restore(data, "b")):
        with pytest.raises(StoreUnavailable):
            await begin

    assert await durable.condition("b") is Condition.UNKNOWN
    assert durable.in_memory() == {"a"}
    assert not durable.is_held("b")


async def test_a_full_store_lets_nothing_begin(
    bench: SessionBench, snapshots: Snapshots, caller: Caller
) -> None:
    for n in range(MAX_STORED):
        await caller.step(f"s{n}", 0, [1], mode=CREATE)

    with pytest.raises(StoreFull):
        await snapshots.fork("s0", "b")

    assert await bench.condition("b") is Condition.UNKNOWN


async def test_a_fork_whose_caller_has_gone_is_made_all_the_same(
    bench: SessionBench, snapshots: Snapshots, caller: Caller
) -> None:
    await caller.step("a", 0, [1], mode=CREATE)
    with bench.store_stalls():
        task = asyncio.create_task(snapshots.fork("a", "b"))
        await until(lambda: bench.is_held("b"))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    await until(lambda: not bench.is_held("b"))
    assert await caller.step("b", 1, [1]) == ([2], 2)


async def test_of_two_forks_onto_one_id_one_is_made(snapshots: Snapshots, caller: Caller) -> None:
    await caller.step("a", 0, [1], mode=CREATE)
    await caller.step("b", 0, [5, 5], mode=CREATE)

    outcomes = await asyncio.gather(
        snapshots.fork("a", "new"), snapshots.fork("b", "new"), return_exceptions=True
    )

    assert [type(o) for o in outcomes[1:]] == [SessionExists]
    assert await caller.step("new", 1, [1]) == ([2], 2)


async def test_two_forks_across_one_another_wait_for_nobody_for_ever(
    snapshots: Snapshots, caller: Caller
) -> None:
    for known in ("a", "b"):
        await caller.step(known, 0, [1], mode=CREATE)

    async with asyncio.timeout(10):
        outcomes = await asyncio.gather(
            *(snapshots.fork(*ids) for ids in (("a", "b"), ("b", "a")) * 5), return_exceptions=True
        )

    assert {type(o) for o in outcomes} == {SessionExists}
