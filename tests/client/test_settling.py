"""Calls that ended before their answer: their step keeps its number, and the next call settles it."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from support.series import answers_alone, series
from support.server import ServerProcess
from tidegate.client import AsyncClient, CallTimedOut
from tidegate.errors import InvalidRequest

LONG = 20_000
"""Steps that take the server far longer than an event loop's turn."""


async def test_a_call_that_timed_out_keeps_its_number_and_its_answer(small_server: ServerProcess) -> None:
    x = series(2)

    async with AsyncClient(small_server.address) as client, client.session("lstm") as session:
        with pytest.raises(CallTimedOut) as caught:
            await session.step(x[0], timeout_s=0)
        late = await session.settle()
        y = await session.step(x[1])

        assert (caught.value.taken, caught.value.step, session.next_step) == (True, 0, 2)
        assert await session.settle() is None
    expected = await answers_alone(small_server, x)
    assert late is not None
    np.testing.assert_array_equal(late["y"], expected[:1])
    np.testing.assert_array_equal(y, expected[1])


async def test_the_next_call_settles_the_one_that_timed_out(small_server: ServerProcess) -> None:
    x = series(LONG + 1)

    async with AsyncClient(small_server.address) as client, client.session("lstm") as session:
        with pytest.raises(CallTimedOut):
            await session.run(x[:LONG], outputs="none", timeout_s=0)
        with pytest.raises(CallTimedOut) as caught:
            await session.step(x[LONG], timeout_s=0)
        y = await session.step(x[LONG])

        assert (caught.value.taken, session.next_step) == (False, LONG + 1)
        async with client.session("lstm") as other:
            np.testing.assert_array_equal(y, (await other.steps(x))[LONG])


async def test_a_cancelled_call_keeps_its_number(small_server: ServerProcess) -> None:
    x = series(LONG + 1)

    async with AsyncClient(small_server.address) as client, client.session("lstm") as session:
        task = asyncio.create_task(session.run(x[:LONG], outputs="none"))
        await asyncio.sleep(0)  # Let it start: it submits before it waits for the first time.
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        y = await session.step(x[LONG])

        assert session.next_step == LONG + 1
        async with client.session("lstm") as other:
            np.testing.assert_array_equal(y, (await other.steps(x))[LONG])


async def test_the_refusal_of_a_call_that_timed_out_is_told_by_the_next(small_server: ServerProcess) -> None:
    async with AsyncClient(small_server.address) as client, client.session("lstm") as session:
        with pytest.raises(CallTimedOut):
            await session.step([np.nan, 0, 0], timeout_s=0)

        with pytest.raises(InvalidRequest):
            await session.step([1, 2, 3])
        await session.step([1, 2, 3])

        assert session.next_step == 1
