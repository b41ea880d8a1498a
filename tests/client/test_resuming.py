"""Streams that break in every way, against a foreign peer: the caller sees only latency."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest

from support.peer_parts import Cut, PeerStream, Resume
from support.peers import CutsOnce
from support.quick_client import client_of
from support.sum_peer import SumPeer
from support.waiting import until
from tidegate.v1 import stream_pb2 as pb

BREAKS = [
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
]


@pytest.mark.parametrize("code", BREAKS, ids=lambda code: code.name)
async def test_a_stream_that_breaks_is_only_latency(code: grpc.StatusCode) -> None:
    async with CutsOnce(code) as peer, client_of(peer) as client, client.session("sum", "s") as session:
        answers = [float(await session.step(x)) for x in range(1, 6)]

        assert answers == [1, 3, 6, 10, 15]
        assert [(r.have, r.held_from, r.epoch) for r in peer.resumes] == [(1, 0, 1)]
        assert (session.session_id, session.next_step) == ("s", 5)


async def test_a_stream_that_the_server_ends_well_is_only_latency() -> None:
    class Ends(SumPeer):
        async def _stream(self, requests: Any, context: Any) -> None:
            if len(self.streams) == 0:
                self.streams.append(PeerStream(context.read, context.write, 1))
                await self._dispatch(self.streams[0], await context.read())
                return
            await super()._stream(requests, context)

    async with Ends() as peer, client_of(peer) as client, client.session("sum") as session:
        assert float(await session.step(1)) == 1
        assert len(peer.streams) == 2


@pytest.mark.parametrize("falls_back_by", [0, 1, 3, 7])
@pytest.mark.parametrize(("runs", "tells"), [(0, False), (4, False), (4, True), (10, False)])
async def test_a_resume_in_the_middle_of_a_chunk_goes_on_there(
    runs: int, tells: bool, falls_back_by: int
) -> None:
    peer = CutsOnce(grpc.StatusCode.UNAVAILABLE, runs=runs, tells=tells)
    peer.falls_back_by = falls_back_by
    x = np.arange(1, 16, dtype=np.float32)

    async with peer, client_of(peer) as client, client.session("sum", "s") as session:
        first = await session.steps(x[:5])
        second = await session.steps(x[5:])

        np.testing.assert_array_equal(np.concatenate([first, second]), np.cumsum(x))
        assert peer.states["s"] == [0, *np.cumsum(x)]
        had = 5 + runs if tells else 5
        assert [(r.have, r.held_from) for r in peer.resumes] == [(had, 0)]


async def test_answers_that_are_had_are_not_asked_for_again() -> None:
    peer = CutsOnce(grpc.StatusCode.UNAVAILABLE, runs=4, tells=True)
    peer.falls_back_by = 6

    async with peer, client_of(peer) as client, client.session("sum") as session:
        await session.steps(np.ones(5))
        await session.steps(np.ones(10))

    again = [frame for number, frame in peer.frames if number == 2]
    assert [(f.first_steps[0], f.num_steps, f.outputs) for f in again] == [
        (3, 2, pb.OUTPUT_SELECTION_NONE),
        (5, 4, pb.OUTPUT_SELECTION_NONE),
        (9, 6, pb.OUTPUT_SELECTION_ALL),
    ]


async def test_the_sessions_of_a_fleet_may_fall_back_to_different_steps() -> None:
    class Uneven(CutsOnce):
        def resumes_at(self, resume: Resume) -> int:
            return max(0, resume.have - int(resume.session_id))

    peer = Uneven(grpc.StatusCode.UNAVAILABLE, runs=3, tells=True)
    x = np.random.default_rng(1).integers(-9, 9, (6, 14)).astype(np.float32)

    async with peer, client_of(peer) as client, client.fleet("sum", list("012345")) as fleet:
        answers = [await fleet.steps(x[:, :4]), await fleet.steps(x[:, 4:13]), await fleet.steps(x[:, 13:])]

        assert fleet.next_steps.tolist() == [14] * 6
    np.testing.assert_array_equal(np.concatenate(answers, axis=1), np.cumsum(x, axis=1))
    assert sorted((r.session_id, r.have) for r in peer.resumes) == [(str(i), 7) for i in range(6)]


async def test_a_quiet_session_is_resumed_without_being_asked() -> None:
    async with SumPeer() as peer, client_of(peer) as client, client.session("sum", "s") as session:
        await session.steps(np.ones(3))
        peer.resumes_at = lambda resume: 1  # type: ignore[method-assign]
        await peer.abort_streams()

        await until(lambda: len(peer.states["s"]) == 4 and peer.resumes)

        assert float(await session.step(1)) == 4


async def test_every_connection_has_a_higher_attempt_of_the_same_client() -> None:
    async with SumPeer() as peer, client_of(peer) as client, client.session("sum") as session:
        for i in range(3):
            await session.step(1)
            await peer.abort_streams()
            await until(lambda i=i: len(peer.resumes) == i + 1)
        await session.step(1)

    assert [r.attempt for r in peer.resumes] == [2, 3, 4]
    assert len({message.client_instance for message in peer.opens}) == 1
    assert [r.epoch for r in peer.resumes] == [1, 2, 3]


async def test_a_create_whose_answer_is_lost_is_sent_again() -> None:
    class Forgets(SumPeer):
        async def on_open(self, stream: PeerStream, message: pb.Open) -> bool:
            if stream.number == 1:
                self.open(stream, message)
                raise Cut
            return False

    async with (
        Forgets() as peer,
        client_of(peer) as client,
        client.session("sum", "s", mode="create") as session,
    ):
        assert float(await session.step(2)) == 2

    assert [message.mode for message in peer.opens] == [pb.OPEN_MODE_CREATE] * 2
