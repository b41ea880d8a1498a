"""Giving sessions up: detached and ended."""

from __future__ import annotations

import asyncio

import pytest

from support.session_bench import LIMITS, SessionBench
from support.session_clients import StreamClient, outcome_of, series
from support.waiting import until
from tidegate.errors import Displaced, InvalidRequest, MessageTooLarge, SessionNotFound
from tidegate.protocol.lifecycle import Condition
from tidegate.session.frames import Refusals
from tidegate.session.stream import NoticeReason


async def opened(client: StreamClient, *session_ids: str) -> list[int]:
    return (await client.open(*session_ids)).handles


async def close_that_waits(client: StreamClient) -> asyncio.Task[tuple[list[int], Refusals]]:
    """Close session "a" behind a step that cannot run: its client reads nothing."""
    handles = await opened(client, "a")
    client.stream.source.paused = True
    client.send(handles, [0], series([1]))
    close = asyncio.create_task(client.close(handles[0]))
    await until(lambda: handles[0] in client.stream.in_hand)
    return close


async def test_a_closed_session_can_be_resumed_where_it_stood(bench: SessionBench) -> None:
    client = bench.client()
    handles = await opened(client, "a", "b")
    await client.steps(handles[1], 0, [1, 1])

    closed = await client.close(handles[1], handles[0])

    assert closed == ([2, 0], {})
    assert await bench.condition("a") is Condition.DETACHED
    again = await bench.client().resume("b")
    assert again.next_steps == [2]


async def test_an_ended_session_is_gone_and_its_id_and_slot_are_free(bench: SessionBench) -> None:
    client = bench.client()
    handles = await opened(client, "a")
    await client.steps(handles[0], 0, [5])

    closed = await client.close(handles[0], end=True)

    assert closed == ([1], {})
    assert outcome_of(await client.resume("a")) is SessionNotFound
    again = await opened(client, "a")
    assert await client.steps(again[0], 0, [1]) == [1]


@pytest.mark.parametrize("end", [False, True])
async def test_a_close_waits_for_the_answers_of_what_was_sent_before(
    bench: SessionBench, in_thread: None, end: bool
) -> None:
    client = bench.client()
    handles = await opened(client, "a")
    sent = [client.send(handles, [0], series([1] * 9)), client.send(handles, [9], series([1]))]

    closed = await client.close(handles[0], end=end)

    assert closed == ([10], {})
    assert all(s.done.is_set() and not s.errors for s in sent)


async def test_a_handle_takes_no_rows_once_its_close_was_sent(bench: SessionBench, in_thread: None) -> None:
    client = bench.client()
    handles = await opened(client, "a")
    client.send(handles, [0], series([1]))
    close = asyncio.create_task(client.close(handles[0]))
    await until(lambda: handles[0] in client.stream.in_hand)

    late = client.send(handles, [1], series([1]))

    assert str(late.errors[0]) == f"handle {handles[0]}: is being closed"
    assert await close == ([1], {})


async def test_a_handle_named_twice_stays_open_and_is_nobody_elses(bench: SessionBench) -> None:
    client = bench.client()
    handles = await opened(client, "a")

    _, errors = await client.close(handles[0], handles[0])
    more = await opened(client, "b", "c")

    assert {i: type(e) for i, e in errors.items()} == {0: InvalidRequest, 1: InvalidRequest}
    assert len({*handles, *more}) == 3
    assert await client.steps(handles[0], 0, [1]) == [1]


async def test_two_closes_of_one_handle_close_it_once(bench: SessionBench, in_thread: None) -> None:
    client = bench.client()
    handles = await opened(client, "a")
    client.send(handles, [0], series([1]))

    first, second = await asyncio.gather(
        client.close(handles[0], end=True), client.close(handles[0], end=True)
    )

    assert first == ([1], {})
    assert isinstance(second[1][0], SessionNotFound)


async def test_a_handle_displaced_under_two_closes_comes_back_once(
    bench: SessionBench, in_thread: None
) -> None:
    older, newer = bench.client(), bench.client()
    handles = await opened(older, "a")
    with bench.engine_stalls():
        older.send(handles, [0], series([1]))
        await until(lambda: bench.runs("a"))
        first = asyncio.create_task(older.close(handles[0]))
        await until(lambda: handles[0] in older.stream.in_hand)
        resumed = asyncio.create_task(newer.resume("a"))
        await until(lambda: older.notices != [])

        second = await older.close(handles[0])

    assert [type(second[1][0]), type((await first)[1][0])] == [Displaced, Displaced]
    assert (await resumed).next_steps == [1]
    assert len(set(await opened(older, "b", "c"))) == 2


async def test_a_close_of_more_handles_than_the_server_takes_is_refused_whole(bench: SessionBench) -> None:
    client = bench.client()
    handles = await opened(client, "a")

    with pytest.raises(MessageTooLarge, match=f"handles: expected at most {LIMITS.max_open_sessions}, got"):
        await client.close(*handles, *range(100, 100 + LIMITS.max_open_sessions))

    assert await client.steps(handles[0], 0, [1]) == [1]


async def test_an_unknown_handle_is_refused_beside_its_neighbours(bench: SessionBench) -> None:
    client = bench.client()
    handles = await opened(client, "a")

    next_steps, errors = await client.close(99, handles[0], 0)

    assert next_steps == [0, 0, 0]
    assert {i: type(e) for i, e in errors.items()} == {0: SessionNotFound, 2: SessionNotFound}
    assert await bench.condition("a") is Condition.DETACHED


async def test_a_displaced_handle_comes_back_with_an_error(bench: SessionBench) -> None:
    older, newer = bench.client(), bench.client()
    handles = await opened(older, "a")
    taken = await newer.resume("a")

    _, errors = await older.close(handles[0], end=True)

    assert isinstance(errors[0], Displaced)
    assert await newer.steps(taken.handles[0], 0, [1]) == [1]
    assert await opened(older, "b") == handles


async def test_a_close_ends_when_what_it_waits_for_is_refused(bench: SessionBench) -> None:
    older, newer = bench.client(), bench.client()
    close = await close_that_waits(older)

    await newer.resume("a")
    next_steps, errors = await close

    assert next_steps == [0]
    assert isinstance(errors[0], Displaced)
    assert await bench.condition("a") is Condition.ATTACHED


async def test_a_close_does_not_wait_for_whoever_got_the_slot(bench: SessionBench) -> None:
    older, newer = bench.client(), bench.client()
    close = await close_that_waits(older)

    await bench.manager.end_session("a")
    theirs = await opened(newer, "b")
    newer.stream.source.paused = True
    waiting = newer.send(theirs, [0], series([1]))
    next_steps, errors = await close

    assert next_steps == [0]
    assert isinstance(errors[0], SessionNotFound)
    assert not waiting.done.is_set()
    newer.leave()


async def test_ending_by_id_tells_the_stream_and_refuses_what_waits(
    bench: SessionBench, in_thread: None
) -> None:
    client = bench.client()
    handles = await opened(client, "a")
    with bench.engine_stalls():
        sent = client.send(handles, [0], series([1] * 9))
        await until(lambda: bench.runs("a"))
        ending = asyncio.create_task(bench.manager.end_session("a"))
        await until(lambda: client.notices != [])

    assert await ending == 4
    assert [(n.reason, n.handles.tolist(), n.next_steps.tolist()) for n in client.notices] == [
        (NoticeReason.ENDED, handles, [4])
    ]
    assert isinstance(sent.errors[0], SessionNotFound)
    late = client.send(handles, [4], series([1]))
    assert str(late.errors[0]) == f"handle {handles[0]}: the session was ended by its id"


async def test_an_id_is_free_while_the_old_session_still_runs(bench: SessionBench, in_thread: None) -> None:
    client = bench.client()
    handles = await opened(client, "a")
    with bench.engine_stalls():
        client.send(handles, [0], series([7]))
        await until(lambda: bench.runs("a"))
        ending = asyncio.create_task(bench.manager.end_session("a"))
        await until(lambda: client.notices != [])

        again = await opened(client, "a")

    assert await client.steps(again[0], 0, [1]) == [1]
    assert await ending == 1


async def test_a_call_cut_off_while_it_ends_a_session_leaves_no_slot_used(
    bench: SessionBench, in_thread: None
) -> None:
    client = bench.client()
    handles = await opened(client, "a", "b")
    with bench.engine_stalls():
        client.send(handles[:1], [0], series([1]))
        await until(lambda: bench.runs("a"))
        neighbour = client.send(handles[1:], [0], series([1]))
        ending = asyncio.create_task(bench.manager.end_session("a"))
        await until(lambda: client.notices != [])

        ending.cancel()
        await asyncio.wait([ending])
    await neighbour.done.wait()

    assert ending.cancelled()
    assert [t.num_sessions for t in bench.manager.registry.tables()] == [1]


async def test_a_stream_lost_before_its_close_ends_a_session_leaves_it_to_whoever_resumes_it(
    bench: SessionBench,
) -> None:
    older, newer = bench.client(), bench.client()
    handles = await opened(older, "a")
    with bench.store_stalls():
        resume = asyncio.create_task(newer.resume("a", "unknown"))
        await until(lambda: bench.is_held("a"))
        closing = asyncio.create_task(older.close(*handles, end=True))
        await until(lambda: handles[0] in older.stream.in_hand)
        older.leave()
    taken = await resume
    await closing

    assert await newer.steps(taken.handles[0], 0, [1]) == [1]
    assert bench.in_memory() == {"a"}


async def test_a_stream_lost_right_after_its_close_ended_a_session_leaves_the_slot_alone(
    bench: SessionBench,
) -> None:
    client = bench.client()
    closing = asyncio.create_task(client.close(*await opened(client, "a"), end=True))
    await until(lambda: not bench.in_memory())

    client.leave()

    assert not closing.done()
    bench.manager.check_integrity()
    await closing


async def test_an_id_that_nobody_has_cannot_be_ended(bench: SessionBench) -> None:
    with pytest.raises(SessionNotFound, match="no session 'a'"):
        await bench.manager.end_session("a")
