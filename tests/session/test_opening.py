"""Opening sessions on a stream: who may create and who may resume."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from support.session_bench import LIMITS, MAX_SESSIONS, SessionBench
from support.session_clients import outcome_of
from support.waiting import until
from tidegate.errors import (
    ArenaFull,
    InvalidRequest,
    MessageTooLarge,
    ModelInUse,
    ModelMismatch,
    ModelNotFound,
    SessionExists,
    SessionLost,
    SessionNotFound,
    StaleAttempt,
    TidegateError,
)
from tidegate.session import opening
from tidegate.session.open_request import OpenMode

CREATE, RESUME, EITHER = OpenMode.CREATE, OpenMode.RESUME, OpenMode.CREATE_OR_RESUME


# The session "known" stands at step 2; "lost" has a tombstone; "new" was never there.
MATRIX = [
    ("new", CREATE, None, None, 0),
    ("new", CREATE, 0, None, 0),
    ("new", RESUME, None, None, SessionNotFound),
    ("new", RESUME, 0, None, SessionNotFound),
    ("new", EITHER, None, None, 0),
    ("new", EITHER, 0, 0, 0),
    ("new", EITHER, 1, 0, SessionNotFound),
    ("known", CREATE, None, None, SessionExists),
    ("known", RESUME, None, None, 2),
    ("known", RESUME, 2, None, 2),
    ("known", RESUME, 3, None, SessionLost),
    ("known", RESUME, 3, 2, 2),
    ("known", RESUME, 9, 0, 2),
    ("known", RESUME, 1, 0, 0),
    ("known", RESUME, 1, None, SessionLost),
    ("known", RESUME, 1, 1, SessionLost),
    ("known", EITHER, None, None, 2),
    ("known", EITHER, 2, 2, 2),
    ("known", EITHER, 5, 4, SessionLost),
    ("lost", CREATE, None, None, SessionLost),
    ("lost", RESUME, None, None, SessionLost),
    ("lost", EITHER, None, None, SessionLost),
]


@pytest.mark.parametrize(("session_id", "mode", "have", "held_from", "expected"), MATRIX)
async def test_how_a_session_may_be_opened(
    bench: SessionBench,
    session_id: str,
    mode: OpenMode,
    have: int | None,
    held_from: int | None,
    expected: type[TidegateError] | int,
) -> None:
    earlier = bench.client(b"earlier")
    opened = await earlier.open("lost", "known")
    await earlier.steps(opened.handles[1], 0, [1, 1])
    await earlier.close(opened.handles[0])
    await bench.lose("lost")
    earlier.leave()

    result = await bench.client(b"later").open(session_id, mode=mode, have=[have], held_from=[held_from])

    assert outcome_of(result) == expected


async def test_a_create_that_is_sent_again_by_the_same_client_is_the_same_session(
    bench: SessionBench,
) -> None:
    first = bench.client(b"me")
    opened = await first.open("a")
    await first.steps(opened.handles[0], 0, [1])
    first.leave()

    again = await bench.client(b"me").open("a", attempt=1)
    stranger = await bench.client(b"you").open("a")

    assert outcome_of(again) == 1
    assert outcome_of(stranger) is SessionExists


async def test_clients_without_an_instance_are_not_the_same_client(bench: SessionBench) -> None:
    await bench.client(b"").open("a")

    assert outcome_of(await bench.client(b"").open("a")) is SessionExists


async def test_an_older_attempt_of_a_client_is_refused_and_changes_nothing(bench: SessionBench) -> None:
    newer = bench.client(b"me")
    handle = (await newer.open("a", attempt=5)).handles[0]

    stale = await bench.client(b"me").resume("a", attempt=4)

    assert outcome_of(stale) is StaleAttempt
    assert newer.notices == []
    assert await newer.steps(handle, 0, [1]) == [1]


async def test_an_attempt_counts_for_its_client_alone(bench: SessionBench) -> None:
    await bench.client(b"me").open("a", attempt=5)

    assert outcome_of(await bench.client(b"you").resume("a", attempt=0)) == 0


async def test_of_two_streams_that_create_at_once_one_does(bench: SessionBench) -> None:
    first, second = bench.client(b"1"), bench.client(b"2")

    results = await asyncio.gather(first.open("a"), second.open("a"))

    assert sorted(map(str, map(outcome_of, results))) == sorted(["0", str(SessionExists)])


async def test_past_the_slots_sessions_are_refused_with_a_hint_one_by_one(bench: SessionBench) -> None:
    client = bench.client()
    ids = [f"s{i}" for i in range(MAX_SESSIONS + 2)]

    result = await client.open(*ids)

    assert set(result.errors) == {MAX_SESSIONS, MAX_SESSIONS + 1}
    error = result.errors[MAX_SESSIONS]
    assert isinstance(error, ArenaFull)
    assert error.retry_after_s == LIMITS.retry_after_s
    assert result.errors[MAX_SESSIONS + 1] is not error
    assert len(bench.manager.registry) == MAX_SESSIONS
    assert await client.steps(result.handles[0], 0, [1]) == [1]


@pytest.mark.parametrize("mode", [CREATE, EITHER, RESUME])
async def test_an_id_named_twice_is_refused_each_time(bench: SessionBench, mode: OpenMode) -> None:
    client = bench.client(b"me")
    await client.open("a")

    result = await client.open("x", "a", "y", "a", mode=mode)

    assert {i: str(e) for i, e in result.errors.items() if "twice" in str(e)} == {
        1: "session_ids: 'a' is named twice",
        3: "session_ids: 'a' is named twice",
    }
    assert client.notices == []


@pytest.mark.parametrize("session_id", ["", "x" * 129, "é" * 65])
async def test_an_id_of_the_wrong_size_is_refused_alone(bench: SessionBench, session_id: str) -> None:
    result = await bench.client().open("a", session_id)

    assert result.handles[0] != 0
    assert isinstance(result.errors[1], InvalidRequest)
    assert "expected 1 to 128 bytes" in str(result.errors[1])


async def test_a_session_stays_with_its_version(bench: SessionBench) -> None:
    client = bench.client(b"me")
    await client.open("a", model="lstm", version="1")

    newest = await client.open("a", "b", model="lstm", version="2", mode=EITHER)
    any_version = await client.open("a", model="lstm", mode=EITHER)
    other_model = await client.open("a", model="counter", mode=EITHER)

    assert isinstance(newest.errors[0], ModelMismatch)
    assert str(newest.errors[0]) == "model.version: the session is pinned to '1', got '2'"
    assert outcome_of(any_version) == 0
    assert outcome_of(other_model) is ModelMismatch


async def test_one_open_may_find_sessions_of_several_versions(bench: SessionBench) -> None:
    client = bench.client(b"me")
    await client.open("a", model="lstm", version="1")
    await client.open("b", model="counter")

    result = await client.open("a", "b", mode=RESUME, model="")

    assert [m.manifest.label if m else None for m in result.models] == ["lstm/1", "counter/1"]


@pytest.mark.parametrize(
    ("ids", "fields", "error", "text"),
    [
        ([], {}, InvalidRequest, "session_ids: expected at least one, got none"),
        (["x"] * 13, {}, MessageTooLarge, "session_ids: expected at most 12, got 13"),
        (["x"], {"model": ""}, InvalidRequest, "model.name: expected the name of a model, got an empty one"),
        (["x"], {"have": [1, 2]}, InvalidRequest, "have: expected none or one per session (1), got 2"),
        (["x"], {"model": "m" * 256}, InvalidRequest, "model.name: expected at most 255 characters, got 256"),
        (
            ["x"],
            {"version": "1" * 256},
            InvalidRequest,
            "model.version: expected at most 255 characters, got 256",
        ),
        (["x"], {"model": "none"}, ModelNotFound, "no model 'none'; the repository has: counter, lstm"),
    ],
)
async def test_an_open_of_the_wrong_form_is_refused_whole(
    bench: SessionBench, ids: list[str], fields: dict[str, object], error: type[Exception], text: str
) -> None:
    with pytest.raises(error) as caught:
        await bench.client().open(*ids, **fields)  # type: ignore[arg-type]
    assert str(caught.value) == text
    assert len(bench.manager.registry) == 0


async def test_a_client_instance_has_at_most_64_bytes(bench: SessionBench) -> None:
    await bench.client(b"x" * 64).open("a")

    with pytest.raises(InvalidRequest, match="client_instance: expected at most 64 bytes, got 65"):
        await bench.client(b"x" * 65).open("b")


async def test_a_version_is_not_unloaded_while_an_open_looks_its_sessions_up(bench: SessionBench) -> None:
    client = bench.client()
    model = await bench.pool.load("counter")
    with bench.store_stalls():
        opening = asyncio.create_task(client.open("a"))
        await until(lambda: bench.is_held("a"))

        with pytest.raises(ModelInUse):
            bench.manager.unload(model)

    result = await opening
    assert result.models == [model]
    assert await client.steps(result.handles[0], 0, [1]) == [1]


async def test_what_becomes_durable_while_an_open_is_at_work_is_in_its_answer(
    bench: SessionBench, in_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "PIECE", 1)
    older, newer = bench.client(), bench.client()
    (handle,) = (await older.open("a")).handles
    slow = (await older.open("b", model="lstm", version="1")).handles
    await older.steps(handle, 0, [1, 1])
    older.ack([handle], [2])
    with bench.engine_stalls("lstm/1"):
        older.send(slow, [0], np.zeros((1, 1, 3), np.float32))
        await until(lambda: bench.runs("b"))
        resume = asyncio.create_task(newer.resume("a", "b", have=[2, 1], held_from=[0, 0]))
        await until(lambda: bench.place("a").owner == newer.stream.number)
        await bench.checkpoint()
        assert list(newer.durable.values()) == [2]

    assert (await resume).durable_steps == [2, 0]
