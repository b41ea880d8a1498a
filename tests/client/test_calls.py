"""Single calls, through a real server."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from support.onnx_models import lstm_package
from support.server import ServerProcess
from tidegate.client import AsyncClient, TimeRules
from tidegate.errors import (
    InvalidRequest,
    ModelInUse,
    ModelNotFound,
    SessionBusy,
    SessionExists,
    SessionNotFound,
    WrongStep,
)
from tidegate.tensor import DType

X = np.random.default_rng(5).normal(0, 1, (6, 3)).astype(np.float32)


async def test_a_model_says_what_it_takes_and_gives(small_server: ServerProcess) -> None:
    async with AsyncClient(small_server.address) as client:
        info = await client.models.get("lstm")

    [x], [y] = info.inputs, info.outputs
    assert (info.label, info.state, info.batch_exactness) == ("lstm/1", "ready", "exact")
    assert (x.name, x.dtype, x.step_shape) == ("x", DType.FLOAT32, (3,))
    assert (y.name, y.dtype, y.step_shape) == ("y", DType.FLOAT32, (16,))
    assert info.state_bytes == 2 * 16 * 4
    assert info.loaded_at is not None


async def test_the_demo_model_says_how_a_file_becomes_steps(demo_server: ServerProcess) -> None:
    async with AsyncClient(demo_server.address) as client:
        info = await client.models.get("co2-weekly")

    assert info.time == TimeRules(cadence_s=604800.0, missing="repeat-last", column="week")
    assert info.forecast_mode == "direct"
    assert info.inputs[0].features == ("co2_ppm",)
    assert info.outputs[0].quantile_levels == (0.1, 0.5, 0.9)


async def test_versions_are_listed_loaded_and_unloaded(tmp_path: Path) -> None:
    lstm_package(tmp_path / "models", version="1")
    lstm_package(tmp_path / "models", version="2", seed=2)

    with ServerProcess(tmp_path / "models", tmp_path) as server:
        async with AsyncClient(server.address) as client:
            at_start = {m.version: m.state for m in await client.models.list("lstm")}
            loaded = await client.models.load("lstm", "1")
            async with client.session("lstm", version="1") as session:
                with pytest.raises(ModelInUse):
                    await client.models.unload("lstm", "1")
                await session.end()
            await client.models.unload("lstm", "1")
            in_the_end = {m.version: m.state for m in await client.models.list()}

    assert at_start == {"1": "available", "2": "ready"}
    assert loaded.state == "ready"
    assert in_the_end == {"1": "available", "2": "ready"}


async def test_an_unknown_model_or_session_is_told(small_server: ServerProcess) -> None:
    async with AsyncClient(small_server.address) as client:
        with pytest.raises(ModelNotFound):
            await client.models.get("nope")
        with pytest.raises(ModelNotFound):
            await client.models.get("lstm", "99")
        with pytest.raises(SessionNotFound):
            await client.sessions.get("nope")
        with pytest.raises(SessionNotFound):
            await client.sessions.close("nope")


async def test_sessions_are_listed_shown_and_closed(small_server: ServerProcess) -> None:
    session_id = uuid4().hex

    async with AsyncClient(small_server.address) as client:
        async with client.session("decay", session_id) as session:
            await session.step(np.zeros(4))
            attached = await client.sessions.get(session_id)
        listed = {s.session_id: s for s in await client.sessions.list("decay")}
        steps = await client.sessions.close(session_id)

        assert (attached.condition, attached.next_step) == ("attached", 1)
        assert listed[session_id].condition == "detached"
        assert len(await client.sessions.list(limit=1)) <= 1
        assert steps == 1
        with pytest.raises(SessionNotFound):
            await client.sessions.get(session_id)


async def test_a_list_of_many_sessions_is_whole(small_server: ServerProcess) -> None:
    names = [f"{uuid4().hex}-{i}" for i in range(1500)]

    async with AsyncClient(small_server.address) as client, client.fleet("decay", names) as fleet:
        listed = {s.session_id for s in await client.sessions.list("decay")}
        first = await client.sessions.list("decay", limit=1200)
        await fleet.end()

    assert set(names) <= listed
    assert len(first) == 1200


async def test_single_calls_give_the_bits_of_a_stream(small_server: ServerProcess) -> None:
    session_id = uuid4().hex

    async with AsyncClient(small_server.address) as client, client.session("lstm") as session:
        first = await client.step_session(session_id, X[:4], first_step=0, model="lstm", mode="create")
        second = await client.step_session(session_id, {"x": X[4:]}, first_step=first.next_step)

        assert (first.next_step, second.next_step) == (4, 6)
        joined = np.concatenate([first.outputs["y"], second.outputs["y"]])
        np.testing.assert_array_equal(joined, await session.steps(X))


async def test_a_single_call_with_the_wrong_number_changes_nothing(small_server: ServerProcess) -> None:
    session_id = uuid4().hex

    async with AsyncClient(small_server.address) as client:
        await client.step_session(session_id, X[:2], first_step=0, model="lstm", mode="create")
        with pytest.raises(WrongStep) as caught:
            await client.step_session(session_id, X[2:], first_step=5)

        assert caught.value.expected_step == 2
        assert (await client.sessions.get(session_id)).next_step == 2


async def test_a_single_call_checks_its_input_and_its_session(small_server: ServerProcess) -> None:
    session_id = uuid4().hex

    async with AsyncClient(small_server.address) as client:
        with pytest.raises(SessionNotFound):
            await client.step_session(session_id, X, first_step=0)
        async with client.session("lstm", session_id):
            with pytest.raises(SessionBusy):
                await client.step_session(session_id, X, first_step=0)
        with pytest.raises(InvalidRequest, match=r"expected \[T, 3\], got \[2, 2\]"):
            await client.step_session(session_id, np.zeros((2, 2)), first_step=0)
        with pytest.raises(SessionExists):
            await client.step_session(session_id, X, first_step=0, model="lstm", mode="create")
