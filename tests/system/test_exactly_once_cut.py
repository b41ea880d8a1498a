"""Promise P2 on bad networks: cut, half-open and deaf connections, frames that come twice, rival clients.

As in test_exactly_once.py, answers are compared byte by byte with those of a run in peace.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from support.checkpoints import stored_after, until_durable
from support.ids import new_id
from support.machine_feeds import KEEPALIVE, RECOVERY, Feeds, Machines
from support.machine_metrics import MODEL, machine_metrics, machine_package
from support.pace import Pace
from support.raw_stream import Floats, RawStream, connect
from support.restarting import RestartingServer
from support.tcp_proxy import TcpProxy
from tidegate.client import AsyncClient
from tidegate.errors import Displaced
from tidegate.v1 import stream_pb2 as pb

NUM_CUTS = 18
MOMENT_S = 0.02
NUM_ROWS = 300
NUM_ROUNDS = 8


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = tmp_path_factory.mktemp("machines")
    machine_package(repository)
    return repository


@pytest.fixture
async def server(models: Path, tmp_path: Path) -> AsyncIterator[RestartingServer]:
    async with RestartingServer(models, tmp_path) as server:
        yield server


async def answers_in_peace(address: str, x: Floats) -> bytes:
    """What a session of its own answers to x [rows, 3]."""
    async with AsyncClient(address) as client, client.session(MODEL, new_id("peace")) as session:
        return (await session.steps(x)).tobytes()


async def break_connections(proxy: TcpProxy, rng: np.random.Generator, number: int) -> None:
    """One break: the last is never noticed by TCP, the others lose what goes one way, the other, or both."""
    if number == NUM_CUTS - 1:
        proxy.strand()
        return
    proxy.freeze(forth=number % 3 == 1, back=number % 3 == 2)
    await asyncio.sleep(rng.exponential(MOMENT_S))  # the other way goes on for a moment
    proxy.cut()
    proxy.thaw()


@pytest.mark.slow
async def test_broken_connections_change_no_answer(
    server: RestartingServer, models: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    machines = Machines(*(machine_metrics(n, NUM_ROWS, seed=n) for n in (10, 4, 2)))
    pace = Pace(machines.num_counted, limit=1 / (NUM_CUTS + 1))

    async with TcpProxy(server.process.grpc_port) as proxy, asyncio.TaskGroup() as group:
        running = group.create_task(Feeds(machines, tmp_path, pace).run(proxy.address))
        for number in range(NUM_CUTS):
            await pace.reached((number + rng.random()) / (NUM_CUTS + 1))
            await asyncio.sleep(rng.exponential(MOMENT_S))
            pace.release((number + 2) / (NUM_CUTS + 1))
            await break_connections(proxy, rng, number)
        answers = await running

    async with RestartingServer(models, tmp_path / "peace") as calm:
        expected = await Feeds(machines, tmp_path / "peace", Pace(machines.num_counted)).run(calm.address)
    assert [name for name in expected if answers[name] != expected[name]] == []


async def test_a_frame_that_comes_again_changes_nothing(server: RestartingServer) -> None:
    (x,) = machine_metrics(1, 60, seed=5)
    rng = np.random.default_rng(7)
    answers: list[Floats] = []
    async with connect(server.address) as channel, RawStream(channel) as stream:
        handles = await stream.handles(MODEL, new_id())
        k = 0
        while k < len(x):
            size = int(rng.integers(1, 4))
            piece = x[None, k : k + size]
            first, again = [await stream.submit(handles, [k], piece) for _ in range(2)]
            older = max(0, k - 2)
            overlap = await stream.submit(handles, [older], x[None, older : k + size + 1])
            answers.append((await stream.reply(first, 1, piece.shape[1])).output()[0])
            k += piece.shape[1]
            for frame_id in (again, overlap):
                (error,) = (await stream.reply(frame_id, 1, 0)).errors.values()
                assert (error.reason, error.expected_step) == ("WRONG_STEP", k)

    assert np.concatenate(answers).tobytes() == await answers_in_peace(server.address, x)


async def test_frames_sent_again_on_a_new_connection_change_nothing(server: RestartingServer) -> None:
    (x,) = machine_metrics(1, 40, seed=6)
    session_id = new_id()
    answers: list[bytes] = []
    async with connect(server.address) as channel:
        for have in range(0, len(x), 4):
            async with RawStream(channel) as stream:
                opened = await stream.open(
                    MODEL, session_id, mode="CREATE_OR_RESUME", have=[have], held_from=[0]
                )
                reached = opened.next_steps[0]
                reply = await stream.step(opened.handles, [reached], x[None, reached : have + 6])
                await stream.send(ack=pb.Ack(handles=opened.handles, steps=[have]))
                # The last two answers never arrive.
                answers += [answer.tobytes() for answer in reply.output()[0, have - reached :][:4]]
                assert reached <= have

    assert b"".join(answers) == await answers_in_peace(server.address, x)


async def test_what_is_durable_outlives_what_was_stored_after_it(server: RestartingServer) -> None:
    x = machine_metrics(20, 14, seed=4)
    ids = [new_id() for _ in x]
    expected = [await answers_in_peace(server.address, rows) for rows in x]
    async with connect(server.address) as channel:
        async with RawStream(channel) as stream:
            handles = await stream.handles(MODEL, *ids)
            before = (await stream.step(handles, [0] * len(x), x[:, :6])).output()
            await stream.send(ack=pb.Ack(handles=handles, steps=[6] * len(x)))
            await until_durable(stream, len(x), 6)
            for start, end in ((6, 8), (8, 10), (10, 12)):  # each must take the place of the one before
                piece = x[:, start:end]
                step = partial(stream.step, handles, [start] * len(x), piece)
                await stored_after(server.process, step, len(x))
        await server.crash()
        async with RawStream(channel) as stream:
            # The answers to steps that are stored were lost with the connection.
            opened = await stream.open("", *ids, mode="RESUME", have=[6] * len(x), held_from=[6] * len(x))
            assert list(opened.next_steps) == [6] * len(x)
        await server.crash()
        async with RawStream(channel) as stream:
            # What lay above is forgotten for good, though nothing was stored since.
            opened = await stream.open("", *ids, mode="RESUME")
            assert list(opened.next_steps) == [6] * len(x)
            after = (await stream.step(opened.handles, [6] * len(x), x[:, 6:])).output()

    answers = np.concatenate([before, after], axis=1)
    assert [rows.tobytes() for rows in answers] == expected


async def test_rivals_take_a_session_from_one_another_and_nothing_is_wrong(
    server: RestartingServer, rng: np.random.Generator
) -> None:
    (x,) = machine_metrics(1, 100_000, seed=8)
    session_id = new_id()
    answers: dict[int, bytes] = {}
    num_displaced = 0

    async def compete(client: AsyncClient) -> None:
        """Step until somebody else has taken the session."""
        nonlocal num_displaced
        try:
            async with client.session(MODEL, session_id) as session:
                started.set()
                while True:
                    step = session.next_step
                    answers[step] = (await session.step(x[step])).tobytes()
        except Displaced:
            num_displaced += 1

    async with AsyncClient(server.address) as one, AsyncClient(server.address) as other:
        tasks = []
        for number in range(NUM_ROUNDS):
            started = asyncio.Event()
            tasks.append(asyncio.create_task(compete((one, other)[number % 2])))
            await started.wait()
            await asyncio.sleep(rng.exponential(0.1))
        async with AsyncClient(server.address) as last, last.session(MODEL, session_id) as session:
            await asyncio.gather(*tasks)
            end = session.next_step
            final = (await session.steps(x[end : end + 5])).tobytes()

    expected = await rows_in_peace(server.address, x[: end + 5])
    assert num_displaced == NUM_ROUNDS
    assert len(answers) > NUM_ROUNDS
    assert [step for step, answer in answers.items() if answer != expected[step]] == []
    assert final == b"".join(expected[end:])


@pytest.mark.parametrize("crashes", [False, True])
async def test_a_client_that_was_away_does_not_take_back_what_another_has(
    server: RestartingServer, crashes: bool
) -> None:
    (x,) = machine_metrics(1, 30, seed=9)
    session_id = new_id()
    async with (
        TcpProxy(server.process.grpc_port) as proxy,
        AsyncClient(proxy.address, KEEPALIVE, RECOVERY) as away,
        AsyncClient(server.address, KEEPALIVE, RECOVERY) as rival,
        away.session(MODEL, session_id) as lost,
    ):
        answers = [await lost.steps(x[:10])]
        await lost.flush()
        proxy.refuse()
        async with rival.session(MODEL, session_id) as session:
            answers.append(await session.steps(x[10:20]))
            if crashes:
                await server.crash()
            proxy.accept()
            with pytest.raises(Displaced):
                await lost.step(x[10])
            answers.append(await session.steps(x[20:]))

    assert np.concatenate(answers).tobytes() == await answers_in_peace(server.address, x)


async def rows_in_peace(address: str, x: Floats) -> list[bytes]:
    """The answer to each row."""
    whole = await answers_in_peace(address, x)
    size = len(whole) // len(x)
    return [whole[start : start + size] for start in range(0, len(whole), size)]
