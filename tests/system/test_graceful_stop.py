"""SIGTERM under load: nothing new is taken, what was sent is answered, every state is stored.

So that a rolling restart costs a client latency, and hardly a step that is sent again.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import time
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest
from grpc import aio
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from support.ids import new_id
from support.machine_feeds import MAX_PIECE, Feeds, Machines
from support.machine_metrics import MODEL, machine_metrics, machine_package
from support.metrics import value
from support.pace import Pace
from support.raw_stream import RawStream, connect
from support.restarting import CHECKPOINT_AGE_S, RestartingServer
from support.server import ServerProcess
from tidegate.v1 import stream_pb2 as pb

GRACE_S = 15.0
HISTORY = 120_000
"""Steps that keep the server at work for a second or more."""

LAZY = ("--checkpoint-age-s", "600", "--drain-grace-s", str(GRACE_S))
"""No checkpoint comes before the server stops."""

EAGER = ("--checkpoint-age-s", str(CHECKPOINT_AGE_S))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = tmp_path_factory.mktemp("machines")
    machine_package(repository)
    return repository


def log_entry(server: ServerProcess, message: str) -> dict[str, float]:
    """The one entry of the log that says this."""
    entries = [json.loads(line) for line in server.log().splitlines()]
    (entry,) = [entry for entry in entries if entry["message"] == message]
    return entry


def readiness(server: ServerProcess) -> int:
    """What `/readyz` answers."""
    try:
        with urllib.request.urlopen(f"{server.http_url}/readyz", timeout=5.0) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def stored_steps(store: Path) -> dict[str, int]:
    """By session id, the newest step that a closed store has, as its view shows it to operators."""
    with closing(sqlite3.connect(store)) as connection:
        return dict(connection.execute("SELECT id, next_step FROM session_overview").fetchall())


async def test_what_was_sent_is_answered_and_nothing_new_is_taken(models: Path, tmp_path: Path) -> None:
    (x,) = machine_metrics(1, HISTORY, seed=1)
    session_id = new_id()
    with ServerProcess(models, tmp_path, *LAZY) as server:
        async with connect(server.address) as channel, RawStream(channel) as stream:
            handles = await stream.handles(MODEL, session_id)
            frame_id = await stream.submit(handles, [0], x[None])
            await stream.receive(lambda m: m.result.frame_id == frame_id)
            watch = HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
            server.process.send_signal(signal.SIGTERM)
            began_s = time.monotonic()
            notice = await stream.notice()
            ready = await asyncio.to_thread(readiness, server)
            health = await watch.read()
            late = await stream.submit(handles, [HISTORY], x[None, :1])
            while not (await stream.receive(lambda m: m.result.frame_id == frame_id)).result.complete:
                pass
            end = await stream.end()
        code = await asyncio.to_thread(server.process.wait, GRACE_S)

    assert notice.reason == pb.NOTICE_REASON_DRAINING
    assert (ready, health.status) == (503, health_pb2.HealthCheckResponse.NOT_SERVING)
    assert isinstance(end, aio.AioRpcError)
    assert end.code().name == "UNAVAILABLE"
    assert not [m for m in stream.kept if late in (m.result.frame_id, m.error.frame_id)]
    assert (code, time.monotonic() - began_s < GRACE_S) == (0, True)
    assert stored_steps(tmp_path / "sessions.db") == {session_id: HISTORY}


async def test_after_a_rolling_restart_hardly_a_step_is_sent_again(models: Path, tmp_path: Path) -> None:
    machines = Machines(*(machine_metrics(n, 200, seed=n) for n in (30, 6, 1)))
    num_sessions = 37
    pace = Pace(machines.num_counted)

    async with RestartingServer(models, tmp_path, *LAZY) as server, asyncio.TaskGroup() as group:
        running = group.create_task(Feeds(machines, tmp_path, pace).run(server.address))
        await pace.reached(0.5)
        older = server.process
        code = await asyncio.to_thread(older.stop)
        stored = stored_steps(server.store)
        await server.start(*EAGER)
        answers = await running
        applied = value(server.process, "tidegate_steps_total", model=MODEL)

    stopping, stopped = log_entry(older, "stopping"), log_entry(older, "stopped")
    assert code == 0
    assert (stopping["grace_s"], stopping["dirty_sessions"]) == (GRACE_S, num_sessions)
    assert stopping["estimate_s"] >= 0
    assert stopped["sessions_unsaved"] == 0
    assert len(stored) == num_sessions
    left = machines.num_rows - sum(stored.values())
    assert 0 < left < machines.num_rows * 0.6
    assert 0 <= applied - left <= num_sessions * MAX_PIECE, "more was sent again than had been under way"
    assert len(answers) == num_sessions


async def test_a_client_that_does_not_read_holds_the_stop_up_no_longer_than_the_grace(
    models: Path, tmp_path: Path
) -> None:
    (x,) = machine_metrics(1, HISTORY, seed=1)
    with ServerProcess(models, tmp_path, *LAZY[:2], "--drain-grace-s", "2") as server:
        async with connect(server.address) as channel, RawStream(channel) as stream:
            handles = await stream.handles(MODEL, *[new_id() for _ in range(4)])
            for handle in handles:
                await stream.submit([handle], [0], x[None])
            began_s = time.monotonic()
            code = await asyncio.to_thread(server.stop)
            took_s = time.monotonic() - began_s

    assert (code, took_s < 10) == (0, True)
    assert log_entry(server, "stopped")["sessions_unsaved"] == 0
