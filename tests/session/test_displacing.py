"""A resume takes a session over, also while a batch runs in the engine's thread."""

from __future__ import annotations

import asyncio

import numpy as np

from support.session_bench import SessionBench
from support.session_clients import outcome_of, series
from tidegate.errors import Displaced, SessionLost, SessionNotFound
from tidegate.protocol.lifecycle import Condition
from tidegate.session.open_request import OpenMode
from tidegate.session.stream import NoticeReason


async def test_a_resume_displaces_the_older_stream_for_good(bench: SessionBench) -> None:
    older, newer = bench.client(b"older"), bench.client(b"newer")
    handles = (await older.open("a", "b", "c")).handles
    await older.steps(handles[1], 0, [1, 1, 1])

    taken = await newer.resume("b", "a")

    assert taken.next_steps == [3, 0]
    (notice,) = older.notices
    assert notice.reason is NoticeReason.DISPLACED
    assert dict(zip(notice.handles.tolist(), notice.next_steps.tolist(), strict=True)) == {
        handles[0]: 0,
        handles[1]: 3,
    }
    sent = older.send(handles, [0, 3, 0], series([1], [1], [1]))
    await sent.done.wait()
    assert {row: type(e) for row, e in sent.errors.items()} == {0: Displaced, 1: Displaced}
    assert await newer.steps(taken.handles[0], 3, [1]) == [4]


async def test_what_waited_on_the_older_stream_is_dropped_and_what_ran_is_kept(
    bench: SessionBench, in_thread: None
) -> None:
    older, newer = bench.client(b"older"), bench.client(b"newer")
    handle = (await older.open("a")).handles[0]
    running, waiting = older.send([handle], [0], series([1] * 10)), older.send([handle], [10], series([1]))
    await asyncio.sleep(0)

    taken = await newer.resume("a")

    assert taken.next_steps == [4]
    assert older.notices[0].next_steps.tolist() == [4]
    assert isinstance(running.errors[0], Displaced)
    assert isinstance(waiting.errors[0], Displaced)
    assert running.row(0)[:, 0].tolist() == [1, 2, 3, 4]
    assert await newer.steps(taken.handles[0], 4, [1]) == [5]


async def test_rows_of_the_displaced_streams_other_sessions_go_on(bench: SessionBench) -> None:
    older, newer = bench.client(), bench.client()
    handles = (await older.open("a", "b")).handles
    sent = older.send(handles, [0, 0], series([1, 1, 1], [2, 2, 2]))

    await newer.resume("a")
    await sent.done.wait()

    assert set(sent.errors) == {0}
    assert sent.row(1)[:, 0].tolist() == [2, 4, 6]


async def test_of_two_streams_that_resume_at_once_the_later_holds_the_session(
    bench: SessionBench, in_thread: None
) -> None:
    older, first, second = bench.client(), bench.client(), bench.client()
    handle = (await older.open("a")).handles[0]
    older.send([handle], [0], series([1]))
    await asyncio.sleep(0)

    lost, held = await asyncio.gather(first.resume("a"), second.resume("a"))

    assert outcome_of(lost) is Displaced
    assert outcome_of(held) == 1
    assert await second.steps(held.handles[0], 1, [1]) == [2]


async def test_a_session_ended_while_it_is_resumed_is_not_found(bench: SessionBench, in_thread: None) -> None:
    older, newer = bench.client(), bench.client()
    handle = (await older.open("a")).handles[0]
    older.send([handle], [0], series([1]))
    await asyncio.sleep(0)
    resume = asyncio.create_task(newer.resume("a"))
    await asyncio.sleep(0)

    ended = await bench.manager.end_session("a")

    assert ended == 1
    assert outcome_of(await resume) is SessionNotFound
    assert await bench.condition("a") is Condition.UNKNOWN


async def test_a_resume_that_the_running_batch_outruns_leaves_the_session_detached(
    bench: SessionBench, in_thread: None
) -> None:
    older, newer = bench.client(), bench.client()
    handle = (await older.open("a")).handles[0]
    older.send([handle], [0], series([1]))
    await asyncio.sleep(0)

    result = await newer.resume("a", have=[0])

    assert outcome_of(result) is SessionLost
    assert await bench.condition("a") is Condition.DETACHED
    assert outcome_of(await newer.resume("a")) == 1


async def test_a_client_lost_while_it_opens_leaves_the_session_detached(
    bench: SessionBench, in_thread: None
) -> None:
    older, newer = bench.client(), bench.client()
    handle = (await older.open("a")).handles[0]
    older.send([handle], [0], series([1]))
    await asyncio.sleep(0)
    resume = asyncio.create_task(newer.resume("a"))
    await asyncio.sleep(0)

    resume.cancel()
    newer.leave()
    await asyncio.wait([resume])
    await bench.pool.models()[0].engine.settle(np.array([1], np.int32))

    assert await bench.condition("a") is Condition.DETACHED
    assert outcome_of(await older.resume("a")) == 1


async def test_a_slot_freed_while_others_are_resumed_is_not_taken_for_the_old_session(
    bench: SessionBench, in_thread: None
) -> None:
    older, newer = bench.client(), bench.client()
    counting = (await older.open("a")).handles
    await older.open("b", model="lstm", version="1")
    older.send(counting, [0], series([1]))
    await asyncio.sleep(0)

    opening = asyncio.create_task(newer.open("a", "b", mode=OpenMode.RESUME, model=""))
    await asyncio.sleep(0)
    await bench.manager.end_session("b")
    stranger = await older.open("c", model="lstm", version="1")
    taken = await opening

    assert {i: type(e) for i, e in taken.errors.items()} == {1: SessionNotFound}
    place = bench.place("c")
    assert place.owner == older.stream.number
    assert stranger.handles[0] not in [h for notice in older.notices for h in notice.handles.tolist()]


async def test_a_handle_cannot_be_closed_before_its_open_is_answered(
    bench: SessionBench, in_thread: None
) -> None:
    older, newer = bench.client(), bench.client()
    older.send((await older.open("a")).handles, [0], series([1]))
    await asyncio.sleep(0)
    opening = asyncio.create_task(newer.resume("a"))
    await asyncio.sleep(0)

    _, refused = await newer.close(1)
    taken = await opening

    assert isinstance(refused[0], SessionNotFound)
    assert await newer.close(taken.handles[0]) == ([1], {})
    assert len(set((await newer.open("b", "c")).handles)) == 2
