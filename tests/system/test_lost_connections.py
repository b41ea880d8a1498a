"""Clients that vanish: their sessions become detached, and lose nothing but the way to their client."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from google.rpc.code_pb2 import Code
from grpc import aio

from support.half_open import Proxy
from support.ids import new_id
from support.metrics import value
from support.raw_stream import Floats, RawStream, alone, connect, in_chunks
from support.server import ServerProcess
from support.waiting import eventually
from tidegate.v1 import session_pb2 as pb
from tidegate.v1.session_pb2_grpc import SessionServiceStub

KEEPALIVE_S = 1.0
IDLE_S = 1.0

HISTORY = 100_000

HANG_UPS = 100
"""Enough for the garbage collector to come round."""


@pytest.fixture(scope="module")
def server(small_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    flags = (f"--keepalive-time-s={KEEPALIVE_S}", f"--keepalive-timeout-s={KEEPALIVE_S}")
    with ServerProcess(small_models, tmp_path_factory.mktemp("server"), *flags) as server:
        yield server


@pytest.fixture(scope="module")
def forgetful_server(small_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that gives up detached sessions soon."""
    flags = (f"--detached-idle-timeout-s={IDLE_S}",)
    with ServerProcess(small_models, tmp_path_factory.mktemp("forgetful"), *flags) as server:
        yield server


def draw(num_steps: int) -> Floats:
    return np.random.default_rng(1).normal(0, 1, (num_steps, 3)).astype(np.float32)


async def condition(channel: aio.Channel, session_id: str) -> str:
    request = pb.GetSessionRequest(session_id=session_id)
    session = (await SessionServiceStub(channel).GetSession(request)).session
    return pb.SessionCondition.Name(session.condition).removeprefix("SESSION_CONDITION_")


async def until_detached(channel: aio.Channel, session_id: str) -> float:
    async def is_detached() -> bool:
        return await condition(channel, session_id) == "DETACHED"

    return await eventually(is_detached)


KILLED_CLIENT = f"""
import asyncio, sys
import numpy as np
sys.path[:0] = sys.argv[3:]
from support.raw_stream import RawStream, connect

async def main(address, session_id):
    async with connect(address) as channel, RawStream(channel) as stream:
        x = np.random.default_rng(1).normal(0, 1, ({HISTORY}, 3)).astype(np.float32)
        frame_id = await stream.submit(await stream.handles("lstm", session_id), [0], x[None])
        await stream.receive(lambda m: m.result.frame_id == frame_id)
        print("begun", flush=True)
        await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:3]))
"""
"""Feeds a history, reads the first answer, and then nothing more."""


async def test_a_killed_client_leaves_its_session_where_it_stood(
    server: ServerProcess, channel: aio.Channel
) -> None:
    session_id, x = new_id(), draw(HISTORY)
    expected = await in_chunks(channel, "lstm", new_id(), x)
    command = [sys.executable, "-c", KILLED_CLIENT, server.address, session_id, *sys.path]
    client = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    assert client.stdout is not None
    assert await client.stdout.readline() == b"begun\n"
    assert await condition(channel, session_id) == "ATTACHED"

    client.kill()
    await client.wait()

    await until_detached(channel, session_id)
    async with RawStream(channel) as stream:
        opened = await stream.open("", session_id, mode="RESUME")
        step = opened.next_steps[0]
        reply = await stream.step(opened.handles, [step], x[None, step : step + 5])

    assert 0 < step < HISTORY, "what the client had sent and could not be answered is dropped"
    assert reply.output()[0].tobytes() == expected[step : step + 5].tobytes()


async def test_clients_that_hang_up_after_their_last_message_leave_no_task(
    small_models: Path, tmp_path: Path
) -> None:
    with ServerProcess(small_models, tmp_path) as server:
        async with connect(server.address) as channel:
            for _ in range(HANG_UPS):
                session_id = new_id()
                async with RawStream(channel) as stream:
                    handles = await stream.handles("lstm", session_id)
                    await stream.submit(handles, [0], draw(HISTORY)[None])
                    await stream.call.done_writing()
                    await stream.receive()
                await until_detached(channel, session_id)
        server.stop()

        assert "Task was destroyed" not in server.log()


async def test_a_half_open_connection_is_found_by_keepalive(
    server: ServerProcess, channel: aio.Channel
) -> None:
    session_id, x = new_id(), draw(6)
    expected = await alone(channel, "lstm", new_id(), x)

    async with Proxy(server.grpc_port) as proxy, connect(proxy.address) as far, RawStream(far) as lost:
        await lost.step(await lost.handles("lstm", session_id), [0], x[None, :3])
        attached = value(server, "tidegate_sessions", condition="attached")
        detached = value(server, "tidegate_sessions", condition="detached")
        proxy.freeze()
        seconds = await until_detached(channel, session_id)
        changes = (
            value(server, "tidegate_sessions", condition="attached") - attached,
            value(server, "tidegate_sessions", condition="detached") - detached,
        )
        async with RawStream(channel) as stream:
            handles = await stream.handles("", session_id, mode="RESUME")
            reply = await stream.step(handles, [3], x[None, 3:])

    assert KEEPALIVE_S / 2 < seconds < 10 * KEEPALIVE_S
    assert changes == (-1, 1)
    assert reply.output()[0].tobytes() == expected[3:].tobytes()


async def test_an_idle_session_leaves_memory_and_comes_back(forgetful_server: ServerProcess) -> None:
    x, session_id = draw(6), new_id()
    async with connect(forgetful_server.address) as channel, RawStream(channel) as stream:
        calls = SessionServiceStub(channel)
        expected = await alone(channel, "lstm", new_id(), x)
        handles = await stream.handles("lstm", session_id)
        before = await stream.step(handles, [0], x[None, :3])
        detached_s = time.monotonic()
        await stream.close(handles, mode="DETACH")

        async def has_left() -> bool:
            found = await calls.GetSession(pb.GetSessionRequest(session_id=session_id))
            return found.session.condition == pb.SESSION_CONDITION_PASSIVATED

        await eventually(has_left)
        seconds = time.monotonic() - detached_s
        opened = await stream.open("lstm", session_id, mode="CREATE_OR_RESUME")
        after = await stream.step(opened.handles, [3], x[None, 3:])

    assert IDLE_S <= seconds < 10 * IDLE_S
    assert list(opened.next_steps) == [3]
    answers = np.concatenate([before.output(), after.output()], axis=1)[0]
    assert answers.tobytes() == expected.tobytes()


async def test_a_session_that_nobody_uses_expires_and_nobody_restarts_it_unknowingly(
    small_models: Path, tmp_path: Path
) -> None:
    session_id = new_id()
    flags = (f"--detached-idle-timeout-s={IDLE_S}", f"--expire-after-s={IDLE_S}")
    with ServerProcess(small_models, tmp_path, *flags) as server:
        async with connect(server.address) as channel, RawStream(channel) as stream:
            calls = SessionServiceStub(channel)
            handles = await stream.handles("lstm", session_id)
            await stream.step(handles, [0], draw(3)[None])
            await stream.close(handles, mode="DETACH")

            async def has_expired() -> bool:
                return value(server, "tidegate_losses_total", reason="expired") > 0

            await eventually(has_expired)
            refused = [
                (await stream.open("lstm", session_id, mode=mode)).errors[0].error
                for mode in ("RESUME", "CREATE", "CREATE_OR_RESUME")
            ]
            with pytest.raises(aio.AioRpcError) as seen:
                await calls.GetSession(pb.GetSessionRequest(session_id=session_id))
            closed = await calls.CloseSession(pb.CloseSessionRequest(session_id=session_id))
            fresh = await stream.open("lstm", session_id)

    for error in refused:
        assert (Code.Name(error.code), error.reason, error.next_step) == ("DATA_LOSS", "SESSION_LOST", 3)
        assert "was lost after 3 steps" in error.message
        assert "close it to use the id again" in error.message
    assert seen.value.code().name == "DATA_LOSS"
    assert closed.next_step == 3
    assert list(fresh.next_steps) == [0]


async def test_an_attached_session_stays_in_memory(forgetful_server: ServerProcess) -> None:
    detached_id = new_id()
    passivations = value(forgetful_server, "tidegate_passivations_total", reason="idle")
    async with connect(forgetful_server.address) as channel, RawStream(channel) as stream:
        handles = await stream.handles("lstm", new_id(), detached_id)
        await stream.close(handles[1:], mode="DETACH")

        async def has_left() -> bool:
            return value(forgetful_server, "tidegate_passivations_total", reason="idle") > passivations

        await eventually(has_left)  # the attached one was idle for longer than this one
        reply = await stream.step(handles[:1], [0], draw(1)[None])

    assert reply.errors == {}
