"""Calls on one session by its id."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from support.session_bench import LIMITS, MAX_SESSIONS, SessionBench
from support.session_clients import Caller
from support.waiting import until
from tidegate.errors import (
    ArenaFull,
    InvalidRequest,
    MessageTooLarge,
    ModelMismatch,
    ServerStopping,
    SessionBusy,
    SessionExists,
    SessionLost,
    SessionNotFound,
    TidegateError,
    WrongStep,
)
from tidegate.protocol.lifecycle import Condition
from tidegate.protocol.outputs import OutputSelection
from tidegate.session.open_request import OpenMode
from tidegate.session.snapshots import Snapshots

CREATE, RESUME, EITHER = OpenMode.CREATE, OpenMode.RESUME, OpenMode.CREATE_OR_RESUME


@pytest.fixture
def caller(bench: SessionBench) -> Caller:
    return bench.caller()


async def test_a_session_is_created_stepped_and_stays_detached(bench: SessionBench, caller: Caller) -> None:
    assert await caller.step("a", 0, [1, 2], mode=CREATE) == ([1, 3], 2)
    assert await caller.step("a", 2, [4]) == ([7], 3)
    assert await bench.condition("a") is Condition.DETACHED


async def test_a_long_call_comes_back_in_one_piece(caller: Caller) -> None:
    answers, next_step = await caller.step("a", 0, [1] * 30, mode=CREATE)

    assert answers == list(range(1, 31))
    assert next_step == 30


@pytest.mark.parametrize(("outputs", "expected"), [(OutputSelection.LAST, [9.0]), (OutputSelection.NONE, [])])
async def test_only_the_answers_that_are_wanted_come_back(
    caller: Caller, outputs: OutputSelection, expected: list[float]
) -> None:
    assert await caller.step("a", 0, [1] * 9, mode=CREATE, outputs=outputs) == (expected, 9)


@pytest.mark.parametrize(
    ("values", "first_step", "error"), [([np.nan], 0, InvalidRequest), ([1.0], 3, WrongStep)]
)
async def test_bad_steps_create_no_session(
    bench: SessionBench, caller: Caller, values: list[float], first_step: int, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await caller.step("a", first_step, values, mode=CREATE)

    assert await bench.condition("a") is Condition.UNKNOWN
    assert bench.pending_bytes == 0


@pytest.mark.parametrize(
    ("session_id", "mode", "error"),
    [
        ("new", RESUME, SessionNotFound),
        ("known", CREATE, SessionExists),
        ("lost", CREATE, SessionLost),
        ("lost", RESUME, SessionLost),
        ("lost", EITHER, SessionLost),
        ("", CREATE, InvalidRequest),
    ],
)
async def test_what_forbids_a_step(
    bench: SessionBench, caller: Caller, session_id: str, mode: OpenMode, error: type[TidegateError]
) -> None:
    await caller.step("lost", 0, [1], mode=CREATE)
    await bench.lose("lost")
    await caller.step("known", 0, [1], mode=CREATE)

    with pytest.raises(error):
        await caller.step(session_id, 0, [1], mode=mode)


async def test_a_session_that_a_stream_holds_is_busy(bench: SessionBench, caller: Caller) -> None:
    client = bench.client()
    handles = (await client.open("a")).handles

    with pytest.raises(SessionBusy, match="a stream holds session 'a'"):
        await caller.step("a", 0, [1])

    await client.close(*handles)
    assert await caller.step("a", 0, [1]) == ([1], 1)


async def test_a_session_pinned_to_another_model_is_refused(caller: Caller) -> None:
    await caller.step("a", 0, [1], mode=CREATE)

    with pytest.raises(ModelMismatch, match=r"model\.name: the session is pinned to 'counter', got 'lstm'"):
        await caller.step("a", 1, [1], model="lstm")


async def test_calls_at_once_on_one_session_run_in_order_of_their_steps(
    caller: Caller, in_thread: None
) -> None:
    await caller.step("a", 0, [1], mode=CREATE)

    answers = await asyncio.gather(*(caller.step("a", step, [1]) for step in range(1, 6)))

    assert answers == [([float(step + 1)], step + 1) for step in range(1, 6)]


async def test_of_two_calls_that_create_at_once_one_does(bench: SessionBench, caller: Caller) -> None:
    both = await asyncio.gather(
        *(caller.step("a", 0, [1], mode=CREATE) for _ in range(2)), return_exceptions=True
    )

    assert [type(b) for b in both] == [tuple, SessionExists]


async def test_a_full_arena_refuses_with_a_hint(bench: SessionBench, caller: Caller) -> None:
    await bench.client().open(*(f"s{i}" for i in range(MAX_SESSIONS)))

    with pytest.raises(ArenaFull, match="max_sessions: all 6 slots") as caught:
        await caller.step("a", 0, [1], mode=CREATE)

    assert caught.value.retry_after_s == LIMITS.retry_after_s


async def test_a_call_cut_off_does_not_undo_its_step(
    bench: SessionBench, caller: Caller, in_thread: None
) -> None:
    await caller.step("a", 0, [1], mode=CREATE)
    with bench.engine_stalls():
        cut_off = asyncio.create_task(caller.step("a", 1, [1]))
        await until(lambda: bench.runs("a"))

        cut_off.cancel()
        await asyncio.wait([cut_off])

        assert bench.pending_bytes > 0, "its input still waits"
    assert await caller.step("a", 2, [1]) == ([3], 3)
    assert bench.pending_bytes == 0


async def test_a_resume_settles_the_step_of_a_call_that_was_cut_off(
    bench: SessionBench, caller: Caller, in_thread: None
) -> None:
    await caller.step("a", 0, [1], mode=CREATE)
    with bench.engine_stalls():
        cut_off = asyncio.create_task(caller.step("a", 1, [1]))
        await until(lambda: bench.runs("a"))
        cut_off.cancel()
        await asyncio.wait([cut_off])
        client = bench.client()
        resume = asyncio.create_task(client.resume("a"))
        await until(lambda: bench.is_held("a"))

    taken = await resume

    assert taken.next_steps == [2]
    assert await client.steps(taken.handles[0], 2, [1]) == [3]


async def test_a_resume_comes_after_the_calls_that_were_made_before_it(
    bench: SessionBench, caller: Caller, in_thread: None
) -> None:
    await caller.step("a", 0, [1], mode=CREATE)
    client = bench.client()
    calls = [asyncio.create_task(caller.step("a", step, [1])) for step in (1, 2)]
    await until(lambda: bench.is_held("a"))

    taken = await client.resume("a")

    assert [await call for call in calls] == [([2], 2), ([3], 3)]
    assert taken.next_steps == [3]
    with pytest.raises(SessionBusy):
        await caller.step("a", 3, [1])


async def test_a_draining_server_takes_no_call(bench: SessionBench, caller: Caller) -> None:
    bench.manager.drain()

    with pytest.raises(ServerStopping):
        await caller.step("a", 0, [1], mode=CREATE)


async def test_a_session_is_seen_with_its_condition_and_step(bench: SessionBench, caller: Caller) -> None:
    await caller.step("a", 0, [1, 1], mode=CREATE)
    await bench.client().open("b")

    views = [await caller.calls.view(i) for i in ("a", "b")]

    assert [(v.condition, v.next_step) for v in views] == [(Condition.DETACHED, 2), (Condition.ATTACHED, 0)]
    with pytest.raises(SessionNotFound):
        await caller.calls.view("c")


async def test_pages_name_every_session_once_wherever_it_is(bench: SessionBench, caller: Caller) -> None:
    client = bench.client()
    await client.open("d", "b", "a")
    await client.open("c", model="lstm")
    await caller.step("e", 0, [1], mode=CREATE)
    bench.grow_idle("e")
    await bench.manager.tidy()

    first, more = await caller.calls.page("", "", 3)
    rest, no_more = await caller.calls.page("", first[-1].session_id, 3)
    of_one_model, _ = await caller.calls.page("lstm", "", 10)

    seen = {v.session_id: v.condition for v in (*first, *rest)}
    assert (len(first), len(rest), more, no_more) == (3, 2, True, False)
    assert seen == dict.fromkeys("abcd", Condition.ATTACHED) | {"e": Condition.PASSIVATED}
    assert [v.session_id for v in of_one_model] == ["c"]


async def test_a_call_has_no_more_steps_than_a_frame(bench: SessionBench, caller: Caller) -> None:
    with pytest.raises(MessageTooLarge, match=f"inputs: expected at most {LIMITS.max_frame_steps} steps"):
        await caller.step("a", 0, [1] * (LIMITS.max_frame_steps + 1), mode=CREATE)

    assert len(bench.manager.registry) == 0


async def test_a_passivated_session_is_seen_as_durable_as_it_is(models: Path, tmp_path: Path) -> None:
    bench = SessionBench(models, store=f"sqlite:///{tmp_path}/sessions.db")
    caller = bench.caller()
    await caller.step("a", 0, [1, 2], mode=CREATE)
    await Snapshots(bench.manager).fork("a", "b")
    await bench.passivate("b")

    view = await caller.calls.view("b")
    (_, listed), _ = await caller.calls.page("", "", 5)

    assert (view.condition, view.next_step, view.durable_step) == (Condition.PASSIVATED, 2, 2)
    assert (listed.session_id, listed.durable_step) in {("a", 0), ("b", 2)}
    bench.close()
