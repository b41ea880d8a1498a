"""Versions that come or change while sessions are stepped: nobody's answers change, nobody is moved."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from grpc import aio
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from support.ids import new_id
from support.logs import errors
from support.onnx_models import lstm_package
from support.raw_stream import RawStream, connect
from support.server import ServerProcess
from support.versions import Traffic, Versions, draw, publish
from support.waiting import eventually
from tidegate.v1.model_pb2 import MODEL_STATE_AVAILABLE, MODEL_STATE_FAILED, MODEL_STATE_READY

Serve = Callable[..., ServerProcess]

AT_REST_S = 1.0
"""Longer than a folder has to be at rest before it is read."""


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A repository with version 1 of `lstm`."""
    lstm_package(tmp_path / "models")
    return tmp_path / "models"


@pytest.fixture
def serve(models: Path, tmp_path: Path) -> Iterator[Serve]:
    """Starts a server with further flags, and stops it."""
    started: list[ServerProcess] = []

    def start(*flags: str) -> ServerProcess:
        started.append(ServerProcess(models, tmp_path / "server", *flags))
        return started[-1]

    yield start
    assert [server.stop() for server in started] == [0]


async def test_a_version_that_comes_serves_new_sessions_and_no_old_one(serve: Serve, models: Path) -> None:
    server, x, session_id = serve(), draw(20), new_id()

    async with connect(server.address) as channel:
        versions = Versions(channel)
        async with Traffic(server.address, session_id) as traffic:
            publish(models, "2")
            await versions.until("2", MODEL_STATE_READY)
            new = await versions.answers("", x)
            await traffic.flow(20)
        async with RawStream(channel) as stream:
            resumed = await stream.open("", session_id, mode="RESUME")

        assert await traffic.is_of(versions, "1")
        assert new.tobytes() == (await versions.answers("2", x)).tobytes()
        assert new.tobytes() != (await versions.answers("1", x)).tobytes()
    assert resumed.models[0].version == "1"
    assert list(resumed.next_steps) == [len(traffic.answers)]
    assert errors(server) == []


async def test_a_model_that_comes_is_loaded(serve: Serve, models: Path) -> None:
    server = serve()
    lstm_package(models, name="other")

    async with connect(server.address) as channel:

        async def is_healthy() -> bool:
            request = HealthCheckRequest(service="tidegate.model/other")
            try:
                return (await HealthStub(channel).Check(request)).status == HealthCheckResponse.SERVING
            except aio.AioRpcError as error:
                return error.code() is not grpc.StatusCode.NOT_FOUND

        await eventually(is_healthy)


async def test_a_half_written_version_is_left_alone_until_it_is_whole(
    serve: Serve, models: Path, tmp_path: Path
) -> None:
    package = publish(tmp_path / "elsewhere", "2")
    onnx = (package / "model.onnx").read_bytes()
    server, folder = serve(), models / "lstm" / "2"

    async with (
        connect(server.address) as channel,
        Traffic(server.address) as traffic,
    ):
        versions = Versions(channel)
        folder.mkdir()
        shutil.copy(package / "manifest.toml", folder)
        meanwhile = []
        for size in (0, len(onnx) // 2):
            (folder / "model.onnx").write_bytes(onnx[:size])
            await traffic.flow_for(AT_REST_S)
            meanwhile.append(((await versions.status("2")).state, await versions.latest()))
        said = server.log().count("lstm/2")
        (folder / "model.onnx").write_bytes(onnx)
        await versions.until("2", MODEL_STATE_READY)
        newest = await versions.latest()

    assert meanwhile == [(MODEL_STATE_AVAILABLE, "1")] * 2
    assert said == 0
    assert newest == "2"
    assert errors(server) == []


async def test_a_version_that_is_whole_and_wrong_is_refused_once_in_one_line(
    serve: Serve, models: Path
) -> None:
    server = serve()

    async with connect(server.address) as channel:
        versions = Versions(channel)
        async with Traffic(server.address) as traffic:
            publish(models, "2", layout=1)
            failed = await versions.until("2", MODEL_STATE_FAILED)
            newest = await versions.latest()
            publish(models, "3")
            await versions.until("3", MODEL_STATE_READY)

        assert await traffic.is_of(versions, "1")
    assert newest == "1"
    (entry,) = errors(server)
    assert (entry["message"], entry["model"], entry["why"]) == ("model refused", "lstm/2", failed.failure)


async def test_other_bytes_under_a_loaded_version_are_refused_and_change_no_answer(
    serve: Serve, models: Path
) -> None:
    server = serve()

    async def is_said() -> bool:
        return bool(errors(server))

    async with connect(server.address) as channel:
        versions = Versions(channel)
        async with Traffic(server.address) as traffic:
            shutil.rmtree(models / "lstm" / "1")
            lstm_package(models, seed=7)
            await eventually(is_said)
            (models / "lstm" / "1" / "model.onnx").touch()
            await traffic.flow_for(AT_REST_S)

        assert await traffic.is_of(versions, "1")
    (entry,) = errors(server)
    assert entry["why"].endswith("publish other bytes as the next version")


async def test_a_version_whose_folder_is_removed_is_served_on(serve: Serve, models: Path) -> None:
    publish(models, "2")
    server = serve()

    async with connect(server.address) as channel:
        versions = Versions(channel)
        async with Traffic(server.address) as traffic:
            shutil.rmtree(models / "lstm")
            await traffic.flow_for(AT_REST_S)

        assert await traffic.is_of(versions, "2")
        assert await versions.latest() == "2"
    assert errors(server) == []


async def test_without_watching_a_version_is_loaded_when_it_is_asked_for(serve: Serve, models: Path) -> None:
    server = serve("--watch-models", "false")

    async with connect(server.address) as channel:
        versions = Versions(channel)
        async with Traffic(server.address) as traffic:
            publish(models, "2")
            await traffic.flow_for(2 * AT_REST_S)
            state, newest = (await versions.status("2")).state, await versions.latest()
        await versions.answers("2", draw(1))

        assert (state, newest) == (MODEL_STATE_AVAILABLE, "1")
        assert await versions.latest() == "2"
