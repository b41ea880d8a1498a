"""Machines that are watched: a fleet, single sessions and `tidegate stream`, all at once.

Whatever is done to the server meanwhile, every feed ends with its answers, which a test compares with
those of a run that nothing was done to.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from support.machine_metrics import MODEL, csv_lines, machine_metrics, nab_series
from support.pace import Pace
from support.raw_stream import Floats
from support.waiting import until
from tidegate.client import AsyncClient, ChannelOptions, RecoveryOptions, Session

START_S = 60.0
"""Longest wait for all commands to have started, on a busy machine."""

MAX_PIECE = 7
"""Rows of a feed that go at a time, at most."""

LEAD = 0.01
"""How far files run ahead of the sessions that count."""

RECOVERY = RecoveryOptions(open_timeout_s=60.0, max_delay_s=0.5)
KEEPALIVE = ChannelOptions(keepalive_time_s=5.0, keepalive_timeout_s=1.0)
"""As fast as a half-open connection may be looked for: the server takes no more pings than one in 5 s."""


@dataclass(frozen=True)
class Machines:
    """Inputs, [machines, rows, 3] each.

    Attributes:
        fleet: Of machines that are stepped together.
        alone: Of machines with a session each.
        files: Of machines whose rows come from a file.
    """

    fleet: Floats
    alone: Floats
    files: Floats

    @property
    def num_rows(self) -> int:
        """Session-steps in all."""
        return sum(x.shape[0] * x.shape[1] for x in (self.fleet, self.alone, self.files))

    @property
    def num_counted(self) -> int:
        """Those that come through the library."""
        return self.num_rows - self.files.shape[0] * self.files.shape[1]


def fifty_thousand_rows(seed: int) -> Machines:
    """58 sessions with 50,002 rows."""
    return Machines(
        machine_metrics(40, 850, seed), machine_metrics(12, 1000, seed + 1), machine_metrics(6, 667, seed + 2)
    )


def few_rows(seed: int) -> Machines:
    """9 sessions with 1,350 rows."""
    return Machines(
        machine_metrics(6, 150, seed), machine_metrics(2, 150, seed + 1), machine_metrics(1, 150, seed + 2)
    )


def nab_rows() -> Machines | None:
    """The 58 series of NAB, 850 rows of each; None where they are not."""
    x = nab_series(850)
    return None if x is None else Machines(x[:40], x[40:52], x[52:])


class Feeds:
    """All feeds of some machines.

    Attributes:
        answers: By session id, float32 [rows, elements]; of a file, its bytes.
    """

    def __init__(self, machines: Machines, folder: Path, pace: Pace, *, seed: int = 0) -> None:
        """Prepare.

        Args:
            machines: What is fed.
            folder: For the files.
            pace: Keeps the feeds in step.
            seed: Chooses how many rows go at a time.
        """
        self.answers: dict[str, bytes] = {}
        self._machines = machines
        self._folder = folder
        self._pace = pace
        self._seed = seed

    async def run(self, address: str) -> dict[str, bytes]:
        """Feed everything; the answers by session id."""
        async with AsyncClient(address, KEEPALIVE, RECOVERY) as client, asyncio.TaskGroup() as group:
            commands = [await self._start_command(address, n) for n in range(len(self._machines.files))]
            await until(lambda: all(self._output(n).exists() for n in range(len(commands))), START_S)
            for number, command in enumerate(commands):
                group.create_task(self._feed_file(command, number))
            for number in range(len(self._machines.alone)):
                group.create_task(self._feed_alone(client, number))
            await self._feed_fleet(client)
        return self.answers

    async def _feed_fleet(self, client: AsyncClient) -> None:
        x = self._machines.fleet
        ids = [f"fleet-{number}" for number in range(len(x))]
        parts: list[Floats] = []
        async with client.fleet(MODEL, ids) as fleet:
            for start, end in self._pieces(x.shape[1], len(x)):
                await self._pace.allowed(start / x.shape[1])
                parts.append(await fleet.steps(x[:, start:end]))
                self._pace.count(len(x) * (end - start))
            await fleet.flush()
        whole = np.concatenate(parts, axis=1)
        self.answers |= {name: rows.tobytes() for name, rows in zip(ids, whole, strict=True)}

    async def _feed_alone(self, client: AsyncClient, number: int) -> None:
        x, name = self._machines.alone[number], f"alone-{number}"
        keeps_itself = number % 2 == 1
        parts: list[Floats] = []
        async with client.session(MODEL, name, ack="explicit" if keeps_itself else "auto") as session:
            for start, end in self._pieces(len(x), number):
                await self._pace.allowed(start / len(x))
                parts.append(await session.steps(x[start:end]))
                self._pace.count(end - start)
                if keeps_itself:
                    _keep_some(session, number)
            if keeps_itself:
                session.ack(len(x))
            await session.flush()
        self.answers[name] = np.concatenate(parts).tobytes()

    async def _feed_file(self, command: asyncio.subprocess.Process, number: int) -> None:
        lines = csv_lines(self._machines.files[number])
        assert command.stdin is not None
        for k, line in enumerate(lines[1:]):
            part = k / len(lines)
            await self._pace.allowed(part)
            await self._pace.reached(part - LEAD)
            command.stdin.write(line.encode())
            await command.stdin.drain()
        command.stdin.close()
        assert await command.wait() == 0
        self.answers[f"file-{number}"] = self._output(number).read_bytes()

    async def _start_command(self, address: str, number: int) -> asyncio.subprocess.Process:
        output = self._output(number)
        command = await stream_command(address, "-", output, f"file-{number}", "--chunk", str(1 + 3 * number))
        assert command.stdin is not None
        command.stdin.write(csv_lines(self._machines.files[number])[0].encode())
        return command

    def _output(self, number: int) -> Path:
        return self._folder / f"file-{number}.csv"

    def _pieces(self, num_rows: int, number: int) -> list[tuple[int, int]]:
        """How many rows go at a time: mostly one."""
        rng = np.random.default_rng((self._seed, number))
        sizes = rng.choice([1, 1, 1, 2, MAX_PIECE], num_rows)
        ends = np.minimum(np.cumsum(sizes), num_rows)
        ends = ends[: int(np.argmax(ends == num_rows)) + 1].tolist()
        return list(zip([0, *ends[:-1]], ends, strict=True))


def _keep_some(session: Session, lag: int) -> None:
    """The application has kept all but the last answers."""
    session.ack(max(0, session.next_step - lag))


def num_lines(path: Path) -> int:
    """Whole lines of a file that may not be there yet."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


async def kill_behind(num_rows: int, command: asyncio.subprocess.Process, output: Path) -> None:
    """Kill a command of `stream_command` once its output has more lines than this, if it has not ended well by then."""
    await until(lambda: num_lines(output) > num_rows or command.returncode is not None, within_s=START_S)
    if command.returncode is None:
        command.kill()
    code = await command.wait()
    assert code in (0, -signal.SIGKILL), output.with_suffix(".log").read_text()


async def stream_command(
    address: str, source: str, output: Path, session_id: str, *flags: str, model: str = MODEL
) -> asyncio.subprocess.Process:
    """`tidegate stream` as a process that reads a pipe, or a file.

    Args:
        source: A file, or `-` for the pipe.
        output: Where it writes its answers.
        flags: Further flags.
        model: The model.
    """
    command = [sys.executable, "-m", "tidegate.cli", "stream", model, "--address", address]
    command += ["--input", source, "--output", str(output), "--session", session_id, *flags]
    pipe = asyncio.subprocess.PIPE
    with output.with_suffix(".log").open("ab") as log:
        return await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=log, stderr=log)
