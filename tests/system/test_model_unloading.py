"""Versions that nobody needs go and come back, while sessions are stepped, opened and resumed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc import aio
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from support.ids import new_id
from support.logs import errors
from support.raw_stream import Floats, RawStream, connect
from support.server import ServerProcess
from support.versions import Traffic, Versions, draw, publish
from tidegate.v1.model_pb2 import MODEL_STATE_AVAILABLE, MODEL_STATE_READY

UNLOAD_AFTER_S = 0.2


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A repository with versions 1, 2 and 3 of `lstm`; a server loads 3."""
    for version in ("1", "2", "3"):
        publish(tmp_path / "models", version)
    return tmp_path / "models"


@pytest.fixture
def server(models: Path, tmp_path: Path) -> Iterator[ServerProcess]:
    """Unloads what nobody has needed for a moment."""
    with ServerProcess(models, tmp_path / "server", "--unload-after-s", str(UNLOAD_AFTER_S)) as server:
        yield server


@pytest.fixture
async def versions(channel: aio.Channel) -> Versions:
    return Versions(channel)


async def test_an_old_version_goes_when_nothing_needs_it_and_comes_back_on_demand(
    server: ServerProcess, channel: aio.Channel, versions: Versions
) -> None:
    x = draw(20)

    async with Traffic(server.address) as traffic:
        before = await versions.answers("1", x)
        await versions.until("1", MODEL_STATE_AVAILABLE)
        after = await versions.answers("1", x)
        await versions.until("1", MODEL_STATE_AVAILABLE)
        health = await HealthStub(channel).Check(HealthCheckRequest(service="tidegate.model/lstm"))

    assert after.tobytes() == before.tobytes()
    assert await versions.latest() == "3"
    assert health.status == HealthCheckResponse.SERVING
    assert await traffic.is_of(versions, "3")
    assert errors(server) == []


async def test_a_version_with_a_session_in_memory_stays(
    server: ServerProcess, channel: aio.Channel, versions: Versions
) -> None:
    async with RawStream(channel) as stream:
        handles = await stream.handles("lstm", new_id(), version="1")
        await stream.close(handles, mode="DETACH")

    await versions.answers("2", draw(1))
    await versions.until("2", MODEL_STATE_AVAILABLE)
    held = await versions.status("1")
    with pytest.raises(aio.AioRpcError) as caught:
        await versions.unload("1")

    assert held.state == MODEL_STATE_READY
    assert "has 1 sessions in memory" in (caught.value.details() or "")
    assert errors(server) == []


async def test_a_version_that_an_operator_loads_stays_until_an_operator_unloads_it(
    versions: Versions,
) -> None:
    await versions.load("1")

    await versions.answers("2", draw(1))
    await versions.until("2", MODEL_STATE_AVAILABLE)
    kept = await versions.status("1")
    await versions.unload("1")

    assert kept.state == MODEL_STATE_READY
    assert (await versions.status("1")).state == MODEL_STATE_AVAILABLE


async def test_an_operator_goes_back_to_the_version_before(versions: Versions) -> None:
    await versions.load("2")
    await versions.unload("3")
    before = await versions.latest()

    await versions.answers("3", draw(1))
    beside_a_session_of_the_newest = await versions.latest()
    await versions.load("3")

    assert (before, beside_a_session_of_the_newest) == ("2", "2")
    assert await versions.latest() == "3"


async def test_sessions_opened_while_their_version_comes_and_goes_lose_no_step(
    server: ServerProcess, versions: Versions
) -> None:
    x = draw(30)
    expected = await versions.answers("1", x)
    is_over = asyncio.Event()

    async def open_again_and_again() -> list[Floats]:
        return [await versions.answers("1", x) for _ in range(30)]

    async def unload_again_and_again() -> None:
        while not is_over.is_set():
            try:
                await versions.unload("1")
            except aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
                    raise  # what is refused otherwise is not in use
            await asyncio.sleep(0)

    async with Traffic(server.address) as traffic:
        unloading = asyncio.create_task(unload_again_and_again())
        answers = await asyncio.gather(*(open_again_and_again() for _ in range(3)))
        is_over.set()
        await unloading

    assert {a.tobytes() for each in answers for a in each} == {expected.tobytes()}
    assert server.log().count('"message": "model unloaded"') > 1
    assert await traffic.is_of(versions, "3")
    assert errors(server) == []


async def test_a_resume_loads_the_version_that_its_session_is_pinned_to(models: Path, tmp_path: Path) -> None:
    x, session_id = draw(20), new_id()
    flags = ("--store", f"sqlite:///{tmp_path}/sessions.db", "--unload-after-s", str(UNLOAD_AFTER_S))

    with ServerProcess(models, tmp_path / "first", *flags) as first:
        async with connect(first.address) as channel, RawStream(channel) as stream:
            handles = await stream.handles("lstm", session_id, version="1")
            before = await stream.step(handles, [0], x[None, :8])
        assert first.stop() == 0
    with ServerProcess(models, tmp_path / "second", *flags) as second:
        async with connect(second.address) as channel, RawStream(channel) as stream:
            versions = Versions(channel)
            at_start = (await versions.status("1")).state
            resumed = await stream.open("", session_id, mode="RESUME")
            after = await stream.step(resumed.handles, [8], x[None, 8:])
            expected = await versions.answers("1", x)

    assert at_start == MODEL_STATE_AVAILABLE
    assert (resumed.models[0].version, list(resumed.next_steps)) == ("1", [8])
    answers = [*before.output()[0], *after.output()[0]]
    assert b"".join(a.tobytes() for a in answers) == expected.tobytes()
