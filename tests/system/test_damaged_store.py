"""Promise P4 on bad disks: what the store has lost is reported as lost, and nothing wrong is ever served.

A server leaves a store behind, stopped or killed. Bytes of its file and of its log are flipped, zeroed
and cut off at random, and a server starts on what is left. It may refuse to, or refuse sessions, by an
error that says so; whatever it does answer is compared with a replay, bit by bit.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from support.checkpoints import stored_after, until_durable
from support.machine_metrics import MODEL, machine_metrics, machine_package
from support.raw_stream import Floats, RawStream, connect
from support.server import ServerProcess
from tidegate.v1 import stream_pb2 as pb

NUM_SESSIONS = 120
NUM_ROUNDS = 8
DURABLE = 6
"""Steps of every session that were acknowledged and reported as durable."""

APPLIED = 10
LONGEST = 14
CHECKPOINTS = ("--checkpoint-age-s", "0.1")
IDS = [f"machine-{number}" for number in range(NUM_SESSIONS)]

LOSSES = {"SESSION_LOST", "SESSION_NOT_FOUND", "STORE_UNAVAILABLE"}
"""How a session that is gone, or cannot be read, is told of."""


@dataclass(frozen=True)
class Left:
    """What a server has left behind.

    Attributes:
        folder: With the store's files.
        x: What the sessions were fed, and will be, [sessions, LONGEST, 3].
        expected: The answers, [sessions, LONGEST, elements].
        epochs: Of each session, as its client was told.
    """

    folder: Path
    x: Floats
    expected: Floats
    epochs: list[int]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = tmp_path_factory.mktemp("machines")
    machine_package(repository)
    return repository


@pytest.fixture(params=["stopped", "killed"])
async def left(request: pytest.FixtureRequest, models: Path, tmp_path: Path) -> Left:
    """A store with base and head of every session; of a killed server, most of it in the log."""
    x = machine_metrics(NUM_SESSIONS, LONGEST, seed=2)
    with ServerProcess(models, tmp_path / "before", *CHECKPOINTS) as server:
        async with connect(server.address) as channel, RawStream(channel) as stream:
            others = await stream.handles(MODEL, *[f"calm-{number}" for number in range(NUM_SESSIONS)])
            expected = (await stream.step(others, [0] * NUM_SESSIONS, x)).output()
            await stream.close(others)
            opened = await stream.open(MODEL, *IDS)
            await stream.step(opened.handles, [0] * NUM_SESSIONS, x[:, :DURABLE])
            await stream.send(ack=pb.Ack(handles=opened.handles, steps=[DURABLE] * NUM_SESSIONS))
            await until_durable(stream, NUM_SESSIONS, DURABLE)
            at = [DURABLE] * NUM_SESSIONS
            more = x[:, DURABLE:APPLIED]
            await stored_after(server, lambda: stream.step(opened.handles, at, more), NUM_SESSIONS)
            if request.param == "killed":
                server.kill()
        if request.param == "stopped":
            assert server.stop() == 0
    return Left(tmp_path / "before", x, expected, list(opened.epochs))


def harm(folder: Path, rng: np.random.Generator) -> str:
    """Damage the file or its log at a random place; in words."""
    files = [
        f for f in (folder / "sessions.db", folder / "sessions.db-wal") if f.exists() and f.stat().st_size
    ]
    file = files[rng.integers(len(files))]
    data = bytearray(file.read_bytes())
    at, kind = int(rng.integers(len(data))), rng.choice(["flip", "zero", "cut"])
    if kind == "flip":
        for place in rng.integers(len(data), size=int(rng.integers(1, 60))):
            data[place] ^= 1 << int(rng.integers(8))
    elif kind == "zero":
        data[at : at + 5000] = bytes(len(data[at : at + 5000]))
    else:
        del data[at:]
    file.write_bytes(data)
    return f"{kind} {file.name} at {at}"


async def check(server: ServerProcess, left: Left) -> int:
    """Resume all sessions as their client would, and go on; how many the server still has."""
    async with connect(server.address) as channel, RawStream(channel) as stream:
        opened = await stream.open(
            "",
            *IDS,
            mode="RESUME",
            have=[APPLIED] * NUM_SESSIONS,
            held_from=[DURABLE] * NUM_SESSIONS,
            epochs=left.epochs,
        )
        assert {e.error.reason for e in opened.errors} <= LOSSES, opened.errors
        refused = {e.index for e in opened.errors}
        rows = [i for i in range(NUM_SESSIONS) if i not in refused]
        if not rows:
            return 0
        steps = np.array([opened.next_steps[i] for i in rows])
        assert ((steps >= DURABLE) & (steps <= APPLIED)).all()
        at = (np.array(rows)[:, None], steps[:, None] + np.arange(LONGEST - APPLIED))
        reply = await stream.step([opened.handles[i] for i in rows], steps.tolist(), left.x[at])
        assert not reply.errors, reply.errors
        assert reply.output().tobytes() == left.expected[at].tobytes()
    return len(rows)


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_a_damaged_store_serves_nothing_wrong(
    left: Left, models: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    outcomes = []
    for number in range(NUM_ROUNDS):
        folder = tmp_path / f"round-{number}"
        shutil.copytree(left.folder, folder)
        (folder / "server.log").unlink()
        harms = [harm(folder, rng) for _ in range(rng.integers(1, 4))]
        try:
            server = ServerProcess(models, folder, *CHECKPOINTS)
        except AssertionError:
            said = (folder / "server.log").read_text().splitlines()
            assert len(said) == 1, said
            assert said[0].startswith(f"error: store {folder / 'sessions.db'}: ")
            outcomes.append(-1)
            continue
        with server:
            print(number, harms)  # noqa: T201 - shown when the test fails
            outcomes.append(await check(server, left))

    assert len(set(outcomes)) > 1, f"every round ended with {outcomes[0]} sessions: nothing was tested"


async def test_a_store_that_nothing_happened_to_has_every_session(left: Left, models: Path) -> None:
    with ServerProcess(models, left.folder, *CHECKPOINTS) as server:
        assert await check(server, left) == NUM_SESSIONS


def test_a_file_that_is_no_store_is_refused_by_one_line(models: Path, tmp_path: Path) -> None:
    file = tmp_path / "sessions.db"
    file.write_bytes(b"no database, but a text that is long enough to have a header of one" * 9)

    with pytest.raises(AssertionError, match="exited with 1"):
        ServerProcess(models, tmp_path)

    said = (tmp_path / "server.log").read_text()
    assert said == f"error: store {file}: the file is not a store of tidegate\n"
    assert file.read_bytes().startswith(b"no database")


def test_a_second_server_on_one_store_is_refused_by_one_line(models: Path, tmp_path: Path) -> None:
    file = tmp_path / "sessions.db"
    with ServerProcess(models, tmp_path / "first", "--store", f"sqlite:///{file}") as server:
        with pytest.raises(AssertionError, match="exited with 1"):
            ServerProcess(models, tmp_path / "second", "--store", f"sqlite:///{file}")

        said = (tmp_path / "second" / "server.log").read_text()
        assert said == f"error: store {file}: another server uses it (process {server.process.pid})\n"
