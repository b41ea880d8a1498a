"""Frames: applied once, answered as asked for, refused row by row, and none behind another's history."""

from __future__ import annotations

import numpy as np
import pytest
from google.rpc.code_pb2 import Code
from grpc import aio

from support.ids import new_id
from support.raw_stream import Floats, RawStream, alone, in_chunks
from tidegate.v1.error_pb2 import Error

HISTORY = 100_000
"""Steps of a long history."""


def draw(num_steps: int, seed: int = 1) -> Floats:
    return np.random.default_rng(seed).normal(0, 1, (num_steps, 3)).astype(np.float32)


def kind(error: Error) -> tuple[str, str]:
    return Code.Name(error.code), error.reason


async def test_a_frame_sent_twice_is_applied_once(channel: aio.Channel) -> None:
    x = draw(6)
    expected = await alone(channel, "lstm", new_id(), x)

    async with RawStream(channel) as stream:
        handles = await stream.handles("lstm", new_id())
        sent = [await stream.submit(handles, [0], x[None, :3]) for _ in range(2)]
        first, second = [await stream.reply(frame_id, 1, 3) for frame_id in sent]
        after = await stream.step(handles, [3], x[None, 3:])

    assert first.errors == {}
    assert kind(second.errors[0]) == ("FAILED_PRECONDITION", "WRONG_STEP")
    assert second.errors[0].expected_step == 3
    answers = np.concatenate([first.output(), after.output()], axis=1)[0]
    assert answers.tobytes() == expected.tobytes()


async def test_a_refused_row_holds_nan_among_the_answers(channel: aio.Channel) -> None:
    x = draw(2)
    expected = await alone(channel, "lstm", new_id(), x[:1])

    async with RawStream(channel) as stream:
        handles = await stream.handles("lstm", new_id(), new_id(), new_id())
        bad = np.stack([x[:1], np.full((1, 3), np.nan), x[:1]])
        reply = await stream.step(handles, [0, 0, 0], bad)

    (result,) = reply.results
    rows = np.frombuffer(result.outputs[0], "<f4").reshape(3, -1)
    assert [e.index for e in result.errors] == [1]
    assert np.isnan(rows[1]).all()
    assert rows[0].tobytes() == rows[2].tobytes() == expected[0].tobytes()


async def test_a_single_step_does_not_wait_for_another_sessions_history(channel: aio.Channel) -> None:
    history, x = draw(HISTORY), draw(20, seed=2)
    expected_history = await in_chunks(channel, "lstm", new_id(), history)
    expected = await alone(channel, "lstm", new_id(), x)

    async with RawStream(channel) as stream:
        long, single = await stream.handles("lstm", new_id(), new_id())
        frame_id = await stream.submit([long], [0], history[None])
        answers = [
            (await stream.step([single], [step], x[None, step : step + 1])).output() for step in range(len(x))
        ]
        was_complete = any(m.result.complete for m in stream.kept)
        slices_so_far = sum(m.result.frame_id == frame_id for m in stream.kept)
        reply = await stream.reply(frame_id, 1, HISTORY)

    assert not was_complete, "the history was over before the single steps: nothing was tested"
    assert slices_so_far >= 1, "the history stood still meanwhile"
    assert len(reply.results) > 20
    assert np.concatenate(answers, axis=1)[0].tobytes() == expected.tobytes()
    assert reply.output()[0].tobytes() == expected_history.tobytes()


async def test_a_step_whose_time_limit_passes_is_not_applied(channel: aio.Channel) -> None:
    x = draw(HISTORY + 1)

    async with RawStream(channel) as stream:
        handles = await stream.handles("lstm", new_id())
        history = await stream.submit(handles, [0], x[None, :HISTORY])
        hasty = await stream.submit(handles, [HISTORY], x[None, HISTORY:], time_limit_us=1000)
        late = await stream.reply(hasty, 1, 1)
        reply = await stream.reply(history, 1, HISTORY)
        again = await stream.step(handles, [HISTORY], x[None, HISTORY:], time_limit_us=60_000_000)

    assert kind(late.errors[0]) == ("DEADLINE_EXCEEDED", "DEADLINE_EXPIRED")
    assert "time_limit_us: " in late.errors[0].message
    assert reply.errors == again.errors == {}


@pytest.mark.parametrize("num_steps", [1, 5, 500])
async def test_the_client_chooses_which_answers_it_gets(channel: aio.Channel, num_steps: int) -> None:
    x = draw(num_steps)
    expected = await alone(channel, "lstm", new_id(), x)

    async with RawStream(channel) as stream:
        handles = await stream.handles("lstm", new_id(), new_id())
        rows = np.stack([x, x])
        last = await stream.step(handles[:1], [0], rows[:1], outputs="OUTPUT_SELECTION_LAST")
        none = await stream.step(handles[1:], [0], rows[1:], outputs="OUTPUT_SELECTION_NONE")
        closed = await stream.close(handles)

    given = [result.outputs[0] for result in last.results if result.outputs]
    assert given == [expected[-1].tobytes()]
    assert [list(result.outputs) for result in none.results] == [[]] * len(none.results)
    assert list(closed.next_steps) == [num_steps] * 2
