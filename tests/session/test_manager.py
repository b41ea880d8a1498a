"""Frames, acks, streams and models at the one door of the session layer."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from support.session_bench import LIMITS, SessionBench
from support.session_clients import StreamClient, series
from support.waiting import until
from tidegate.errors import (
    DeadlineExpired,
    Displaced,
    InvalidRequest,
    MessageTooLarge,
    ModelInUse,
    ServerStopping,
    SessionNotFound,
    TooManyRequests,
    WrongStep,
)
from tidegate.protocol.lifecycle import Condition
from tidegate.session.stream import NoticeReason


async def opened(client: StreamClient, *session_ids: str, model: str = "counter") -> list[int]:
    return (await client.open(*session_ids, model=model)).handles


async def test_a_refused_row_leaves_its_neighbours_alone(bench: SessionBench) -> None:
    client = bench.client()
    good, skips, spoiled, other = await opened(client, "a", "b", "c", "d")
    x = series([1], [2], [np.nan], [4])

    sent = client.send([good, skips, spoiled, other, 77], [0, 5, 0, 0, 0], np.concatenate([x, x[:1]]))
    await sent.done.wait()

    assert {row: type(e) for row, e in sent.errors.items()} == {
        1: WrongStep,
        2: InvalidRequest,
        4: SessionNotFound,
    }
    assert [sent.row(row)[0, 0] for row in (0, 3)] == [1, 4]
    assert np.isnan(sent.row(1)).all()
    assert await client.steps(skips, 0, [1]) == [1]


async def test_the_same_handle_twice_fails_both_rows_and_applies_neither(bench: SessionBench) -> None:
    client = bench.client()
    handles = await opened(client, "a", "b")

    sent = client.send([handles[0], handles[1], handles[0]], [0, 0, 1], series([1], [1], [1]))
    await sent.done.wait()

    assert {row: str(e) for row, e in sent.errors.items()} == dict.fromkeys(
        (0, 2), f"handles: {handles[0]} is there twice, every session has one place in a message"
    )
    assert await client.steps(handles[0], 0, [1]) == [1]


@pytest.mark.parametrize(
    ("first", "num_steps", "expected"), [(0, 1, 3), (2, 1, 3), (2, 2, 3), (4, 1, 3), (1, 9, 3)]
)
async def test_a_step_that_is_not_the_next_one_is_refused_and_changes_nothing(
    bench: SessionBench, first: int, num_steps: int, expected: int
) -> None:
    client = bench.client()
    handles = await opened(client, "a")
    await client.steps(handles[0], 0, [1, 1, 1])

    with pytest.raises(WrongStep) as caught:
        await client.steps(handles[0], first, [9] * num_steps)

    assert caught.value.expected_step == expected
    assert await client.steps(handles[0], 3, [1]) == [4]


async def test_frames_may_be_sent_before_the_ones_before_are_answered(bench: SessionBench) -> None:
    client = bench.client()
    handles = await opened(client, "a")

    sent = [client.send(handles, [step], series([1])) for step in range(5)]
    await asyncio.gather(*(s.done.wait() for s in sent))

    assert [float(s.row(0)[0, 0]) for s in sent] == [1, 2, 3, 4, 5]


async def test_a_frame_is_of_one_model_version(bench: SessionBench) -> None:
    client = bench.client()
    handles = await opened(client, "a") + await opened(client, "b", model="lstm")

    with pytest.raises(InvalidRequest) as caught:
        client.send(handles, [0, 0], series([1], [1]))

    assert str(caught.value) == (
        "handles: expected one model version per frame, got counter/1 in row 0 and lstm/2 in row 1"
    )
    assert await client.steps(handles[0], 0, [1]) == [1]


async def test_a_frame_none_of_whose_rows_is_good_is_answered_at_once(bench: SessionBench) -> None:
    client = bench.client()
    handles = await opened(client, "a", "b")

    sent = client.send(handles, [1, 2], series([1], [1]))

    assert sent.done.is_set()
    assert set(sent.errors) == {0, 1}


async def test_a_time_limit_refuses_the_step_and_the_next_one_takes_its_number(bench: SessionBench) -> None:
    client = bench.client()
    handles = await opened(client, "a")

    late = client.send(handles, [0], series([9]), time_limit_s=0.0)
    behind = client.send(handles, [1], series([9]))
    await behind.done.wait()

    assert isinstance(late.errors[0], DeadlineExpired)
    assert isinstance(behind.errors[0], WrongStep)
    assert await client.steps(handles[0], 0, [1]) == [1]


async def test_a_time_limit_behind_a_running_history_leaves_the_numbers_right(
    bench: SessionBench, in_thread: None
) -> None:
    client = bench.client()
    handles = await opened(client, "a")
    history = client.send(handles, [0], series([1] * 12))
    late = client.send(handles, [12], series([9]), time_limit_s=0.0)
    await late.done.wait()
    assert not history.done.is_set()

    again = client.send(handles, [12], series([1]))
    await asyncio.gather(history.done.wait(), again.done.wait())

    assert history.errors == again.errors == {}
    assert again.row(0)[0, 0] == 13


async def test_bytes_past_the_limit_are_refused_and_the_stream_goes_on(bench: SessionBench) -> None:
    client = bench.client()
    handles = await opened(client, "a", "b")
    client.stream.source.paused = True
    held = [client.send([h], [0], series([1] * 64)) for h in handles]
    assert bench.pending_bytes == 2 * 64 * 8

    with pytest.raises(TooManyRequests, match="max_pending_bytes") as caught:
        client.send([99] * 8, [0] * 8, series(*[[1] * 64] * 8))

    assert caught.value.retry_after_s == LIMITS.retry_after_s
    client.stream.source.paused = False
    bench.pool.models()[0].engine.wake()
    await asyncio.gather(*(s.done.wait() for s in held))
    assert bench.pending_bytes == 0


async def test_a_lost_stream_leaves_its_sessions_detached_after_what_ran(
    bench: SessionBench, in_thread: None
) -> None:
    client = bench.client()
    handles = await opened(client, "a", "b")
    with bench.engine_stalls():
        running = client.send(handles[:1], [0], series([1] * 8))
        waiting = client.send(handles[:1], [8], series([1]))
        await until(lambda: bench.runs("a"))

        client.leave()
    await running.done.wait()

    assert waiting.done.is_set()
    assert await bench.condition("b") is Condition.DETACHED
    assert (await bench.client().resume("a", "b")).next_steps == [4, 0]


async def test_only_so_many_streams_are_open(bench: SessionBench) -> None:
    clients = [bench.client() for _ in range(LIMITS.max_streams)]

    with pytest.raises(TooManyRequests, match="max_streams: all 3 streams are open"):
        bench.client()

    clients[0].leave()
    bench.client()


async def test_an_ack_of_answered_steps_is_taken(bench: SessionBench) -> None:
    client = bench.client()
    handles = await opened(client, "a") + await opened(client, "b", model="lstm")
    await client.steps(handles[0], 0, [1, 1])

    client.ack(handles, [2, 0])


@pytest.mark.parametrize(
    ("handles", "steps", "text"),
    [
        ([1], [3], "ack.steps: step 3 of handle 1 has not been answered"),
        ([1, 2], [1], "ack.steps: expected one number per handle (2), got 1"),
        ([9], [0], "handle 9: stands for no session on this stream, open one first"),
        ([9] * 9, [0] * 9, "ack.handles: expected at most 8, got 9"),
    ],
)
async def test_an_ack_of_what_was_not_answered_is_refused(
    bench: SessionBench, handles: list[int], steps: list[int], text: str
) -> None:
    client = bench.client()
    opened_handles = await opened(client, "a", "b")
    await client.steps(opened_handles[0], 0, [1, 1])

    with pytest.raises((InvalidRequest, MessageTooLarge, SessionNotFound)) as caught:
        client.ack(handles, steps)
    assert str(caught.value) == text


async def test_an_ack_that_names_a_session_taken_over_counts_for_the_others(bench: SessionBench) -> None:
    client = bench.client()
    taken, kept = await opened(client, "a", "b")
    for handle in (taken, kept):
        await client.steps(handle, 0, [1])
    await bench.checkpoint()
    await bench.client().resume("a")

    with pytest.raises(Displaced):
        client.ack([taken, kept], [1, 1])

    assert client.durable == {kept: 1}


async def test_a_version_with_sessions_is_not_unloaded(bench: SessionBench) -> None:
    client = bench.client()
    handles = await opened(client, "a")
    model = bench.pool.models()[0]

    with pytest.raises(ModelInUse, match="counter/1 has 1 sessions in memory: end them first"):
        bench.manager.unload(model)

    await client.close(*handles, end=True)
    bench.manager.unload(model)
    assert bench.pool.models() == []


async def test_an_unloaded_version_is_held_by_nobody(bench: SessionBench) -> None:
    client = bench.client()
    await client.close(*await opened(client, "a"), end=True)
    bench.manager.unload(bench.pool.models()[0])

    assert client.stream.handles.tables == {}
    assert bench.manager.registry.tables() == []
    labels = {"model": "counter", "version": "1"}
    assert bench.metrics.registry.get_sample_value("tidegate_arena_bytes", labels) is None
    assert await client.steps((await opened(client, "a"))[0], 0, [1]) == [1]


async def test_a_draining_server_tells_everyone_and_answers_what_was_sent(
    bench: SessionBench, in_thread: None
) -> None:
    client = bench.client()
    handles = await opened(client, "a")
    sent = client.send(handles, [0], series([1]))

    bench.manager.drain()
    await sent.done.wait()

    assert sent.errors == {}
    assert [(n.reason, n.handles.tolist()) for n in client.notices] == [(NoticeReason.DRAINING, [])]
    with pytest.raises(ServerStopping):
        client.send(handles, [1], series([1]))
    with pytest.raises(ServerStopping):
        await client.open("b")


async def test_books_that_do_not_balance_are_noticed(bench: SessionBench) -> None:
    client = bench.client()
    await opened(client, "a")
    place = bench.place("a")
    bench.manager.registry.remove("a")

    with pytest.raises(AssertionError):
        bench.manager.check_integrity()

    bench.manager.registry._places["a"] = place
