"""A real server behind a network that breaks, and one that goes away: what the application notices."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from support.ports import free_port
from support.series import answers_alone, series
from support.server import ServerProcess
from support.tcp_proxy import TcpProxy
from support.waiting import until
from tidegate.client import (
    AsyncClient,
    CallTimedOut,
    ChannelOptions,
    FleetError,
    RecoveryOptions,
    StreamLost,
)
from tidegate.errors import ConnectionLost, InvalidRequest, SessionLost

IMPATIENT = RecoveryOptions(open_timeout_s=0.3, first_delay_s=0.02)


@pytest.fixture
def server(small_models: Path, tmp_path: Path) -> Iterator[ServerProcess]:
    """A server of the test's own, to be ended."""
    with ServerProcess(small_models, tmp_path) as server:
        yield server


async def test_no_server_at_all_is_told_with_its_address() -> None:
    address = f"127.0.0.1:{free_port()}"

    async with AsyncClient(address, recovery=IMPATIENT) as client:
        with pytest.raises(StreamLost) as by_stream:
            async with client.session("lstm"):
                pass
        with pytest.raises(StreamLost) as by_call:
            await client.models.list()

    assert (by_stream.value.address, by_stream.value.grpc_code) == (address, "UNAVAILABLE")
    assert "not within 0.3 s" in str(by_stream.value)
    assert (by_call.value.address, by_call.value.unknown) == (address, {})


@pytest.mark.parametrize("address", ["localhost", "localhost:", ":8001", "host:port", ""])
async def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(InvalidRequest, match="address: expected host:port"):
        async with AsyncClient(address):
            pass


async def test_sessions_wait_for_a_server_that_is_only_starting(small_models: Path, tmp_path: Path) -> None:
    port, patient = free_port(), RecoveryOptions(open_timeout_s=60)
    async with (
        AsyncClient(f"127.0.0.1:{port}", recovery=patient) as client,
        asyncio.TaskGroup() as tasks,
    ):
        opening = client.session("lstm")
        opened = tasks.create_task(opening.__aenter__())
        listed = tasks.create_task(client.models.list())
        with await asyncio.to_thread(ServerProcess, small_models, tmp_path, "--grpc-port", str(port)):
            y = await (await opened).step([1, 2, 3])
            await opening.__aexit__(None, None, None)

            assert y.shape == (16,)
            assert {model.name for model in await listed} == {"lstm", "decay"}


async def test_a_connection_that_is_cut_between_steps_is_not_noticed(small_server: ServerProcess) -> None:
    x = series(20)

    async with (
        TcpProxy(small_server.grpc_port) as proxy,
        AsyncClient(proxy.address) as client,
        client.session("lstm") as session,
    ):
        answers = []
        for i, row in enumerate(x):
            if i % 5 == 4:
                proxy.cut()
            answers.append(await session.step(row))

        assert proxy.num_accepted == 5
    np.testing.assert_array_equal(np.stack(answers), await answers_alone(small_server, x))


async def test_a_fleet_survives_a_cut(small_server: ServerProcess) -> None:
    x = np.stack([series(6, seed=i) for i in range(50)])

    async with (
        TcpProxy(small_server.grpc_port) as proxy,
        AsyncClient(proxy.address) as client,
        client.fleet("lstm", [f"cut-{i}" for i in range(50)]) as fleet,
    ):
        first = await fleet.steps(x[:, :3])
        proxy.cut()
        second = await fleet.steps(x[:, 3:])
        await fleet.end()

    y = np.concatenate([first, second], axis=1)
    for row in (0, 49):
        np.testing.assert_array_equal(y[row], await answers_alone(small_server, x[row]))


@pytest.mark.slow
async def test_a_connection_that_falls_silent_is_noticed_and_replaced(small_server: ServerProcess) -> None:
    x, options = series(3), ChannelOptions(keepalive_time_s=1, keepalive_timeout_s=1)

    async with (
        TcpProxy(small_server.grpc_port) as proxy,
        AsyncClient(proxy.address, options) as client,
        client.session("lstm") as session,
    ):
        first = await session.steps(x[:2])
        proxy.freeze()
        call = asyncio.create_task(session.step(x[2]))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(call), 0.2)
        await until(lambda: proxy.num_accepted > 1)
        proxy.thaw()
        last = await call

    np.testing.assert_array_equal([*first, last], await answers_alone(small_server, x))


async def test_a_call_waits_for_its_time_while_nothing_can_be_reached(small_server: ServerProcess) -> None:
    x = series(2)

    async with (
        TcpProxy(small_server.grpc_port) as proxy,
        AsyncClient(proxy.address) as client,
        client.session("lstm") as session,
    ):
        first = await session.step(x[0])
        proxy.refuse()
        started = time.monotonic()
        with pytest.raises(CallTimedOut) as caught:
            await session.step(x[1], timeout_s=0.5)
        waited_s = time.monotonic() - started
        proxy.accept()
        second = await caught.value.retry(timeout_s=20)

        assert 0.5 <= waited_s < 5
        assert (caught.value.taken, caught.value.step, session.next_step) == (True, 1, 2)
    np.testing.assert_array_equal([first, second], await answers_alone(small_server, x))


@pytest.mark.slow
async def test_a_server_that_falls_silent_is_noticed(server: ServerProcess) -> None:
    options = ChannelOptions(keepalive_time_s=1, keepalive_timeout_s=1)
    x = series(2)

    async with AsyncClient(server.address, options) as client, client.session("lstm", "s") as session:
        first = await session.step(x[0])
        server.process.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(CallTimedOut):
                await session.step(x[1], timeout_s=5)
        finally:
            server.process.send_signal(signal.SIGCONT)
        late = await session.settle(timeout_s=20)

    assert late is not None
    np.testing.assert_array_equal([first, late["y"][0]], await answers_alone(server, x))


async def test_a_server_that_is_told_to_stop_answers_what_it_has_taken(server: ServerProcess) -> None:
    async with AsyncClient(server.address, recovery=IMPATIENT) as client:
        opening = client.session("decay", "s")
        session = await opening.__aenter__()
        call = asyncio.create_task(session.steps(np.ones((50_000, 4)), timeout_s=60))
        while (await client.sessions.get("s")).next_step == 0:
            pass
        code = await asyncio.to_thread(server.stop)
        y = await call
        with pytest.raises(CallTimedOut):
            await session.step(np.ones(4), timeout_s=0.2)
        with pytest.raises(ConnectionLost):
            await client.sessions.get("s")

    assert (code, len(y)) == (0, 50_000)


async def test_a_server_that_forgot_its_sessions_says_so(small_models: Path, tmp_path: Path) -> None:
    # The flag given last counts.
    flags = ("--store", "memory:", "--grpc-port", str(free_port()))
    with ServerProcess(small_models, tmp_path, *flags) as first:
        async with (
            AsyncClient(first.address) as client,
            client.session("lstm", "s") as session,
            client.fleet("lstm", ["a", "b"]) as fleet,
        ):
            await session.step([1, 2, 3])
            await fleet.step(np.zeros((2, 3)))
            first.kill()
            with ServerProcess(small_models, tmp_path, *flags):
                for _ in range(2):
                    with pytest.raises(SessionLost, match="does not know it any more"):
                        await session.step([1, 2, 3])
                with pytest.raises(FleetError) as caught:
                    await fleet.step(np.zeros((2, 3)))
                async with client.session("lstm", "new") as other:
                    await other.step([1, 2, 3])

    assert {type(error) for error in caught.value.errors.values()} == {SessionLost}


async def test_leaving_a_server_that_is_gone_says_what_it_may_lack(
    server: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidegate.client.leaving.LEAVE_TIMEOUT_S", 0.3)

    async with AsyncClient(server.address) as client:
        opening = client.session("lstm", "s")
        session = await opening.__aenter__()
        await session.steps(series(5))
        server.kill()

        with pytest.raises(StreamLost, match="steps 0 to 4 of session 's' may be lost") as caught:
            await opening.__aexit__(None, None, None)

    assert caught.value.unknown == {"s": range(5)}
