"""`tidegate stream` that is killed and started again on the same session and files.

Its output is compared byte by byte with that of a run which nothing was done to.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from support.ids import new_id
from support.machine_feeds import kill_behind, num_lines, stream_command
from support.machine_metrics import MODEL, machine_metrics, machine_package, write_csv
from support.restarting import RestartingServer
from support.waiting import until
from tidegate.client import AsyncClient

NUM_ROWS = 3000
NUM_KILLS = 8
HALF_A_LINE = "0.123,4"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = tmp_path_factory.mktemp("machines")
    machine_package(repository)
    return repository


@pytest.fixture
async def server(models: Path, tmp_path: Path) -> AsyncIterator[RestartingServer]:
    async with RestartingServer(models, tmp_path) as server:
        yield server


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The input, of which three rows cannot be steps."""
    path = tmp_path / "machine.csv"
    write_csv(path, machine_metrics(1, NUM_ROWS, seed=3)[0])
    lines = path.read_text().splitlines(keepends=True)
    for number in (5, NUM_ROWS // 3, NUM_ROWS - 5):
        lines[number] = "0.5,nonsense,1\n"
    path.write_text("".join(lines))
    return path


async def run(server: RestartingServer, source: Path, output: Path, session_id: str, *flags: str) -> int:
    """Run the command to its end; its exit code."""
    command = await stream_command(
        server.address, str(source), output, session_id, "--on-bad-row", "skip", *flags
    )
    return await command.wait()


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines(keepends=True)


async def killed_at(num_rows: int, command: asyncio.subprocess.Process, output: Path) -> None:
    """Kill the command once its output has so many rows, and leave half a line there."""
    await kill_behind(num_rows, command, output)
    with output.open("a") as file:
        file.write(HALF_A_LINE)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("chunk", ["1", "7"])
async def test_a_command_that_is_killed_goes_on_where_its_output_ends(
    server: RestartingServer, source: Path, tmp_path: Path, rng: np.random.Generator, chunk: str
) -> None:
    output, session_id = tmp_path / "answers.csv", new_id()
    flags = ("--on-bad-row", "skip", "--chunk", chunk)

    for number in range(NUM_KILLS):
        command = await stream_command(server.address, str(source), output, session_id, *flags)
        moment = int(NUM_ROWS * 0.9 * (number + rng.random()) / NUM_KILLS)
        await killed_at(moment, command, output)
        if number % 3 == 2:
            await server.crash()
    code = await run(server, source, output, session_id, "--chunk", chunk)

    calm = tmp_path / "calm.csv"
    assert await run(server, source, calm, new_id(), "--chunk", "1000") == 0
    assert (code, num_lines(output)) == (0, NUM_ROWS + 1)
    assert output.read_bytes() == calm.read_bytes()
    async with AsyncClient(server.address) as client:
        assert (await client.sessions.get(session_id)).next_step == NUM_ROWS - 3


@pytest.mark.slow
async def test_a_command_that_has_finished_has_nothing_to_do_when_it_comes_again(
    server: RestartingServer, source: Path, tmp_path: Path
) -> None:
    output, session_id = tmp_path / "answers.csv", new_id()
    assert await run(server, source, output, session_id, "--chunk", "1000") == 0
    answers = output.read_bytes()

    await server.crash()
    assert await run(server, source, output, session_id) == 0

    assert output.read_bytes() == answers


async def test_a_second_file_of_a_session_goes_on_where_it_was_killed(
    server: RestartingServer, source: Path, tmp_path: Path
) -> None:
    lines = lines_of(source)
    parts = [lines[:401], [lines[0], *lines[401:]]]
    session_id, outputs = new_id(), [tmp_path / "first.csv", tmp_path / "second.csv"]
    inputs = [tmp_path / "first-in.csv", tmp_path / "second-in.csv"]
    for path, part in zip(inputs, parts, strict=True):
        path.write_text("".join(part))

    assert await run(server, inputs[0], outputs[0], session_id, "--chunk", "50") == 0
    command = await stream_command(
        server.address, str(inputs[1]), outputs[1], session_id, "--on-bad-row=skip"
    )
    await killed_at(1500, command, outputs[1])
    await server.crash()
    assert await run(server, inputs[1], outputs[1], session_id, "--chunk", "50") == 0

    calm = tmp_path / "calm.csv"
    assert await run(server, source, calm, new_id(), "--chunk", "1000") == 0
    async with AsyncClient(server.address) as client:
        assert (await client.sessions.get(session_id)).next_step == NUM_ROWS - 3
    whole = outputs[0].read_bytes() + outputs[1].read_bytes().split(b"\n", 1)[1]
    assert whole == calm.read_bytes()


async def test_a_session_that_somebody_else_took_ends_the_command_with_one_line(
    server: RestartingServer, source: Path, tmp_path: Path
) -> None:
    output, session_id = tmp_path / "answers.csv", new_id()
    command = await stream_command(server.address, "-", output, session_id)
    assert command.stdin is not None
    header, *rows = lines_of(source)
    command.stdin.write((header + rows[0]).encode())
    await until(lambda: num_lines(output) == 2)

    async with AsyncClient(server.address) as client, client.session(MODEL, session_id) as session:
        command.stdin.write(rows[1].encode())
        command.stdin.close()
        code = await command.wait()
        assert session.next_step == 1

    said = output.with_suffix(".log").read_text().splitlines()
    assert (code, num_lines(output), len(said)) == (1, 2, 2)
    assert said[1] == f"error: session {session_id!r} was resumed by another stream"


async def test_a_session_that_was_lost_ends_the_command_with_one_line(
    models: Path, source: Path, tmp_path: Path
) -> None:
    output, session_id = tmp_path / "answers.csv", new_id()
    async with RestartingServer(models, tmp_path, "--store", "memory:") as server:
        command = await stream_command(server.address, "-", output, session_id)
        assert command.stdin is not None
        header, *rows = lines_of(source)
        command.stdin.write((header + rows[0]).encode())
        await until(lambda: num_lines(output) == 2)
        await server.crash()
        command.stdin.write(rows[1].encode())
        command.stdin.close()
        code = await command.wait()

    said = output.with_suffix(".log").read_text().splitlines()
    assert (code, num_lines(output), len(said)) == (1, 2, 2), said
    assert said[1].startswith(f"error: session {session_id!r}: the server does not know it any more")


@pytest.mark.slow
async def test_the_command_waits_until_its_last_steps_are_stored(
    models: Path, source: Path, tmp_path: Path
) -> None:
    output, session_id = tmp_path / "answers.csv", new_id()
    async with RestartingServer(models, tmp_path, "--checkpoint-age-s", "2") as server:
        assert await run(server, source, output, session_id, "--chunk", "1000") == 0
        await server.crash()
        async with AsyncClient(server.address) as client:
            # An older state may be there too, so this and not the durable step.
            assert (await client.sessions.get(session_id)).next_step == NUM_ROWS - 3
