"""Random clients: sessions that several streams step in frames of any rows and steps, and take from
one another.

A script is played against a server, and every answer is kept by session and step. An answer that comes
twice, or not at all, is an error: that is promise P2, which every test of P1 gets checked with.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from grpc import aio
from hypothesis import strategies as st

from support.ids import new_id
from support.raw_stream import Floats, RawStream

NUM_SERIES = 12
"""Series that sessions are fed from; two sessions may have the same one."""

NUM_STEPS = 20

Move = Literal["detach", "displace"]


@dataclass(frozen=True)
class Frame:
    """The next steps of some sessions of a stream.

    Attributes:
        stream: Which stream sends it.
        num_steps: T, or fewer where a session has fewer left.
        rows: Which of the stream's sessions take part: numbers modulo their count.
        wait: Wait for its answers before anything else happens.
    """

    stream: int
    num_steps: int
    rows: tuple[int, ...]
    wait: bool


@dataclass(frozen=True)
class Resume:
    """A session goes to another stream, given back by the older one or taken from it in the middle."""

    session: int
    stream: int
    how: Move


@dataclass(frozen=True)
class Script:
    """What the clients do.

    Attributes:
        series: Per session, the series that it is fed with.
        num_streams: Streams, which open the sessions in turn.
    """

    series: tuple[int, ...]
    num_streams: int
    actions: tuple[Frame | Resume, ...]


def scripts() -> st.SearchStrategy[Script]:
    """Scripts that shrink to few sessions and few actions."""
    frames = st.builds(
        Frame,
        stream=st.integers(0, 2),
        num_steps=st.integers(1, NUM_STEPS),
        rows=st.lists(st.integers(0, 11), min_size=1, max_size=8).map(tuple),
        wait=st.booleans(),
    )
    resumes = st.builds(
        Resume,
        session=st.integers(0, 11),
        stream=st.integers(0, 2),
        how=st.sampled_from(["detach", "displace"]),
    )
    return st.builds(
        Script,
        series=st.lists(st.integers(0, NUM_SERIES - 1), min_size=1, max_size=10).map(tuple),
        num_streams=st.integers(1, 3),
        actions=st.lists(st.one_of(frames, frames, frames, resumes), max_size=25).map(tuple),
    )


class _Session:
    """One session as its client knows it."""

    def __init__(self, x: Floats, owner: _Client) -> None:
        self.id = new_id("scripted")
        self.x = x
        self.owner = owner
        self.handle = 0
        self.sent = 0
        self.answers: dict[int, Floats] = {}


class _Client:
    """One stream with the frames that it has not seen all answers of."""

    def __init__(self, stream: RawStream) -> None:
        self.stream = stream
        self.waiting: list[tuple[int, list[tuple[_Session, int]], int]] = []

    async def send(self, sessions: list[_Session], num_steps: int) -> None:
        handles = [s.handle for s in sessions]
        x = np.stack([s.x[s.sent : s.sent + num_steps] for s in sessions])
        frame_id = await self.stream.submit(handles, [s.sent for s in sessions], x)
        self.waiting.append((frame_id, [(s, s.sent) for s in sessions], num_steps))
        for session in sessions:
            session.sent += num_steps

    async def collect(self) -> None:
        """Wait for all answers and keep them; rows may be refused only as displaced."""
        waiting, self.waiting = self.waiting, []
        for frame_id, rows, num_steps in waiting:
            reply = await self.stream.reply(frame_id, len(rows), num_steps)
            assert {e.reason for e in reply.errors.values()} <= {"DISPLACED"}, reply.errors
            for result in reply.results:
                if result.num_steps:
                    _keep(result, rows)


def _keep(result: Any, rows: list[tuple[_Session, int]]) -> None:
    """Note the answers of one result."""
    positions = list(result.rows) or list(range(len(rows)))
    refused = {e.index for e in result.errors}
    values = np.frombuffer(result.outputs[0], "<f4").reshape(len(positions), result.num_steps, -1)
    for position, answers in zip(positions, values, strict=True):
        if position in refused:
            continue
        session, first = rows[position]
        for step, answer in enumerate(answers, start=first + result.step_offset):
            assert step not in session.answers, f"step {step} was answered twice"
            session.answers[step] = answer


async def play(channel: aio.Channel, model: str, script: Script, series: Floats) -> list[Floats]:
    """Play a script, feed what is left, and end the sessions.

    Args:
        series: Inputs [NUM_SERIES, NUM_STEPS, features].

    Returns:
        Per session its answers, [NUM_STEPS, elements].
    """
    async with AsyncExitStack() as stack:
        clients = [
            _Client(await stack.enter_async_context(RawStream(channel))) for _ in range(script.num_streams)
        ]
        sessions = [
            _Session(series[number], clients[i % len(clients)]) for i, number in enumerate(script.series)
        ]
        for session in sessions:
            (session.handle,) = await session.owner.stream.handles(model, session.id)
        for action in script.actions:
            if isinstance(action, Frame):
                await _send(clients[action.stream % len(clients)], sessions, action)
            else:
                to = clients[action.stream % len(clients)]
                await _resume(sessions[action.session % len(sessions)], to, action.how)
        await _finish(clients, sessions)
    return [np.stack([s.answers[step] for step in range(NUM_STEPS)]) for s in sessions]


async def _send(client: _Client, sessions: list[_Session], frame: Frame) -> None:
    mine = [s for s in sessions if s.owner is client and s.sent < NUM_STEPS]
    if mine:
        chosen = [mine[i] for i in dict.fromkeys(r % len(mine) for r in frame.rows)]
        await client.send(chosen, min(frame.num_steps, *(NUM_STEPS - s.sent for s in chosen)))
        if frame.wait:
            await client.collect()


async def _resume(session: _Session, to: _Client, how: Move) -> None:
    if how == "detach":
        await session.owner.stream.close([session.handle], mode="DETACH")
    opened = await to.stream.open("", session.id, mode="RESUME")
    assert not opened.errors, opened.errors
    session.owner, session.handle, session.sent = to, opened.handles[0], opened.next_steps[0]


async def _finish(clients: list[_Client], sessions: list[_Session]) -> None:
    """Send what is left of every session, see all answers, and end the sessions."""
    for session in sessions:
        if session.sent < NUM_STEPS:
            await session.owner.send([session], NUM_STEPS - session.sent)
    for client in clients:
        await client.collect()
    for session in sessions:
        closed = await session.owner.stream.close([session.handle])
        assert list(closed.next_steps) == [NUM_STEPS]
