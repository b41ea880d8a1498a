"""Opens, steps, resumes, ends, passivations, checkpoints and crashes of the same sessions at once.

Every answer is held against a scalar model of a counter: the sum of the inputs so far. A client keeps what
the client library keeps: the inputs from the durable step on, and how many answers it has.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
from dataclasses import dataclass, field, replace

import pytest

from support.session_bench import LIMITS, Lives, SessionBench
from support.session_clients import StreamClient, outcome_of, series
from tidegate.errors import ArenaFull, SessionNotFound, WrongStep
from tidegate.session.copying import copy_state
from tidegate.session.open_request import OpenMode
from tidegate.session.stream import NoticeReason

SESSIONS = [f"s{i}" for i in range(9)]
SLOTS = 5
NUM_MEMBERS, NUM_TURNS, NUM_LIVES = 3, 60, 4
SEED = int(os.environ.get("TIDEGATE_TEST_SEED", "0")) or random.SystemRandom().randrange(1 << 30)


@dataclass
class Course:
    """What the client of a session knows of it.

    Attributes:
        values: Inputs of all steps that were ever sent; each is sent again as it was.
        have: It has the answers before this step.
        acked: It has said so of the answers before this one.
        durable: It was told that the steps before this one are stored.
        held: It can send the inputs from this step on.
        epoch: As it was told last.
        may_be_gone: Somebody has ended it behind its client's back.
    """

    exists: bool = False
    may_be_gone: bool = False
    values: list[float] = field(default_factory=list)
    have: int = 0
    acked: int = 0
    durable: int = 0
    held: int = 0
    epoch: int = 0

    def answers(self, first: int, end: int) -> list[float]:
        return [sum(self.values[: step + 1]) for step in range(first, end)]

    def hear(self, durable: int, rng: random.Random) -> None:
        """Let go of inputs before a durable step, of some of them: the library drops whole blocks."""
        if durable > self.durable:
            self.durable = durable
            self.held = rng.choice((durable, rng.randrange(self.held, durable + 1)))

    def inputs(self, rng: random.Random, first: int, count: int) -> list[float]:
        """The next inputs: those that were sent before, then new ones."""
        missing = first + count - len(self.values)
        self.values += [float(rng.randrange(-9, 10)) for _ in range(missing)]
        return self.values[first : first + count]


@dataclass
class World:
    """What outlives the servers.

    Attributes:
        courses: By session.
        ending: Sessions that are being ended behind their clients' backs.
    """

    courses: dict[str, Course] = field(default_factory=lambda: {s: Course() for s in SESSIONS})
    ending: set[str] = field(default_factory=set)
    attempt: int = 0
    num_steps: int = 0
    num_returns: float = 0


class Member:
    """The client of some of the sessions."""

    def __init__(self, bench: SessionBench, world: World, number: int, seed: str) -> None:
        self._bench, self._world, self._rng = bench, world, random.Random(seed)
        self._mine = SESSIONS[number::NUM_MEMBERS]
        self._instance = f"member {number}".encode()
        self._caller = bench.caller()

    async def work(self) -> None:
        for _ in range(NUM_TURNS):
            session_id = self._rng.choice(self._mine)
            act = self._rng.choices((self._on_streams, self._by_id, self._end), (6, 3, 1))[0]
            try:
                await act(session_id, self._world.courses[session_id])
            except ArenaFull:
                await asyncio.sleep(0)
            except SessionNotFound:
                gone = self._world.courses[session_id].may_be_gone or session_id in self._world.ending
                assert gone, f"{session_id} was lost"
                self._world.courses[session_id] = Course()

    async def _on_streams(self, session_id: str, course: Course) -> None:
        """Step on a stream; it may be lost without the server's noticing, and another one goes on."""
        clients: list[StreamClient] = []
        try:
            for _ in range(self._rng.choice((1, 1, 2))):
                if clients:
                    course.hear(max(clients[-1].durable.values(), default=0), self._rng)
                clients.append(self._bench.client(self._instance))
                handle, step = await self._open(clients[-1], session_id, course)
                for older in clients[:-1]:
                    assert {n.reason for n in older.notices} <= {NoticeReason.DISPLACED, NoticeReason.ENDED}
                step = await self._steps(clients[-1], handle, step, course)
                if self._rng.random() < 0.5:  # sent, and never answered
                    clients[-1].send(
                        [handle], [step], series(course.inputs(self._rng, step, self._rng.randrange(1, 12)))
                    )
                elif self._rng.random() < 0.3:
                    steps, refused = await clients[-1].close(handle)
                    for error in refused.values():
                        raise error
                    assert steps == [step]
        finally:
            # What an older stream says once a newer one is being opened is not heard any more.
            course.hear(max(clients[-1].durable.values(), default=0), self._rng)
            for client in clients:
                client.leave()

    async def _open(self, client: StreamClient, session_id: str, course: Course) -> tuple[int, int]:
        self._world.attempt += 1
        have = self._rng.randrange(course.acked, course.have + 1)
        result = await client.open(
            session_id,
            mode=OpenMode.RESUME if course.exists else OpenMode.CREATE,
            have=[have],
            held_from=[course.held],
            attempt=self._world.attempt,
            epochs=[course.epoch],
        )
        for error in result.errors.values():
            raise error
        assert course.held <= result.next_steps[0] <= have
        assert result.durable_steps[0] <= have
        assert result.epochs[0] > course.epoch
        course.exists, course.epoch = True, result.epochs[0]
        course.hear(result.durable_steps[0], self._rng)
        return result.handles[0], result.next_steps[0]

    async def _steps(self, client: StreamClient, handle: int, step: int, course: Course) -> int:
        for _ in range(self._rng.randrange(4)):
            values = course.inputs(self._rng, step, self._rng.randrange(1, 12))
            got = await client.steps(handle, step, values)
            assert got == course.answers(step, step + len(values))
            step += len(values)
            self._world.num_steps += len(values)
            course.have = max(course.have, step)
            if self._rng.random() < 0.5:
                ack = self._rng.randrange(min(course.acked, step), step + 1)
                client.ack([handle], [ack])
                course.acked = max(course.acked, ack)
        return step

    async def _by_id(self, session_id: str, course: Course) -> None:
        """A call from a sensor that sends a reading at a time, and counts on what it was answered."""
        if not course.exists:
            return
        step = course.have
        values = course.inputs(self._rng, step, self._rng.randrange(1, 4))
        try:
            got, next_step = await self._caller.step(session_id, step, values)
        except WrongStep:
            return  # it ran on behind a lost stream, or goes on from a stored state
        assert (got, next_step) == (course.answers(step, step + len(values)), step + len(values))
        self._world.num_steps += len(values)
        course.acked, course.have = step, next_step

    async def _end(self, session_id: str, course: Course) -> None:
        if course.exists:
            await self._bench.manager.end_session(session_id)
            self._world.courses[session_id] = Course()


async def meddle(bench: SessionBench, world: World, rng: random.Random) -> None:
    """Store, passivate, look at and end sessions all the time."""
    while True:
        known = sorted(bench.in_memory())
        if rng.random() < 0.4 and known:
            bench.grow_idle(*rng.sample(known, rng.randrange(1, len(known) + 1)))
            await bench.manager.tidy()
        elif rng.random() < 0.5:
            await bench.checkpoint()
        elif rng.random() < 0.8:
            await look(bench, world, rng.choice(SESSIONS))
        else:
            await end_behind_their_backs(bench, world, rng.choice(SESSIONS))
        await asyncio.sleep(0.0005 * rng.randrange(3))


async def end_behind_their_backs(bench: SessionBench, world: World, session_id: str) -> None:
    world.ending.add(session_id)
    world.courses[session_id].may_be_gone = True
    with contextlib.suppress(SessionNotFound):
        await bench.manager.end_session(session_id)
        world.courses[session_id].may_be_gone = True  # it may have begun anew, before that end
    world.ending.discard(session_id)


async def look(bench: SessionBench, world: World, session_id: str) -> None:
    course = world.courses[session_id]
    try:
        copy = await copy_state(bench.manager.returner, session_id)
    except (SessionNotFound, ArenaFull):
        return
    if world.courses[session_id] is course:
        assert copy.states[0].ravel().tolist() == [sum(course.values[: copy.next_step])] * 2


@pytest.mark.parametrize("runs_in", ["the event loop", "the engine's thread"])
async def test_every_answer_is_right_whatever_happens_at_once(
    lives: Lives, request: pytest.FixtureRequest, runs_in: str
) -> None:
    logging.getLogger(__name__).warning("TIDEGATE_TEST_SEED=%d", SEED)
    if runs_in == "the engine's thread":
        request.getfixturevalue("in_thread")
    world = World()

    for life in range(NUM_LIVES):
        bench = lives.begin(limits=replace(LIMITS, max_streams=20), max_sessions=SLOTS)
        members = [Member(bench, world, i, f"{SEED}/{life}/{i}") for i in range(NUM_MEMBERS)]
        meddling = asyncio.create_task(meddle(bench, world, random.Random(f"{SEED}/{life}")))
        await asyncio.gather(*(member.work() for member in members))
        meddling.cancel()
        await asyncio.wait([meddling])
        assert meddling.cancelled(), meddling.exception()
        await settled(bench)
        world.num_returns += bench.value("tidegate_returns_total", model="counter", version="1") or 0

    assert world.num_steps > 1000
    assert world.num_returns > 20
    await everything_is_there(lives.begin(max_sessions=len(SESSIONS)), world)


async def settled(bench: SessionBench) -> None:
    """Wait until nothing runs: a server that dies does not, but its books are held here."""
    for table in bench.manager.registry.tables():
        while table.model.engine.is_busy:
            await table.model.engine.progress()


async def everything_is_there(bench: SessionBench, world: World) -> None:
    """Resume every session, and send again what the servers did not store."""
    client = bench.client()
    for session_id, course in world.courses.items():
        result = await client.resume(session_id, have=[course.have], held_from=[course.held])
        if result.errors and (not course.exists or course.may_be_gone):
            assert outcome_of(result) is SessionNotFound
            continue
        (handle,), (step,) = result.handles, result.next_steps
        assert course.held <= step <= course.have
        while step < len(course.values):
            piece = course.values[step : step + 60]
            assert await client.steps(handle, step, piece) == course.answers(step, step + len(piece))
            step += len(piece)
