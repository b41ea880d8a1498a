"""Everything at once: sessions and fleets on one client, while the peer breaks at random moments.

The peer's answers are sums of all inputs so far, so every input that is lost, repeated or out of order,
and every answer that is lost or returned twice, shows in the numbers.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

import grpc
import numpy as np
import pytest

from support.peer_parts import Cut, PeerStream, Resume, refusal
from support.sum_peer import SumPeer
from tidegate.client import AsyncClient, CallTimedOut, Fleet, RecoveryOptions, Session
from tidegate.client.session import Outputs
from tidegate.errors import Displaced
from tidegate.tensor import Array
from tidegate.v1 import stream_pb2 as pb

CODES = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL]


class Unreliable(SumPeer):
    """Breaks often, forgets some of what it has answered, reports durable steps late, is often full."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.rng = random.Random(seed)
        self.durable: dict[str, int] = {}
        self.limits.max_frame_steps = 5
        self.limits.max_frame_rows = 2
        self.limits.max_open_sessions = 2
        self.num_breaks = 0

    def _may_break(self, probability: float) -> None:
        if self.rng.random() < probability:
            self.num_breaks += 1
            raise Cut(self.rng.choice(CODES))

    def resumes_at(self, resume: Resume) -> int:
        assert resume.held_from <= self.durable.get(resume.session_id, 0) <= resume.have
        assert resume.epoch in (0, self.epochs[resume.session_id], self.epochs[resume.session_id] - 1)
        newest = min(resume.have, len(self.states[resume.session_id]) - 1)
        return self.rng.randint(max(resume.held_from, self.durable.get(resume.session_id, 0)), newest)

    async def on_open(self, stream: PeerStream, message: pb.Open) -> bool:
        self._may_break(0.1)
        if self.rng.random() < 0.1:
            error = refusal("RESOURCE_EXHAUSTED", "TOO_MANY_REQUESTS", retry_after_s=0.001)
            await stream.write(pb.StreamResponse(error=pb.StreamError(open_id=message.open_id, error=error)))
            return True
        await stream.write(pb.StreamResponse(opened=self.open(stream, message)))
        self._may_break(0.05)
        return True

    async def on_frame(self, stream: PeerStream, frame: pb.Frame) -> bool:
        self._may_break(0.03)
        if self.rng.random() < 0.05:
            error = refusal("RESOURCE_EXHAUSTED", "TOO_MANY_REQUESTS", retry_after_s=0.001)
            await stream.write(self.refuse_rows(frame, error))
            return True
        doomed = [handle for handle in frame.handles if stream.ids[handle] == "doomed"]
        if doomed and self.rng.random() < 0.2:
            await stream.write(
                pb.StreamResponse(notice=pb.Notice(reason=pb.NOTICE_REASON_DISPLACED, handles=doomed))
            )
            self._may_break(0.5)
            await stream.write(self.refuse_rows(frame, refusal("ABORTED", "DISPLACED")))
            return True
        result = self.run(stream, frame)
        self._may_break(0.03)
        await stream.write(pb.StreamResponse(result=result))
        self._may_break(0.03)
        for handle in frame.handles:
            session_id = stream.ids[handle]
            acked = min(self.acks.get(session_id, 0), len(self.states[session_id]) - 1)
            if self.rng.random() < 0.3 and acked > self.durable.get(session_id, 0):
                self.durable[session_id] = acked
                await self.tell_durable(stream, session_id, acked)
        return True


class Series:
    """The inputs of sessions that are fed in random pieces, and what must come of them."""

    def __init__(self, num_rows: int, rng: random.Random) -> None:
        self.rng = rng
        self.sums = np.zeros((num_rows, 1), np.float32)

    def next_piece(self) -> tuple[Array, Array]:
        """Inputs (n, T) and the answers to them (n, T)."""
        steps = self.rng.choice([1, 1, 2, 7, 23])
        x = np.array([[self.rng.randint(-5, 5) for _ in range(steps)] for _ in self.sums], np.float32)
        y = self.sums + np.cumsum(x, axis=1)
        self.sums = y[:, -1:]
        return x, y


async def impatient_run(session: Session, x: Array, outputs: Outputs, rng: random.Random) -> dict[str, Array]:
    """A call whose caller may leave it, and comes back for the answer, perhaps long after it has come."""
    call = asyncio.create_task(session.run(x, outputs=outputs, timeout_s=rng.choice([None, 0.01])))
    if rng.random() < 0.5:
        await asyncio.wait([call], timeout=rng.choice([0, 0.001, 0.01]))
        call.cancel()
    await asyncio.wait([call])
    await asyncio.sleep(rng.choice([0, 0.02]))
    if call.cancelled():
        settled = await session.settle()
        # A call that was cancelled before it began is no call.
        return await session.run(x, outputs=outputs) if settled is None else settled
    try:
        return call.result()
    except CallTimedOut as error:
        return await (error.retry() if rng.random() < 0.5 or not error.taken else settled_of(session))


async def settled_of(session: Session) -> dict[str, Array]:
    settled = await session.settle()
    assert settled is not None, "the answer of a call that was taken is gone"
    return settled


async def feed_session(session: Session, rng: random.Random, num_calls: int) -> None:
    series = Series(1, rng)
    for _ in range(num_calls):
        x, y = series.next_piece()
        outputs: Outputs = rng.choice(["all", "last"])
        expected = y[0] if outputs == "all" else y[0, -1:]
        got = await impatient_run(session, x[0], outputs, rng)
        np.testing.assert_array_equal(got["y"], expected)


async def feed_fleet(fleet: Fleet, rng: random.Random, num_calls: int) -> None:
    series = Series(len(fleet), rng)
    for _ in range(num_calls):
        x, y = series.next_piece()
        np.testing.assert_array_equal(await fleet.steps(x), y)


async def feed_until_displaced(session: Session) -> None:
    with suppress(Displaced):
        while True:
            await session.step(1)


@pytest.mark.parametrize("seed", range(5))
async def test_no_step_and_no_answer_is_lost_or_doubled(seed: int) -> None:
    recovery = RecoveryOptions(first_delay_s=0.001, max_delay_s=0.01, max_held_bytes=8192, open_timeout_s=60)

    async with Unreliable(seed) as peer, AsyncClient(peer.address, recovery=recovery) as client:
        async with (
            client.session("sum", "a") as a,
            client.session("sum", "b") as b,
            client.session("sum", "doomed") as doomed,
            client.fleet("sum", ["f0", "f1", "f2", "f3", "f4"]) as fleet,
            asyncio.timeout(60),
        ):
            await asyncio.gather(
                feed_until_displaced(doomed),
                feed_session(a, random.Random(seed), 20),
                feed_session(b, random.Random(seed + 100), 20),
                feed_fleet(fleet, random.Random(seed + 200), 10),
            )

            expected = [a.next_step, b.next_step, *fleet.next_steps.tolist()]
        assert peer.num_breaks > 3
        names = ["a", "b", *(f"f{i}" for i in range(5))]
        assert [len(peer.states[name]) - 1 for name in names] == expected
