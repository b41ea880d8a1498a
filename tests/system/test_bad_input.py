"""Bad input on a stream gets a clear error, changes nothing, and harms no neighbour on the same stream.

What counts as bad, and what the client must be told, stands in `support.bad_messages`.
"""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import numpy as np
import pytest
from grpc import aio

from support.bad_messages import BEFORE, LIMITS, MESSAGES, ROWS, BadRow, Refusal, Scene, invalid
from support.ids import new_id
from support.onnx_models import decay_package, last_value_package, lstm_package
from support.raw_stream import Floats, RawStream, alone, frame
from support.server import ServerProcess
from tidegate.v1 import stream_pb2 as pb
from tidegate.v1.error_pb2 import Error


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    repository = tmp_path_factory.mktemp("models")
    lstm_package(repository)
    decay_package(repository)
    last_value_package(repository)
    with ServerProcess(repository, tmp_path_factory.mktemp("server"), *LIMITS) as server:
        yield server


def draw(seed: int) -> Floats:
    """Inputs of two sessions, [2, 6, 3]."""
    return np.random.default_rng(seed).normal(0, 1, (2, 2 * BEFORE, 3)).astype(np.float32)


async def begin(stream: RawStream, x: Floats, model: str = "lstm") -> tuple[Scene, Floats]:
    """Bring two sessions to step `BEFORE`; their answers so far."""
    handles = await stream.handles(model, new_id("victim"), new_id("neighbour"))
    reply = await stream.step(handles, [0, 0], x[:, :BEFORE])
    return Scene(handles[0], handles[1], x), reply.output()


async def undisturbed(channel: aio.Channel, x: Floats, model: str = "lstm") -> Floats:
    """Answers of sessions that nobody disturbs, [2, 6, elements]."""
    return np.stack([await alone(channel, model, new_id("undisturbed"), row) for row in x])


def errors_in(message: pb.StreamResponse) -> list[Error]:
    """The errors that a message tells of, whichever kind it is."""
    if message.HasField("error"):
        return [message.error.error]
    indexed = [*message.opened.errors, *message.closed.errors, *message.result.errors]
    return [i.error for i in indexed]


@pytest.mark.parametrize("case", ROWS.values(), ids=ROWS.keys())
async def test_a_bad_row_is_refused_and_harms_nobody(channel: aio.Channel, case: BadRow) -> None:
    x = draw(1)
    expected = await undisturbed(channel, x, case.model)

    async with RawStream(channel) as stream:
        scene, before = await begin(stream, x, case.model)
        handle, first_step, row = case.change(scene, scene.next_x[0].copy())
        reply = await stream.step(
            [handle, scene.neighbour], [first_step, BEFORE], np.stack([row, scene.next_x[1]])
        )
        again = await stream.step([scene.victim], [BEFORE], scene.next_x[:1])

    assert list(reply.errors) == [0]
    case.refusal.check(reply.errors[0])
    assert np.isnan(reply.output()[0]).all()
    after = np.stack([again.output()[0], reply.output()[1]])
    assert np.concatenate([before, after], axis=1).tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", MESSAGES)
async def test_a_bad_message_is_refused_and_harms_nobody(channel: aio.Channel, name: str) -> None:
    refusal, message = MESSAGES[name]
    x = draw(2)
    expected = await undisturbed(channel, x)

    async with RawStream(channel) as stream:
        scene, before = await begin(stream, x)
        await stream.send(**message(scene))
        # The next frame is under way before the refusal is read.
        both = [scene.victim, scene.neighbour]
        following = await stream.submit(both, [BEFORE] * 2, scene.next_x)
        told = await stream.receive(errors_in)
        reply = await stream.reply(following, 2, BEFORE)

    for error in errors_in(told):
        refusal.check(error)
    assert reply.errors == {}
    assert np.concatenate([before, reply.output()], axis=1).tobytes() == expected.tobytes()


async def test_a_handle_twice_in_a_frame_fails_both_rows_and_no_other(channel: aio.Channel) -> None:
    x = draw(3)
    expected = await undisturbed(channel, x)

    async with RawStream(channel) as stream:
        scene, before = await begin(stream, x)
        victim, neighbour = scene.next_x
        twice = [scene.victim, scene.neighbour, scene.victim]
        reply = await stream.step(twice, [BEFORE] * 3, np.stack([victim, neighbour, victim]))
        again = await stream.step([scene.victim], [BEFORE], scene.next_x[:1])

    assert list(reply.errors) == [0, 2]
    for error in reply.errors.values():
        invalid(f"handles: {scene.victim} is there twice").check(error)
    after = np.stack([again.output()[0], reply.output()[1]])
    assert np.concatenate([before, after], axis=1).tobytes() == expected.tobytes()


async def test_a_frame_with_two_models_is_refused_and_harms_nobody(channel: aio.Channel) -> None:
    x = draw(4)
    expected = await undisturbed(channel, x)

    async with RawStream(channel) as stream:
        scene, _ = await begin(stream, x)
        decay = await stream.handles("decay", new_id())
        frame_id = await stream.submit([scene.victim, *decay], [BEFORE, 0], np.ones((2, 1, 3)))
        told = await stream.receive(errors_in)
        reply = await stream.step([scene.victim, scene.neighbour], [BEFORE] * 2, scene.next_x)

    assert told.error.frame_id == frame_id
    invalid("one model version per frame, got lstm/1 in row 0 and decay/1 in row 1").check(told.error.error)
    assert reply.output().tobytes() == expected[:, BEFORE:].tobytes()


async def test_a_frame_before_open_is_refused_and_the_stream_goes_on(channel: aio.Channel) -> None:
    x = draw(5)
    expected = await undisturbed(channel, x)

    async with RawStream(channel) as stream:
        refused = await stream.step([1, 2], [0, 0], x[:, :1])
        handles = await stream.handles("lstm", new_id(), new_id())
        reply = await stream.step(handles, [0, 0], x)

    for error in refused.errors.values():
        Refusal("NOT_FOUND", "SESSION_NOT_FOUND", ("no session on this stream, open one first",)).check(error)
    assert list(refused.errors) == [0, 1]
    assert reply.output().tobytes() == expected.tobytes()


async def test_missing_values_are_taken_where_the_manifest_accepts_them(channel: aio.Channel) -> None:
    x = np.array([[[1.0, 2.0, 3.0], [np.nan, 5.0, np.nan], [7.0, np.nan, np.nan]]])

    async with RawStream(channel) as stream:
        handles = await stream.handles("last-value", new_id())
        reply = await stream.step(handles, [0], x)

    assert reply.errors == {}
    assert reply.output()[0].tolist() == [[1, 2, 3], [1, 5, 3], [7, 5, 3]]


ENDINGS: dict[str, tuple[bytes, grpc.StatusCode, str]] = {
    "an empty message": (
        pb.StreamRequest().SerializeToString(),
        grpc.StatusCode.INVALID_ARGUMENT,
        "message: expected open, frame, ack or close, got none of them",
    ),
    "a message over the limit": (
        pb.StreamRequest(frame=frame(1, [1], [0], np.ones((1, 1000, 3)))).SerializeToString(),
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "8192",
    ),
    "bytes that are no message": (b"\xff\xff\xff", grpc.StatusCode.INVALID_ARGUMENT, "StreamRequest"),
    "a session id that is not UTF-8": (
        b"\x0a\x04\x32\x02\xff\xfe",
        grpc.StatusCode.INVALID_ARGUMENT,
        "StreamRequest",
    ),
}
"""What breaks the protocol itself: the stream ends with a status."""


@pytest.mark.parametrize("name", ENDINGS)
async def test_a_broken_protocol_ends_the_stream_and_loses_no_session(
    channel: aio.Channel, name: str
) -> None:
    raw, code, text = ENDINGS[name]
    x = draw(6)
    expected = await undisturbed(channel, x)
    ids = [new_id(), new_id()]

    async with RawStream(channel) as neighbour_stream, RawStream(channel) as stream:
        held = await neighbour_stream.handles("lstm", ids[1])
        await neighbour_stream.step(held, [0], x[1:, :BEFORE])
        handles = await stream.handles("lstm", ids[0])
        await stream.step(handles, [0], x[:1, :BEFORE])
        await stream.send_raw(raw)
        end = await stream.end()
        neighbour = await neighbour_stream.step(held, [BEFORE], x[1:, BEFORE:])
        resumed = await neighbour_stream.handles("", ids[0], mode="RESUME")
        victim = await neighbour_stream.step(resumed, [BEFORE], x[:1, BEFORE:])

    assert isinstance(end, aio.AioRpcError)
    assert end.code() is code, end
    assert text in (end.details() or "")
    after = np.concatenate([victim.output(), neighbour.output()])
    assert after.tobytes() == expected[:, BEFORE:].tobytes()
