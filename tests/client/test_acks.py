"""What is acknowledged, when, and what `flush` waits for, against a foreign peer."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import numpy as np
import pytest

from support.peer_parts import Cut, PeerStream, refusal
from support.peers import DurableOnAck
from support.quick_client import client_of
from support.sum_peer import SumPeer
from support.waiting import until
from tidegate.client import CallTimedOut
from tidegate.client.acks import AckBook
from tidegate.errors import InvalidRequest, SessionLost
from tidegate.v1 import stream_pb2 as pb


async def test_asking_for_the_next_answer_acknowledges_the_last() -> None:
    async with SumPeer() as peer, client_of(peer) as client, client.session("sum", "s") as session:
        for _ in range(3):
            await session.step(1)
        await until(lambda: peer.acks.get("s") == 2)

        assert not peer.frames[0][1].HasField("ack")
    assert peer.acks == {"s": 3}


async def test_a_block_that_fails_does_not_acknowledge_its_last_answer() -> None:
    async with SumPeer() as peer, client_of(peer) as client:
        with suppress(ZeroDivisionError):
            async with client.session("sum", "s") as session:
                await session.step(1)
                raise ZeroDivisionError
        await client.models.get("sum")  # Whatever was sent before has arrived.

    assert peer.acks == {}


async def test_an_application_may_acknowledge_by_itself() -> None:
    async with (
        SumPeer() as peer,
        client_of(peer) as client,
        client.session("sum", "s", ack="explicit") as session,
        client.fleet("sum", ["a", "b"], ack="explicit") as fleet,
    ):
        for _ in range(3):
            await session.step(1)
            await fleet.step([1, 2])
        with pytest.raises(InvalidRequest, match="expected at most 3, got 4"):
            session.ack(4)
        assert peer.acks == {}

        session.ack(2)
        fleet.ack([1, 3])
        await until(lambda: peer.acks == {"s": 2, "a": 1, "b": 3})

        await peer.abort_streams()
        peer.acks.clear()
        await until(lambda: peer.acks == {"s": 2, "a": 1, "b": 3})
    assert peer.acks == {"s": 2, "a": 1, "b": 3}


async def test_flush_waits_until_what_was_returned_is_durable() -> None:
    async with (
        DurableOnAck() as peer,
        client_of(peer) as client,
        client.session("sum", "s") as session,
        client.fleet("sum", ["a", "b"]) as fleet,
    ):
        await asyncio.gather(session.steps(np.ones(5)), fleet.steps(np.ones((2, 7))))
        await session.flush(timeout_s=20)
        assert (session.durable_step, fleet.durable_steps.tolist()) == (5, [0, 0])
        await client.flush(timeout_s=20)
        assert fleet.durable_steps.tolist() == [7, 7]

        peer.is_stuck = True
        await session.step(1)
        with pytest.raises(CallTimedOut, match=r"step 5: not durable within 0\.2 s") as caught:
            await session.flush(timeout_s=0.2)
        await peer.tell_durable(peer.streams[-1], "s", 6)
        await caught.value.retry(timeout_s=20)

        assert session.durable_step == 6


async def test_flush_survives_a_break() -> None:
    class CutsAtAck(DurableOnAck):
        async def _dispatch(self, stream: PeerStream, message: pb.StreamRequest) -> None:
            if stream.number == 1 and message.WhichOneof("message") == "ack":
                raise Cut
            await super()._dispatch(stream, message)

    async with CutsAtAck() as peer, client_of(peer) as client, client.session("sum", "s") as session:
        await session.steps(np.ones(5))
        await session.flush(timeout_s=20)

        assert (session.durable_step, len(peer.streams)) == (5, 2)


async def test_flush_of_an_explicit_session_waits_for_what_was_acknowledged() -> None:
    async with (
        DurableOnAck() as peer,
        client_of(peer) as client,
        client.session("sum", "s", ack="explicit") as session,
    ):
        await session.steps(np.ones(5))
        session.ack(3)
        await session.flush(timeout_s=20)

        assert session.durable_step == 3


async def test_what_is_kept_when_a_session_is_opened_is_acknowledged_and_flushed() -> None:
    peer = DurableOnAck()
    peer.states |= {"s": [0, 1, 2], "a": [0, 1], "b": [0, 1, 2, 3]}

    async with (
        peer,
        client_of(peer) as client,
        client.session("sum", "s", next_step=2, ack="explicit") as session,
        client.fleet("sum", ["a", "b"], next_steps=[4, 2], held_from=[0, 0], ack="explicit") as fleet,
    ):
        await client.flush(timeout_s=20)

        # The peer lacks the last steps of "a"; what of "b" was not kept, it has forgotten.
        assert fleet.next_steps.tolist() == [1, 2]
        assert peer.acks == {"s": 2, "a": 1, "b": 2}
        assert (session.durable_step, fleet.durable_steps.tolist()) == (2, [1, 2])


async def test_flush_tells_of_a_loss() -> None:
    peer = SumPeer()
    peer.resumes_at = lambda _: refusal("DATA_LOSS", "SESSION_LOST")  # type: ignore[method-assign]

    async with peer, client_of(peer) as client, client.session("sum", "s") as session:
        await session.step(1)
        flushing = asyncio.create_task(session.flush(timeout_s=20))
        await peer.abort_streams()

        with pytest.raises(SessionLost):
            await flushing


def test_acks_are_told_once_and_again_on_a_new_connection() -> None:
    book = AckBook(3)
    book.keep(np.array([4, 0, 7]))

    first = book.news(np.arange(3), 10.0)
    steps = book.tell(first, 10.0)
    book.keep(np.array([5, 0, 7]))
    too_soon = book.news(np.arange(3), 10.01)
    later = book.news(np.arange(3), 11.0)
    book.forget_told()

    assert (first.tolist(), steps.tolist()) == ([0, 2], [4, 7])
    assert (too_soon.tolist(), later.tolist(), book.all_news().tolist()) == ([], [0], [0, 2])
