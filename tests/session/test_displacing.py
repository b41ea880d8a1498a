"""A resume takes a session over, also while a batch runs in the engine's thread."""

from __future__ import annotations

import asyncio

from support.session_bench import SessionBench
from support.session_clients import outcome_of, series
from support.waiting import until
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
    with bench.engine_stalls():
        running = older.send([handle], [0], series([1] * 10))
        waiting = older.send([handle], [10], series([1]))
        await until(lambda: bench.runs("a"))
        resume = asyncio.create_task(newer.resume("a"))
        await until(lambda: older.notices != [])

    taken = await resume

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
    with bench.engine_stalls():
        older.send([handle], [0], series([1]))
        await until(lambda: bench.runs("a"))
        both = asyncio.gather(first.resume("a"), second.resume("a"))
        await until(lambda: older.notices != [])

    lost, held = await both

    assert (outcome_of(lost), outcome_of(held)) == (1, 1)
    assert [n.reason for n in first.notices] == [NoticeReason.DISPLACED]
    assert held.epochs[0] > lost.epochs[0]
    assert await second.steps(held.handles[0], 1, [1]) == [2]


async def test_a_session_ended_while_it_is_resumed_ends_afterwards(
    bench: SessionBench, in_thread: None
) -> None:
    older, newer = bench.client(), bench.client()
    handle = (await older.open("a")).handles[0]
    with bench.engine_stalls():
        older.send([handle], [0], series([1]))
        await until(lambda: bench.runs("a"))
        resume = asyncio.create_task(newer.resume("a"))
        await until(lambda: older.notices != [])
        ending = asyncio.create_task(bench.manager.end_session("a"))

    assert outcome_of(await resume) == 1
    assert await ending == 1
    assert [n.reason for n in newer.notices] == [NoticeReason.ENDED]
    assert await bench.condition("a") is Condition.UNKNOWN


async def test_a_session_resumed_while_it_is_ended_is_not_found(bench: SessionBench) -> None:
    older, newer = bench.client(), bench.client()
    await older.open("a")
    with bench.store_stalls():
        ending = asyncio.create_task(bench.manager.end_session("a"))
        await until(lambda: bench.is_held("a"))
        resume = asyncio.create_task(newer.resume("a"))

    assert await ending == 0
    assert outcome_of(await resume) is SessionNotFound


async def test_a_resume_behind_the_running_batch_goes_back_to_what_is_stored(
    bench: SessionBench, in_thread: None
) -> None:
    older, newer = bench.client(), bench.client()
    handle = (await older.open("a")).handles[0]
    with bench.engine_stalls():
        older.send([handle], [0], series([1]))
        await until(lambda: bench.runs("a"))
        resume = asyncio.create_task(newer.resume("a", have=[0]))
        await until(lambda: older.notices != [])

    taken = await resume

    assert outcome_of(taken) == 0
    assert await newer.steps(taken.handles[0], 0, [5]) == [5]


async def test_a_resume_that_the_running_batch_outruns_is_refused_and_changes_nothing(
    bench: SessionBench, in_thread: None
) -> None:
    older, newer = bench.client(), bench.client()
    handles = (await older.open("a")).handles
    await older.steps(handles[0], 0, [1])
    with bench.engine_stalls():
        running = older.send(handles, [1], series([1]))
        await until(lambda: bench.runs("a"))

        result = await newer.resume("a", have=[1], held_from=[1])

    assert outcome_of(result) is SessionLost
    assert older.notices == []
    await running.done.wait()
    assert await older.steps(handles[0], 2, [1]) == [3]


async def test_a_client_lost_while_it_opens_leaves_the_session_detached(
    bench: SessionBench, in_thread: None
) -> None:
    older, newer = bench.client(), bench.client()
    handle = (await older.open("a")).handles[0]
    with bench.engine_stalls():
        older.send([handle], [0], series([1]))
        await until(lambda: bench.runs("a"))
        resume = asyncio.create_task(newer.resume("a"))
        await until(lambda: older.notices != [])

        resume.cancel()
        newer.leave()
        await asyncio.wait([resume])
    await until(lambda: not bench.is_held("a"))

    assert await bench.condition("a") is Condition.DETACHED
    assert outcome_of(await older.resume("a")) == 1


async def test_the_ids_of_an_open_are_held_until_all_of_them_are_open(
    bench: SessionBench, in_thread: None
) -> None:
    older, newer = bench.client(), bench.client()
    counting = (await older.open("a")).handles
    await older.open("b", model="lstm", version="1")
    with bench.engine_stalls():
        older.send(counting, [0], series([1]))
        await until(lambda: bench.runs("a"))
        opening = asyncio.create_task(newer.open("a", "b", mode=OpenMode.RESUME, model=""))
        await until(lambda: older.notices != [])
        ending = asyncio.create_task(bench.manager.end_session("b"))

    taken = await opening

    assert taken.errors == {}
    assert await ending == 0
    assert [(n.reason, n.handles.tolist()) for n in newer.notices] == [
        (NoticeReason.ENDED, taken.handles[1:])
    ]


async def test_a_handle_cannot_be_closed_before_its_open_is_answered(
    bench: SessionBench, in_thread: None
) -> None:
    older, newer = bench.client(), bench.client()
    handles = (await older.open("a")).handles
    with bench.engine_stalls():
        older.send(handles, [0], series([1]))
        await until(lambda: bench.runs("a"))
        opening = asyncio.create_task(newer.resume("a"))
        await until(lambda: older.notices != [])

        _, refused = await newer.close(1)
    taken = await opening

    assert isinstance(refused[0], SessionNotFound)
    assert await newer.close(taken.handles[0]) == ([1], {})
    assert len(set((await newer.open("b", "c")).handles)) == 2


async def test_a_session_whose_record_is_damaged_keeps_no_other_from_being_put_back(
    bench: SessionBench,
) -> None:
    client = bench.client()
    handles = (await client.open("a", "b")).handles
    for handle in handles:
        await client.steps(handle, 0, [1])
    table, slot = bench.place("a")
    number = int(table.number[slot])
    await bench.manager.keeper.write(
        lambda store: store._database._connection.execute(  # type: ignore[attr-defined]
            "UPDATE sessions SET crc32 = crc32 + 1 WHERE number = ?", (number,)
        )
    )

    back = await client.resume("a", "b", have=[0, 0], held_from=[0, 0])

    assert {i: type(e) for i, e in back.errors.items()} == {0: SessionLost}
    assert await client.steps(back.handles[1], 0, [5]) == [5]
