"""What an application is told when its server goes away."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from support.server import ServerProcess
from tidegate.client import AsyncClient, CallTimedOut, ChannelOptions, StreamLost
from tidegate.errors import ConnectionLost, InvalidRequest, ServerStopping, SessionNotFound

LONG = 1_000_000


@pytest.fixture
def server(small_models: Path, tmp_path: Path) -> Iterator[ServerProcess]:
    """A server of the test's own, to be ended."""
    with ServerProcess(small_models, tmp_path) as server:
        yield server


async def test_no_server_at_all_is_told_with_its_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"

    async with AsyncClient(address) as client:
        with pytest.raises(StreamLost) as by_stream:
            async with client.session("lstm"):
                pass
        with pytest.raises(StreamLost) as by_call:
            await client.models.list()

    assert (by_stream.value.address, by_stream.value.grpc_code) == (address, "UNAVAILABLE")
    assert (by_call.value.address, by_call.value.unknown) == (address, {})


@pytest.mark.parametrize("address", ["localhost", "localhost:", ":8001", "host:port", ""])
async def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(InvalidRequest, match="address: expected host:port"):
        async with AsyncClient(address):
            pass


async def test_a_crash_in_a_call_says_which_steps_are_unknown(server: ServerProcess) -> None:
    async with AsyncClient(server.address) as client, client.session("decay", "s") as session:
        await session.steps(np.zeros((5, 4)))
        call = asyncio.create_task(session.run({"x": np.zeros((LONG, 4))}, outputs="none"))
        while (await client.sessions.get("s")).next_step == 5:
            pass
        server.kill()
        with pytest.raises(StreamLost) as caught:
            await call

        unknown = caught.value.unknown["s"]
        assert 5 <= unknown.start < unknown.stop <= LONG + 5
        assert f"steps {unknown.start} to {unknown.stop - 1} of session 's'" in str(caught.value)


async def test_a_crash_is_told_to_every_later_call(server: ServerProcess) -> None:
    async with AsyncClient(server.address) as client, client.session("lstm") as session:
        await session.step([1, 2, 3])
        server.kill()

        for _ in range(2):
            with pytest.raises(ConnectionLost):
                await session.step([1, 2, 3])


@pytest.mark.slow
async def test_a_server_that_falls_silent_is_noticed(server: ServerProcess) -> None:
    options = ChannelOptions(keepalive_time_s=1, keepalive_timeout_s=1)

    async with AsyncClient(server.address, options) as client, client.session("lstm", "s") as session:
        await session.step([1, 2, 3])
        server.process.send_signal(signal.SIGSTOP)
        started = time.monotonic()
        try:
            with pytest.raises(StreamLost) as caught:
                await session.step([1, 2, 3])
        finally:
            server.process.send_signal(signal.SIGCONT)

    assert time.monotonic() - started < 20
    assert caught.value.unknown == {"s": range(1, 2)}


async def test_a_call_left_behind_is_told_when_it_is_settled(server: ServerProcess) -> None:
    async with AsyncClient(server.address) as client, client.session("decay", "s") as session:
        with pytest.raises(CallTimedOut):
            await session.run({"x": np.zeros((LONG, 4))}, outputs="none", timeout_s=0)
        while (await client.sessions.get("s")).next_step == 0:
            pass
        server.kill()

        with pytest.raises(StreamLost) as caught:
            await session.settle()
        assert "s" in caught.value.unknown


async def test_a_server_that_is_told_to_stop_answers_what_it_has_taken(server: ServerProcess) -> None:
    async with AsyncClient(server.address) as client, client.session("decay", "s") as session:
        call = asyncio.create_task(session.steps(np.ones((50_000, 4)), timeout_s=60))
        while (await client.sessions.get("s")).next_step == 0:
            pass
        code = await asyncio.to_thread(server.stop)
        y = await call
        with pytest.raises((ServerStopping, ConnectionLost)):
            await session.step(np.ones(4))

    assert (code, len(y)) == (0, 50_000)


async def test_a_new_session_after_a_restart_gets_a_new_stream(small_models: Path, tmp_path: Path) -> None:
    with ServerProcess(small_models, tmp_path) as first:
        port = str(first.grpc_port)
        async with AsyncClient(first.address) as client:
            async with client.session("lstm", "s") as session:
                await session.step([1, 2, 3])
                first.kill()
                with pytest.raises(ConnectionLost):
                    await session.step([1, 2, 3])
            # The flag given last counts.
            with ServerProcess(small_models, tmp_path, "--grpc-port", port):
                with pytest.raises(SessionNotFound):
                    async with client.session("lstm", "s", mode="resume"):
                        pass
                async with client.session("lstm", "s") as session:
                    await session.step([1, 2, 3])
                    assert session.next_step == 1
