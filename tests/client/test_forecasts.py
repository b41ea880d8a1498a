"""Forecasts through a real server."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import numpy as np
import pytest

from support.forecast_models import feedback_package
from support.server import ServerProcess
from tidegate.client import AsyncClient, Client
from tidegate.errors import InvalidRequest, SessionNotFound, SessionNotStarted, Unsupported

HISTORY = np.random.default_rng(3).normal(0, 1, (9, 2)).astype(np.float32)
PLAN = np.linspace(-1, 1, 40, dtype=np.float32)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("forecast")
    feedback_package(folder / "models", plan=True)
    with ServerProcess(folder / "models", folder) as server:
        yield server


def history() -> dict[str, np.ndarray]:
    return {"x": HISTORY, "plan": HISTORY[:, :1]}


def future() -> dict[str, np.ndarray]:
    return {"x": np.stack([np.full(40, np.nan), PLAN], 1).astype(np.float32), "plan": -PLAN}


async def test_a_forecast_equals_the_answers_to_what_it_says_it_was_fed_with(server: ServerProcess) -> None:
    async with AsyncClient(server.address) as client:
        async with client.session("feedback") as session, client.session("feedback") as twin:
            await session.run(history())
            await twin.run(history())
            made = await client.sessions.forecast(session.session_id, 40, future())
            one_by_one = [
                await twin.run({name: values[step : step + 1] for name, values in made.inputs.items()})
                for step in range(40)
            ]
            info = await client.sessions.get(session.session_id)
            after = await session.run(history())
        async with client.session("feedback") as undisturbed:
            await undisturbed.run(history())
            expected = await undisturbed.run(history())

    assert np.concatenate([answer["y"] for answer in one_by_one]).tobytes() == made.outputs["y"].tobytes()
    assert made.inputs["plan"][:, 0].tolist() == (-PLAN).tolist()
    np.testing.assert_array_equal(made.inputs["x"][1:, 0], made.outputs["y"][:-1, 0, 1])
    assert (made.next_step, made.steps.tolist(), info.next_step) == (9, list(range(9, 49)), 9)
    assert after["y"].tobytes() == expected["y"].tobytes()


async def test_what_is_missing_is_asked_for(server: ServerProcess) -> None:
    async with AsyncClient(server.address) as client, client.session("feedback") as session:
        await session.run(history())
        with pytest.raises(InvalidRequest, match=r"'x' feature 'season' \[5\]; 'plan' \[5, 1\]"):
            await client.sessions.forecast(session.session_id, 5)
        with pytest.raises(InvalidRequest, match=r"future: expected some of .*, got 'q'"):
            await client.sessions.forecast(session.session_id, 5, {"q": [1.0]})


def test_the_demo_model_forecasts_without_asyncio_what_it_answered_last(demo_server: ServerProcess) -> None:
    session_id = uuid4().hex
    with Client(demo_server.address) as client:
        with client.session("co2-weekly", session_id) as session:
            with pytest.raises(SessionNotStarted):
                client.sessions.forecast(session_id, 4)
            answer = session.steps([370, 371, 372])[-1]

        made = client.sessions.forecast(session_id, 4)

        with pytest.raises(InvalidRequest, match="looks 1 to 26 steps ahead, got 27"):
            client.sessions.forecast(session_id, 27)
    assert made.outputs["forecast"].tobytes() == answer[:4].tobytes()
    assert (made.next_step, made.steps.tolist(), made.inputs) == (3, [3, 4, 5, 6], {})


async def test_a_model_that_cannot_and_a_session_that_is_not_there_are_told(
    small_server: ServerProcess,
) -> None:
    async with AsyncClient(small_server.address) as client:
        async with client.session("decay") as session:
            with pytest.raises(Unsupported, match="its manifest has no"):
                await client.sessions.forecast(session.session_id, 2)
        with pytest.raises(SessionNotFound):
            await client.sessions.forecast(uuid4().hex, 2)
