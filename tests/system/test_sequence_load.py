"""Many sequences of random length for a while: no error, no leak, and every answer as if its sequence were alone.

`TIDEGATE_LOAD_S` says how long, in seconds; `TIDEGATE_TEST_SEED` repeats the draws of a run.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections import deque
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from grpc import aio

from support.books import books_hold
from support.metrics import becomes, value
from support.onnx_models import lstm_package
from support.open_inference import TIMEOUT_S, Answer, InferStream, infer, request
from support.raw_stream import Floats, connect
from support.server import ServerProcess
from support.waiting import eventually
from tidegate.model.package import read_package
from tidegate.runner.runner import Runner, RunnerOptions

LOAD_S = float(os.environ.get("TIDEGATE_LOAD_S", "6"))
NUM_STREAMS = 4
NUM_CLIENTS = 48
"""Each has one sequence after the other, and some that it steps only now and then."""

NUM_SLOW = 4

MAX_REQUESTS = 40
MAX_STEPS = 4
IN_FLIGHT = 3
FEATURES = 3
MAX_SESSIONS = 128
"""Fewer than there are sequences, so slow ones leave memory and come back; more than can be at work at once."""

WARM_UP = 1 / 3
"""Part of the time after which memory must not grow any more."""

WARM_SEQUENCES = 3 * NUM_CLIENTS
"""So many have ended by then, however slow the machine is."""

ALLOWED_GROWTH_BYTES = 8 * 1024 * 1024
"""What an allocator may still take after the warm-up: five times what was seen in a minute of 4,000 sequences."""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = tmp_path_factory.mktemp("models")
    lstm_package(repository, features=FEATURES)
    return repository


class Alone:
    """Runs sequences one by one in the test's own process."""

    def __init__(self, repository: Path) -> None:
        self._runner = Runner(read_package(repository / "lstm" / "1"), RunnerOptions(max_sessions=1))
        self._slot = np.array([1], np.int32)

    def answers(self, x: Floats) -> Floats:
        """What a sequence that begins with `x`, [steps, features], is answered."""
        self._runner.arena.reset(self._slot)
        (y,) = self._runner.step(self._slot, [x[None]])
        return y[0]


@dataclass
class Slow:
    """A sequence that takes a step only now and then: its inputs and answers so far, [T, ...] per request."""

    id: str
    x: list[Floats] = field(default_factory=list)
    y: list[Floats] = field(default_factory=list)

    async def step(self, stream: InferStream, rng: np.random.Generator, *, end: bool = False) -> None:
        """The next request."""
        x = rng.normal(0, 1, (rng.integers(1, MAX_STEPS + 1), FEATURES)).astype(np.float32)
        name = f"{self.id} {len(self.x)}"
        message = request(x, sequence=self.id, request_id=name, start=not self.x, end=end)
        answer = await stream.ask(message)
        assert answer.first_step == sum(map(len, self.x))
        self.x.append(x)
        self.y.append(answer.y)


@dataclass
class Load:
    """What all clients share.

    Attributes:
        ends_s: Monotonic time after which no sequence begins.
        num_sequences: That have ended.
        num_steps: That were answered.
        num_cut: That were begun anew in the middle.
        num_courses: Sequences, those that were cut included.
    """

    alone: Alone
    channel: aio.Channel
    ends_s: float
    num_sequences: int = 0
    num_steps: int = 0
    num_cut: int = 0
    num_courses: int = 0

    async def client(self, number: int, stream: InferStream, rng: np.random.Generator) -> None:
        """One sequence after the other, until the time is over and every slow one has come back."""
        slow = [Slow(f"slow {number} {i}") for i in range(NUM_SLOW)]
        turns = itertools.cycle(slow)
        num_turns = 0
        while time.monotonic() < self.ends_s or num_turns < 2 * NUM_SLOW:
            await next(turns).step(stream, rng)
            num_turns += 1
            # Some ids come again and again, and 5 and "5" are two.
            life = self.num_sequences if rng.random() < 0.5 else 0
            sequence = number // 2 + 1 + NUM_CLIENTS * life
            await self._sequence(str(sequence) if number % 2 else sequence, stream, rng)
            self.num_sequences += 1
        for sequence in slow:
            await sequence.step(stream, rng, end=True)
            self._check(sequence.id, np.concatenate(sequence.x), np.concatenate(sequence.y))

    async def _sequence(self, sequence: int | str, stream: InferStream, rng: np.random.Generator) -> None:
        sizes = rng.integers(1, MAX_STEPS + 1, rng.integers(1, MAX_REQUESTS + 1))
        firsts = np.concatenate([[0], np.cumsum(sizes)]).tolist()
        x = rng.normal(0, 1, (firsts[-1], FEATURES)).astype(np.float32)
        is_cut = len(sizes) > 1 and rng.random() < 0.05
        if is_cut:  # its client forgets it, and another one begins under the same id
            half = len(sizes) // 2
            await self._requests(sequence, x, firsts[: half + 1], stream, rng, ends=False)
            self.num_cut += 1
        await self._requests(sequence, x, firsts, stream, rng, ends=True)

    async def _requests(
        self,
        sequence: int | str,
        x: Floats,
        firsts: list[int],
        stream: InferStream,
        rng: np.random.Generator,
        *,
        ends: bool,
    ) -> None:
        in_flight: deque[asyncio.Future[Answer]] = deque()
        answers: list[Floats] = []
        self.num_courses += 1
        course = f"course {self.num_courses}"
        for number, (first, end) in enumerate(itertools.pairwise(firsts)):
            message = request(
                x[first:end],
                sequence=sequence,
                request_id=f"{course}, {first}",
                start=number == 0,
                end=ends and end == firsts[-1],
                step=first if rng.random() < 0.2 else None,
            )
            if rng.random() < 0.1 and not in_flight:
                answers.append((await infer(self.channel, message)).y)
                continue
            in_flight.append(await stream.send(message))
            while len(in_flight) > rng.integers(IN_FLIGHT):
                answers.append((await in_flight.popleft()).y)
        answers += [(await answer).y for answer in in_flight]
        self._check(sequence, x[: firsts[-1]], np.concatenate(answers))

    def _check(self, sequence: int | str, x: Floats, y: Floats) -> None:
        assert y.tobytes() == self.alone.answers(x).tobytes(), f"sequence {sequence!r} of {len(x)} steps"
        self.num_steps += len(x)


@pytest.fixture(params=["before-answer", "background"])
def server(request: pytest.FixtureRequest, repository: Path, tmp_path: Path) -> Iterator[ServerProcess]:
    flags = (
        f"--sequence-durability={request.param}",
        f"--max-sessions={MAX_SESSIONS}",
        # Long, so that more sequences are in use than there is room for, on a slow machine too.
        "--detached-idle-timeout-s=10",
        "--checkpoint-age-s=1",
    )
    with ServerProcess(repository, tmp_path, *flags) as server:
        yield server


@pytest.mark.slow
@pytest.mark.timeout(180 + 4 * LOAD_S)
async def test_sequences_come_and_go_without_an_error_or_a_leak(
    server: ServerProcess, repository: Path, rng: np.random.Generator
) -> None:
    async with AsyncExitStack() as stack:
        channel = await stack.enter_async_context(connect(server.address))
        load = Load(Alone(repository), channel, time.monotonic() + LOAD_S)
        streams = [await stack.enter_async_context(InferStream(channel)) for _ in range(NUM_STREAMS)]
        clients = [
            asyncio.create_task(load.client(number, streams[number % NUM_STREAMS], own))
            for number, own in enumerate(rng.spawn(NUM_CLIENTS))
        ]
        everything = asyncio.gather(*clients)
        await asyncio.wait([everything], timeout=LOAD_S * WARM_UP)

        async def is_warm() -> bool:
            return load.num_sequences >= WARM_SEQUENCES or everything.done()

        await eventually(is_warm, within_s=TIMEOUT_S)
        early_bytes = server.rss_bytes()
        await everything

    grown_bytes = server.rss_bytes() - early_bytes
    per_s = load.num_steps / LOAD_S
    print(f"{load.num_sequences} sequences, {per_s:.0f} steps/s, {grown_bytes / 1e6:+.1f} MB")  # noqa: T201
    assert grown_bytes < ALLOWED_GROWTH_BYTES
    assert load.num_cut > 0
    assert value(server, "tidegate_passivations_total", reason="room") > 0
    assert value(server, "tidegate_returns_total") > 0
    await _nothing_is_left(server)


async def _nothing_is_left(server: ServerProcess) -> None:
    """No sequence is in memory or in the store, no slot is taken, no error was told, and the books hold."""
    await becomes(server, 0, "tidegate_stored_sessions")
    await becomes(server, 0, "tidegate_sessions")
    await becomes(server, MAX_SESSIONS, "tidegate_arena_slots_free")
    assert value(server, "tidegate_errors_total") == 0
    await books_hold(server)
