"""Leaving sessions while others still wait for something of them, against a foreign peer."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from support.peer_parts import Cut, PeerStream
from support.peers import DurableOnAck
from support.quick_client import client_of
from support.sum_peer import SumPeer
from support.waiting import until
from tidegate.client import CallTimedOut, StreamLost, leaving
from tidegate.errors import Displaced, InvalidRequest, TidegateError
from tidegate.v1 import stream_pb2 as pb


class Silent(SumPeer):
    """Answers frames once it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may_answer = asyncio.Event()

    async def on_frame(self, stream: PeerStream, frame: pb.Frame) -> bool:
        await self.may_answer.wait()
        return False


async def test_a_session_that_was_left_cannot_be_flushed() -> None:
    async with SumPeer() as peer, client_of(peer) as client:
        async with client.session("sum") as session:
            await session.step(1)

        with pytest.raises(InvalidRequest, match="expected an open one"):
            await session.flush(timeout_s=5)


async def test_who_flushes_a_session_that_another_leaves_is_told() -> None:
    async with SumPeer() as peer, client_of(peer) as client:
        async with client.session("sum") as session:
            await session.step(1)
            flushing = asyncio.create_task(session.flush(timeout_s=5))
            await asyncio.sleep(0)

        with pytest.raises(InvalidRequest, match="expected an open one"):
            await flushing


async def test_who_waits_for_room_in_a_session_that_another_leaves_is_told() -> None:
    async with SumPeer() as peer, client_of(peer, max_held_bytes=4096) as client:
        async with client.session("sum") as session:
            await session.steps(np.ones(400))
            waiting = asyncio.create_task(session.steps(np.ones(400), timeout_s=5))
            await asyncio.sleep(0.01)

        with pytest.raises(InvalidRequest, match="expected an open one"):
            await waiting


async def test_the_retry_of_a_clients_flush_waits_for_all_its_sessions() -> None:
    peer = DurableOnAck()
    peer.is_stuck = True
    async with (
        peer,
        client_of(peer) as client,
        client.session("sum", "a") as a,
        client.session("sum", "b") as b,
    ):
        await asyncio.gather(a.step(1), b.step(1))
        with pytest.raises(CallTimedOut) as caught:
            await client.flush(timeout_s=0.05)
        for name in "ab":
            with pytest.raises(CallTimedOut):
                await caught.value.retry(timeout_s=0.05)
            await peer.tell_durable(peer.streams[0], name, 1)

        await caught.value.retry(timeout_s=5)


async def test_a_flush_of_a_session_that_is_lost_amid_a_call_tells_of_the_loss() -> None:
    async with Silent() as peer, client_of(peer) as client, client.session("sum", "s") as session:
        call = asyncio.create_task(session.step(1))
        await until(lambda: peer.frames)
        handle = peer.streams[0].handle_of("s")
        notice = pb.Notice(reason=pb.NOTICE_REASON_DISPLACED, handles=[handle])
        await peer.streams[0].write(pb.StreamResponse(notice=notice))
        await until(lambda: session._group.roster.lost)

        with pytest.raises(Displaced):
            await session.flush(timeout_s=0.05)
        peer.may_answer.set()
        with pytest.raises(Displaced):
            await call


async def test_nobody_waits_for_a_session_that_could_not_be_left_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leaving, "LEAVE_TIMEOUT_S", 0.1)

    class Gone(SumPeer):
        async def on_frame(self, stream: PeerStream, frame: pb.Frame) -> bool:
            raise Cut

    async with Gone() as peer, client_of(peer) as client:
        opening = client.session("sum")
        session = await opening.__aenter__()
        with pytest.raises(CallTimedOut) as caught:
            await session.step(1, timeout_s=0)
        with pytest.raises(StreamLost):
            await opening.__aexit__(None, None, None)

        with pytest.raises(TidegateError):
            await asyncio.wait_for(caught.value.retry(), 5)


async def test_leaving_that_is_cancelled_gives_the_session_back() -> None:
    async with Silent() as peer, client_of(peer) as client:
        answer: list[asyncio.Task[object]] = []

        async def work() -> None:
            async with client.session("sum") as session:
                answer.append(asyncio.create_task(session.step(1)))
                await until(lambda: peer.frames)

        working = asyncio.create_task(work())
        await until(lambda: peer.frames)
        await asyncio.sleep(0.01)
        working.cancel()
        await asyncio.wait([working])
        with pytest.raises(TidegateError):
            await asyncio.wait_for(answer[0], 5)
        peer.may_answer.set()
        await until(lambda: peer.closes)

        assert working.cancelled()
