"""The life of sessions on streams: created, resumed, taken over, stepped in any portions, closed."""

from __future__ import annotations

import secrets
from pathlib import Path

import numpy as np
import pytest
from google.rpc.code_pb2 import Code
from grpc import aio

from support.ids import new_id
from support.raw_stream import Floats, RawStream, alone, connect, in_chunks
from support.server import ServerProcess
from tidegate.v1 import stream_pb2 as pb
from tidegate.v1.error_pb2 import Error

HISTORY = 100_000
"""Steps of a long history."""


def draw(num_steps: int, seed: int = 1) -> Floats:
    return np.random.default_rng(seed).normal(0, 1, (num_steps, 3)).astype(np.float32)


def kind(error: Error) -> tuple[str, str]:
    return Code.Name(error.code), error.reason


def only_error(opened: pb.Opened | pb.Closed) -> Error:
    (refused,) = opened.errors
    return refused.error


async def test_a_session_goes_on_where_its_stream_left_it(channel: aio.Channel) -> None:
    x, session_id = draw(8), new_id()
    expected = await alone(channel, "lstm", new_id(), x)

    async with RawStream(channel) as first:
        before = await first.step(await first.handles("lstm", session_id), [0], x[None, :3])
    async with RawStream(channel) as second:
        opened = await second.open("", session_id, mode="RESUME")
        after = await second.step(opened.handles, [3], x[None, 3:])

    assert list(opened.next_steps) == [3]
    assert opened.durable_steps[0] in (0, 3), "durable is what was stored, and no more"
    assert opened.limits.durable
    assert (opened.models[0].name, opened.models[0].version) == ("lstm", "1")
    answers = np.concatenate([before.output(), after.output()], axis=1)[0]
    assert answers.tobytes() == expected.tobytes()


async def test_create_or_resume_creates_once(channel: aio.Channel) -> None:
    session_id = new_id()

    async with RawStream(channel) as stream:
        created = await stream.open("lstm", session_id, mode="CREATE_OR_RESUME")
        await stream.step(created.handles, [0], draw(2)[None])
        await stream.close(created.handles, mode="DETACH")
        resumed = await stream.open("lstm", session_id, mode="CREATE_OR_RESUME")

    assert list(created.next_steps) == [0]
    assert list(resumed.next_steps) == [2]


async def test_create_or_resume_never_creates_for_who_has_answers(channel: aio.Channel) -> None:
    async with RawStream(channel) as stream:
        opened = await stream.open("lstm", new_id(), mode="CREATE_OR_RESUME", have=[5])

    assert kind(only_error(opened)) == ("NOT_FOUND", "SESSION_NOT_FOUND")
    assert "answers before 5" in only_error(opened).message
    assert list(opened.handles) == [0]


async def test_a_known_id_is_not_created_again(channel: aio.Channel) -> None:
    session_id = new_id()

    async with RawStream(channel) as stream:
        await stream.step(await stream.handles("lstm", session_id), [0], draw(2)[None])
        again = await stream.open("lstm", session_id)

    assert kind(only_error(again)) == ("ALREADY_EXISTS", "SESSION_EXISTS")
    assert "at step 2" in only_error(again).message


async def test_a_resent_create_of_one_client_is_no_error(channel: aio.Channel) -> None:
    session_id, instance = new_id(), secrets.token_bytes(16)

    async with RawStream(channel) as lost, RawStream(channel) as stream:
        await lost.handles("lstm", session_id, client_instance=instance, attempt=1)
        again = await stream.open("lstm", session_id, client_instance=instance, attempt=2)

    assert not again.errors
    assert list(again.next_steps) == [0]


async def test_an_older_connection_of_a_client_cannot_take_its_sessions_back(channel: aio.Channel) -> None:
    session_id, instance = new_id(), secrets.token_bytes(16)

    async with RawStream(channel) as newer, RawStream(channel) as older:
        handles = await newer.handles("lstm", session_id, client_instance=instance, attempt=2)
        late = await older.open("", session_id, mode="RESUME", client_instance=instance, attempt=1)
        reply = await newer.step(handles, [0], draw(1)[None])

    assert kind(only_error(late)) == ("ABORTED", "STALE_ATTEMPT")
    assert reply.errors == {}


@pytest.mark.parametrize("attempt", [0, 7])
async def test_clients_without_an_instance_are_not_taken_for_one(channel: aio.Channel, attempt: int) -> None:
    session_id = new_id()

    async with RawStream(channel) as one, RawStream(channel) as other:
        await one.handles("lstm", session_id, attempt=5)
        opened = await other.open("", session_id, mode="RESUME", attempt=attempt)

    assert not opened.errors


@pytest.mark.parametrize(
    ("have", "held_from", "goes_on_at"),
    [(-1, -1, 3), (3, -1, 3), (5, 2, 3), (3, 3, 3), (2, 0, 0), (2, -1, None), (2, 1, None), (5, 4, None)],
)
async def test_a_resume_is_served_only_from_a_state_that_the_client_can_go_on_from(
    small_models: Path, tmp_path: Path, have: int, held_from: int, goes_on_at: int | None
) -> None:
    x, session_id = draw(6), new_id()

    # Without checkpoints there are two states: the live one, and the initial one, which can be made again.
    with ServerProcess(small_models, tmp_path, "--checkpoint-age-s=3600") as server:
        async with connect(server.address) as channel, RawStream(channel) as stream:
            expected = await alone(channel, "lstm", new_id(), x)
            handles = await stream.handles("lstm", session_id)
            await stream.step(handles, [0], x[None, :3])
            await stream.close(handles, mode="DETACH")
            opened = await stream.open("", session_id, mode="RESUME", have=[have], held_from=[held_from])
            if goes_on_at is None:
                after = await stream.open("", session_id, mode="RESUME")
            else:
                reply = await stream.step(opened.handles, [goes_on_at], x[None, goes_on_at:])

    if goes_on_at is None:
        error = only_error(opened)
        assert kind(error) == ("DATA_LOSS", "SESSION_LOST")
        assert error.next_step == 3
        assert "got states at steps 0, 3" in error.message
        assert list(after.next_steps) == [3], "a refused resume changes nothing"
    else:
        assert list(opened.next_steps) == [goes_on_at]
        assert reply.output()[0].tobytes() == expected[goes_on_at:].tobytes()


async def test_a_resume_displaces_the_older_stream(channel: aio.Channel) -> None:
    x, session_id = draw(6), new_id()
    expected = await alone(channel, "lstm", new_id(), x)

    async with RawStream(channel) as older, RawStream(channel) as newer:
        held = await older.handles("lstm", session_id)
        await older.step(held, [0], x[None, :3])
        handles = await newer.handles("", session_id, mode="RESUME")
        notice = await older.notice()
        refused = await older.step(held, [3], x[None, 3:])
        reply = await newer.step(handles, [3], x[None, 3:])
        closed = await older.close(held)

    assert notice.reason == pb.NOTICE_REASON_DISPLACED
    assert (list(notice.handles), list(notice.next_steps)) == (held, [3])
    assert session_id in notice.message
    assert kind(refused.errors[0]) == ("ABORTED", "DISPLACED")
    assert reply.output()[0].tobytes() == expected[3:].tobytes()
    assert kind(only_error(closed)) == ("ABORTED", "DISPLACED")


async def test_a_session_taken_over_in_the_middle_of_a_frame_loses_no_step(channel: aio.Channel) -> None:
    x, session_id = draw(HISTORY), new_id()
    expected = await in_chunks(channel, "lstm", new_id(), x)

    async with RawStream(channel) as older, RawStream(channel) as newer:
        frame_id = await older.submit(await older.handles("lstm", session_id), [0], x[None])
        await older.receive(lambda m: m.result.frame_id == frame_id)  # it has begun
        opened = await newer.open("", session_id, mode="RESUME")
        step = opened.next_steps[0]
        reply = await newer.step(opened.handles, [step], x[None, step : step + 5])
        old = await older.reply(frame_id, 1, HISTORY)

    assert 0 < step < HISTORY
    assert kind(old.errors[0]) == ("ABORTED", "DISPLACED")
    answered = int(np.isfinite(old.output()[0, :, 0]).sum())
    first = step - answered  # the result that was read to see it begin
    assert old.output()[0, first:step].tobytes() == expected[first:step].tobytes()
    assert reply.output()[0].tobytes() == expected[step : step + 5].tobytes()


async def test_an_ended_session_frees_its_id(channel: aio.Channel) -> None:
    session_id, x = new_id(), draw(3)
    expected = await alone(channel, "lstm", new_id(), x)

    async with RawStream(channel) as stream:
        handles = await stream.handles("lstm", session_id)
        await stream.step(handles, [0], x[None, ::-1])
        closed = await stream.close(handles)
        refused = await stream.step(handles, [3], x[None])
        fresh = await stream.step(await stream.handles("lstm", session_id), [0], x[None])

    assert list(closed.next_steps) == [3]
    assert kind(refused.errors[0]) == ("NOT_FOUND", "SESSION_NOT_FOUND")
    assert fresh.output()[0].tobytes() == expected.tobytes(), "the state of the ended session leaked"


@pytest.mark.parametrize("mode", ["END", "DETACH"])
async def test_a_close_waits_for_what_was_sent_before_it(channel: aio.Channel, mode: str) -> None:
    x = draw(2000)

    async with RawStream(channel) as stream:
        handles = await stream.handles("lstm", new_id())
        frame_id = await stream.submit(handles, [0], x[None])
        closed = await stream.close(handles, mode=mode)
        reply = await stream.reply(frame_id, 1, len(x))

    assert list(closed.next_steps) == [len(x)]
    assert reply.errors == {}
    assert np.isfinite(reply.output()).all()


async def test_handles_closed_twice_are_unknown_the_second_time(channel: aio.Channel) -> None:
    async with RawStream(channel) as stream:
        handles = await stream.handles("lstm", new_id(), new_id())
        await stream.close(handles[:1])
        closed = await stream.close(handles)

    assert [(e.index, e.error.reason) for e in closed.errors] == [(0, "SESSION_NOT_FOUND")]
    assert list(closed.next_steps) == [0, 0]
