"""One session, through a real server."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import numpy as np
import pytest

from support.series import answers_alone, series
from support.server import ServerProcess
from tidegate.client import AsyncClient
from tidegate.client.session import Outputs
from tidegate.errors import (
    Displaced,
    InvalidRequest,
    ModelNotFound,
    SessionExists,
    SessionLost,
    SessionNotFound,
)


async def test_a_step_answers_with_the_first_output(small_server: ServerProcess) -> None:
    async with AsyncClient(small_server.address) as client, client.session("lstm") as session:
        y = await session.step([0.1, 0.2, 0.3])

        assert (y.shape, y.dtype, session.next_step) == ((16,), np.float32, 1)
        assert np.isfinite(y).all()


async def test_an_answer_may_be_written_to(small_server: ServerProcess) -> None:
    async with AsyncClient(small_server.address) as client, client.session("lstm") as session:
        y = await session.step([0.1, 0.2, 0.3])

        y += 1


async def test_a_chunk_gives_the_bits_of_its_steps(small_server: ServerProcess) -> None:
    x = series(50)

    async with AsyncClient(small_server.address) as client, client.session("lstm") as session:
        chunk = np.concatenate([await session.steps(x[:30]), await session.steps(x[30:])])

    np.testing.assert_array_equal(chunk, await answers_alone(small_server, x))


async def test_two_sessions_of_a_stream_do_not_see_each_other(small_server: ServerProcess) -> None:
    first, second = series(20, seed=1), series(20, seed=2)

    async with (
        AsyncClient(small_server.address) as client,
        client.session("lstm") as a,
        client.session("lstm") as b,
    ):
        pairs = [await asyncio.gather(a.step(x), b.step(z)) for x, z in zip(first, second, strict=True)]

    np.testing.assert_array_equal(np.stack([p[0] for p in pairs]), await answers_alone(small_server, first))
    np.testing.assert_array_equal(np.stack([p[1] for p in pairs]), await answers_alone(small_server, second))


async def test_calls_that_are_made_together_run_in_the_order_they_were_made(
    small_server: ServerProcess,
) -> None:
    x = series(30)

    async with AsyncClient(small_server.address) as client, client.session("lstm") as session:
        answers = await asyncio.gather(*[session.step(row) for row in x])

    np.testing.assert_array_equal(np.stack(answers), await answers_alone(small_server, x))


async def test_a_call_longer_than_a_frame_is_cut(tmp_path: object, small_models: object) -> None:
    x = series(1000)

    with ServerProcess(small_models, tmp_path, "--max-frame-steps", "64") as server:  # type: ignore[arg-type]
        async with AsyncClient(server.address) as client, client.session("lstm") as session:
            y = await session.steps(x)

            assert session.next_step == 1000
        np.testing.assert_array_equal(y[:70], (await answers_alone(server, x[:70])))


@pytest.mark.parametrize(("outputs", "steps"), [("all", 10), ("last", 1), ("none", 0)])
async def test_run_answers_what_was_asked_for(
    small_server: ServerProcess, outputs: Outputs, steps: int
) -> None:
    x = series(10)

    async with AsyncClient(small_server.address) as client, client.session("lstm") as session:
        answers = await session.run({"x": x}, outputs=outputs)

        assert session.next_step == 10
    expected = (await answers_alone(small_server, x))[10 - steps :]
    assert list(answers) == ["y"]
    np.testing.assert_array_equal(answers["y"], expected)


async def test_leaving_detaches_and_a_resume_goes_on(small_server: ServerProcess) -> None:
    x, session_id = series(20), uuid4().hex

    async with AsyncClient(small_server.address) as client:
        async with client.session("lstm", session_id, mode="create") as session:
            before = await session.steps(x[:12])
        left = await client.sessions.get(session_id)
        async with client.session("lstm", session_id, mode="resume", next_step=12) as session:
            after = await session.steps(x[12:])

    assert (left.condition, left.next_step) == ("detached", 12)
    np.testing.assert_array_equal(np.concatenate([before, after]), await answers_alone(small_server, x))


async def test_an_ended_session_is_gone_and_its_id_free(small_server: ServerProcess) -> None:
    session_id = uuid4().hex

    async with AsyncClient(small_server.address) as client:
        async with client.session("lstm", session_id) as session:
            await session.step([1, 2, 3])
            await session.end()
            with pytest.raises(InvalidRequest, match="left or ended"):
                await session.step([1, 2, 3])

        with pytest.raises(SessionNotFound):
            await client.sessions.get(session_id)
        async with client.session("lstm", session_id, mode="create") as session:
            assert session.next_step == 0


async def test_a_model_that_is_not_there_is_told(small_server: ServerProcess) -> None:
    async with AsyncClient(small_server.address) as client:
        with pytest.raises(ModelNotFound, match="nope"):
            async with client.session("nope"):
                pass


async def test_the_mode_says_whether_the_id_must_be_new(small_server: ServerProcess) -> None:
    session_id = uuid4().hex

    async with AsyncClient(small_server.address) as first, AsyncClient(small_server.address) as second:
        with pytest.raises(SessionNotFound):
            async with first.session("lstm", session_id, mode="resume"):
                pass
        async with first.session("lstm", session_id, mode="create"):
            pass
        with pytest.raises(SessionExists):
            async with second.session("lstm", session_id, mode="create"):
                pass


async def test_resuming_where_no_state_is_changes_nothing(small_server: ServerProcess) -> None:
    session_id = uuid4().hex

    async with AsyncClient(small_server.address) as client:
        async with client.session("lstm", session_id) as session:
            await session.steps(series(10))

        with pytest.raises(SessionLost):
            async with client.session("lstm", session_id, mode="resume", next_step=4):
                pass
        assert (await client.sessions.get(session_id)).next_step == 10


async def test_a_client_that_holds_earlier_inputs_goes_on_from_an_earlier_state(
    small_server: ServerProcess,
) -> None:
    session_id, x = uuid4().hex, series(10)

    async with AsyncClient(small_server.address) as client:
        async with client.session("lstm", session_id) as session:
            await session.steps(x)
        async with client.session("lstm", session_id, next_step=4, held_from=0) as session:
            reached = session.next_step
            answers = await session.steps(x[reached:])
        with pytest.raises(InvalidRequest, match="held_from: expected next_step with it"):
            async with client.session("lstm", session_id, held_from=0):
                pass

    assert 0 <= reached <= 4
    np.testing.assert_array_equal(answers, (await answers_alone(small_server, x))[reached:])


async def test_the_one_who_resumes_takes_the_session_over(small_server: ServerProcess) -> None:
    session_id, x = uuid4().hex, series(3)

    async with (
        AsyncClient(small_server.address) as first,
        AsyncClient(small_server.address) as second,
        first.session("lstm", session_id) as older,
    ):
        await older.step(x[0])
        async with second.session("lstm", session_id, mode="resume") as newer:
            with pytest.raises(Displaced):
                await older.step(x[1])
            y = await newer.step(x[1])

    np.testing.assert_array_equal(y, (await answers_alone(small_server, x))[1])


async def test_a_session_that_was_ended_by_its_id_says_so(small_server: ServerProcess) -> None:
    session_id = uuid4().hex

    async with AsyncClient(small_server.address) as client, client.session("lstm", session_id) as session:
        await session.step([1, 2, 3])
        await client.sessions.close(session_id)

        with pytest.raises(SessionNotFound, match="ended"):
            await session.step([1, 2, 3])


async def test_a_refused_step_changes_nothing_and_its_neighbour_goes_on(small_server: ServerProcess) -> None:
    x = series(6)

    async with (
        AsyncClient(small_server.address) as client,
        client.session("lstm") as session,
        client.session("lstm") as neighbour,
    ):
        await session.steps(x[:3])
        await neighbour.steps(x[:3])
        with pytest.raises(InvalidRequest, match=r"shape: expected \[3\], got \[2\]"):
            await session.step([1, 2])
        with pytest.raises(InvalidRequest, match="x"):
            await session.step([1, np.nan, 2])

        assert session.next_step == 3
        expected = (await answers_alone(small_server, x))[3:]
        np.testing.assert_array_equal(await session.steps(x[3:]), expected)
        np.testing.assert_array_equal(await neighbour.steps(x[3:]), expected)


@pytest.mark.slow
async def test_a_long_history_does_not_hold_up_the_steps_of_its_neighbours(
    small_server: ServerProcess,
) -> None:
    x = series(200_000)

    async with (
        AsyncClient(small_server.address) as client,
        client.session("lstm") as busy,
        client.session("lstm") as live,
    ):
        history = asyncio.create_task(busy.run(x, outputs="none"))
        for row in x[:50]:
            await live.step(row)

        # In turn with slices of 64 steps, 50 steps take the time of 3,200 of the 200,000.
        assert not history.done()
        await history
