"""Calls that wait: for a connection, for room, for a server that drains; and that leave before the answer."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import grpc
import numpy as np
import pytest

from support.peer_parts import Cut, PeerStream, refusal
from support.peers import CutsOnce
from support.quick_client import client_of
from support.sum_peer import SumPeer
from support.waiting import until
from tidegate.client import AsyncClient, CallTimedOut, RecoveryOptions, StreamLost
from tidegate.errors import ArenaFull, CapacityError
from tidegate.v1 import stream_pb2 as pb


async def test_steps_may_be_handed_over_while_the_connection_is_down() -> None:
    class Away(SumPeer):
        is_away = False

        async def on_open(self, stream: PeerStream, message: pb.Open) -> bool:
            if self.is_away:
                raise Cut
            return False

    async with (
        Away() as peer,
        client_of(peer) as client,
        client.session("sum") as a,
        client.session("sum") as b,
    ):
        await asyncio.gather(a.step(1), b.step(10))
        peer.is_away = True
        await peer.abort_streams()
        calls = [asyncio.create_task(s.step(x)) for x in (2, 3) for s in (a, b)]
        await until(lambda: len(peer.streams) > 3)
        assert not any(call.done() for call in calls)
        peer.is_away = False

        answers = [float(y) for y in await asyncio.gather(*calls)]

    assert answers == [3, 12, 6, 15]


async def test_a_call_that_times_out_offers_its_answer() -> None:
    class Slow(SumPeer):
        def __init__(self) -> None:
            super().__init__()
            self.may_answer = asyncio.Event()

        async def on_frame(self, stream: PeerStream, frame: pb.Frame) -> bool:
            await self.may_answer.wait()
            return False

    async with Slow() as peer, client_of(peer) as client, client.session("sum") as session:
        with pytest.raises(CallTimedOut) as first:
            await session.step(5, timeout_s=0.05)
        with pytest.raises(CallTimedOut) as second:
            await session.step(6, timeout_s=0.05)
        with pytest.raises(CallTimedOut) as still:
            await first.value.retry(timeout_s=0.05)
        peer.may_answer.set()

        assert (first.value.taken, first.value.step) == (True, 0)
        assert (second.value.taken, second.value.step) == (False, 0)
        assert float(await still.value.retry()) == 5
        assert float(await second.value.retry()) == 11
        assert session.next_step == 2
    assert [f.first_steps[0] for _, f in peer.frames] == [0, 1]


async def test_a_call_that_times_out_survives_a_break() -> None:
    peer = CutsOnce(grpc.StatusCode.UNAVAILABLE, runs=2)

    async with peer, client_of(peer) as client, client.session("sum") as session:
        await session.step(1)
        with pytest.raises(CallTimedOut) as caught:
            await session.steps([2, 3, 4], timeout_s=0)

        np.testing.assert_array_equal(await caught.value.retry(), [3, 6, 10])


async def test_a_server_that_drains_is_left_for_the_next() -> None:
    class Drains(SumPeer):
        async def on_frame(self, stream: PeerStream, frame: pb.Frame) -> bool:
            if stream.number == 1:
                assert stream.num_frames == 1, "a frame for a server that drains"
                # Before the answer, so that the client knows when it sends the next.
                await stream.write(pb.StreamResponse(notice=pb.Notice(reason=pb.NOTICE_REASON_DRAINING)))
            return False

    async with Drains() as peer, client_of(peer) as client, client.session("sum") as session:
        await session.step(1)
        call = asyncio.create_task(session.step(2))
        await asyncio.sleep(0.05)  # Long enough for a frame that must not be sent to arrive.
        assert not call.done()
        await peer.abort_streams()

        assert float(await call) == 3


@pytest.mark.parametrize("whole", [True, False])
async def test_a_frame_without_room_is_sent_again_after_the_hint(whole: bool) -> None:
    class Full(SumPeer):
        async def on_frame(self, stream: PeerStream, frame: pb.Frame) -> bool:
            if stream.num_frames != 2:
                return False
            error = refusal("RESOURCE_EXHAUSTED", "TOO_MANY_REQUESTS", retry_after_s=0.02)
            message = pb.StreamResponse(error=pb.StreamError(frame_id=frame.frame_id, error=error))
            await stream.write(message if whole else self.refuse_rows(frame, error))
            return True

    peer = Full()
    peer.limits.max_frame_steps = 2
    async with peer, client_of(peer) as client, client.session("sum") as session:
        np.testing.assert_array_equal(await session.steps(np.ones(8)), np.arange(1, 9))
        assert len(peer.streams) == 1


async def test_an_open_without_room_is_sent_again_after_the_hint() -> None:
    class Full(SumPeer):
        async def on_open(self, stream: PeerStream, message: pb.Open) -> bool:
            if len(self.opens) > 2:
                return False
            error = refusal("RESOURCE_EXHAUSTED", "TOO_MANY_REQUESTS", retry_after_s=0.02)
            await stream.write(pb.StreamResponse(error=pb.StreamError(open_id=message.open_id, error=error)))
            return True

    async with Full() as peer, client_of(peer) as client, client.session("sum") as session:
        assert float(await session.step(1)) == 1
        assert len(peer.opens) == 3


async def test_a_server_that_dies_of_every_call_is_asked_more_and_more_seldom() -> None:
    class Dies(SumPeer):
        async def on_frame(self, stream: PeerStream, frame: pb.Frame) -> bool:
            raise Cut

    recovery = RecoveryOptions(first_delay_s=0.01, max_delay_s=10)
    async with Dies() as peer, AsyncClient(peer.address, recovery=recovery) as client:
        with suppress(StreamLost, CallTimedOut):
            async with client.session("sum") as session:
                await session.step(1, timeout_s=1)
                raise AssertionError("a step that no server survived was answered")

        assert 3 <= len(peer.streams) <= 10


@pytest.mark.parametrize("what", ["open", "frame"])
async def test_a_server_that_says_at_once_is_not_asked_without_a_pause(what: str) -> None:
    class Full(SumPeer):
        num_asked = 0

        async def _refuse(self, stream: PeerStream, number: dict[str, int]) -> bool:
            self.num_asked += 1
            error = refusal("RESOURCE_EXHAUSTED", "TOO_MANY_REQUESTS", retry_after_s=0)
            await stream.write(pb.StreamResponse(error=pb.StreamError(**number, error=error)))
            return True

        async def on_open(self, stream: PeerStream, message: pb.Open) -> bool:
            return what == "open" and await self._refuse(stream, {"open_id": message.open_id})

        async def on_frame(self, stream: PeerStream, frame: pb.Frame) -> bool:
            return what == "frame" and await self._refuse(stream, {"frame_id": frame.frame_id})

    async with Full() as peer, client_of(peer, open_timeout_s=0.6) as client:
        with pytest.raises((CapacityError, CallTimedOut, StreamLost)):
            async with client.session("sum") as session:
                await session.step(1, timeout_s=0.6)

        assert 2 <= peer.num_asked <= 40


async def test_answers_that_come_twice_are_returned_once() -> None:
    class Repeats(SumPeer):
        async def on_frame(self, stream: PeerStream, frame: pb.Frame) -> bool:
            result = pb.StreamResponse(result=self.run(stream, frame))
            for _ in range(3):
                await stream.write(result)
            return True

    async with Repeats() as peer, client_of(peer) as client, client.session("sum") as session:
        assert [float(await session.step(1)) for _ in range(3)] == [1, 2, 3]


async def test_ending_a_session_survives_a_break() -> None:
    class Forgets(SumPeer):
        async def _dispatch(self, stream: PeerStream, message: pb.StreamRequest) -> None:
            if message.WhichOneof("message") == "close" and stream.number == 1:
                del self.states["s"]
                raise Cut
            await super()._dispatch(stream, message)

    async with Forgets() as peer, client_of(peer) as client, client.session("sum", "s") as session:
        await session.step(1)
        await session.end()

    assert peer.states == {}


async def test_what_is_opened_too_late_is_given_back() -> None:
    class Late(SumPeer):
        def __init__(self) -> None:
            super().__init__()
            self.may_answer = asyncio.Event()

        async def on_open(self, stream: PeerStream, message: pb.Open) -> bool:
            await self.may_answer.wait()
            return False

    async with Late() as peer, client_of(peer, open_timeout_s=0.6) as client:
        with pytest.raises(StreamLost, match="no answer"):
            async with client.session("sum", "s"):
                pass
        peer.may_answer.set()
        await until(lambda: peer.closes)

    assert peer.closes[0].mode == pb.CLOSE_MODE_DETACH
    assert peer.closes[0].handles == [peer.streams[0].handle_of("s")]


async def test_a_fleet_that_finds_no_room_in_time_gives_back_what_it_has() -> None:
    class Full(SumPeer):
        async def on_open(self, stream: PeerStream, message: pb.Open) -> bool:
            if "a" in message.session_ids:
                return False
            error = refusal("RESOURCE_EXHAUSTED", "ARENA_FULL", retry_after_s=0.02)
            await stream.write(pb.StreamResponse(error=pb.StreamError(open_id=message.open_id, error=error)))
            return True

    peer = Full()
    peer.limits.max_open_sessions = 1
    async with peer, client_of(peer, open_timeout_s=0.6) as client:
        with pytest.raises(ArenaFull):
            async with client.fleet("sum", ["a", "b"]):
                pass
        await until(lambda: peer.closes)

    assert peer.closes[0].handles == [peer.streams[0].handle_of("a")]
