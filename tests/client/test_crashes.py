"""A real server that is killed and started again, and a network that cuts calls in half: bit for bit."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest

from support.ports import free_port
from support.series import series
from support.server import ServerProcess
from support.tcp_proxy import TcpProxy
from tidegate.client import AsyncClient, Client, Fleet, Session
from tidegate.tensor import Array

NUM_KILLS = 3


class Restarted:
    """A server on one port and one store, which can be killed and started again.

    Attributes:
        address: Where it listens, in all its lives.
    """

    def __init__(self, models: Path, folder: Path) -> None:
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        self._models = models
        self._folder = folder
        self._flags = ("--grpc-port", str(port), "--store", f"sqlite:///{folder / 'sessions.db'}")
        self.process = self._start()

    def kill_and_start(self) -> None:
        """End it as a crash would, and start it again."""
        self.process.kill()
        self.process = self._start()

    def stop_and_start(self) -> None:
        """Ask it to stop, and start it again."""
        assert self.process.stop() == 0
        self.process = self._start()

    def _start(self) -> ServerProcess:
        return ServerProcess(self._models, self._folder, *self._flags)


@pytest.fixture
def server(small_models: Path, tmp_path: Path) -> Iterator[Restarted]:
    server = Restarted(small_models, tmp_path)
    yield server
    server.process.stop()


@contextlib.asynccontextmanager
async def cuts(proxy: TcpProxy, seed: int) -> AsyncIterator[None]:
    """Cut all connections at random moments while the block runs."""
    rng = random.Random(seed)

    async def cut() -> None:
        while True:
            await asyncio.sleep(rng.uniform(0.02, 0.2))
            proxy.cut()

    task = asyncio.create_task(cut())
    try:
        yield
    finally:
        task.cancel()


async def feed(session: Session, x: Array, chunk: int) -> Array:
    return np.concatenate([await session.steps(x[i : i + chunk]) for i in range(0, len(x), chunk)])


async def feed_fleet(fleet: Fleet, z: Array) -> Array:
    return np.stack([await fleet.step(z[:, t]) for t in range(z.shape[1])], axis=1)


async def test_calls_that_are_cut_in_half_give_the_same_bits(small_server: ServerProcess) -> None:
    x = series(3000)

    async with (
        TcpProxy(small_server.grpc_port) as proxy,
        AsyncClient(proxy.address) as client,
        client.session("lstm") as session,
        client.session("lstm") as live,
    ):
        async with cuts(proxy, seed=1):
            chunks = asyncio.create_task(feed(session, x, 250))
            steps = await feed(live, x[:150], 1)
            y = await chunks

        assert proxy.num_accepted > 2
        async with AsyncClient(small_server.address) as other, other.session("lstm") as alone:
            expected = await alone.steps(x)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(steps, expected[:150])


@pytest.mark.slow
async def test_a_server_that_is_killed_again_and_again_gives_the_same_bits(server: Restarted) -> None:
    x = series(6000)
    z = np.stack([series(300, seed=i) for i in range(20)])

    async with (
        AsyncClient(server.address) as client,
        client.session("lstm", "steps") as session,
        client.fleet("lstm", [f"f{i}" for i in range(20)]) as fleet,
    ):
        chunks = asyncio.create_task(feed(session, x, 10))
        fleet_steps = asyncio.create_task(feed_fleet(fleet, z))
        for _ in range(NUM_KILLS):
            await asyncio.sleep(0.3)
            await asyncio.to_thread(server.kill_and_start)
        y, v = await chunks, await fleet_steps

        assert (session.next_step, fleet.next_steps.tolist()) == (6000, [300] * 20)
        async with client.session("lstm") as alone:
            np.testing.assert_array_equal(y, await alone.steps(x))
        for row in (0, 7, 19):
            async with client.session("lstm") as alone:
                np.testing.assert_array_equal(v[row], await alone.steps(z[row]))


async def test_what_was_flushed_survives_a_crash_without_its_client(server: Restarted) -> None:
    x = series(40)

    async with AsyncClient(server.address) as client, client.session("lstm", "s") as session:
        before = await session.steps(x[:25])
        await session.flush(timeout_s=30)
        assert session.durable_step == 25
    await asyncio.to_thread(server.kill_and_start)
    async with AsyncClient(server.address) as client:
        async with client.session("lstm", "s", mode="resume", next_step=25) as session:
            after = await session.steps(x[25:])
        async with client.session("lstm") as alone:
            expected = await alone.steps(x)

    np.testing.assert_array_equal(np.concatenate([before, after]), expected)


@pytest.mark.slow
@pytest.mark.parametrize("breaks", ["the connection", "the server"])
async def test_answers_that_were_not_acknowledged_are_to_be_had_by_the_next_process(
    server: Restarted, breaks: str
) -> None:
    """Whatever its library had, and however often it resumed: an application has only what it kept."""
    x = series(60)

    async with TcpProxy(server.process.grpc_port) as proxy:
        async with AsyncClient(proxy.address) as client:
            opening = client.session("lstm", "s", ack="explicit")
            session = await opening.__aenter__()
            kept = await session.steps(x[:20])
            session.ack(20)
            await session.flush(timeout_s=30)
            await session.steps(x[20:40])
            if breaks == "the server":
                await asyncio.to_thread(server.kill_and_start)
            else:
                proxy.cut()
            await session.steps(x[40:50])
            async with client.session("lstm") as other:
                await other.step(x[0])
                await other.flush(timeout_s=30)  # A checkpoint of everything.
            # The process dies: nobody acknowledges, nobody leaves.
            proxy.cut()
        async with AsyncClient(server.address) as client:
            async with client.session("lstm", "s", mode="resume", next_step=20) as session:
                after = await session.steps(x[20:])
            async with client.session("lstm") as alone:
                expected = await alone.steps(x)

    np.testing.assert_array_equal(np.concatenate([kept, after]), expected)


def test_a_client_without_asyncio_survives_a_restart(server: Restarted) -> None:
    x = series(30)

    with Client(server.address) as client, client.session("lstm") as session:
        before = session.steps(x[:20])
        server.stop_and_start()
        after = session.steps(x[20:])
        with client.session("lstm") as alone:
            np.testing.assert_array_equal(np.concatenate([before, after]), alone.steps(x))
