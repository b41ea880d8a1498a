"""Inputs are held until they are durable, and never without bound; acknowledgements and flush."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from support.sum_peer import Cut, PeerStream, SumPeer, refusal
from support.waiting import until
from tidegate.client import AsyncClient, BufferFull, CallTimedOut, RecoveryOptions, Session
from tidegate.client.acks import AckBook
from tidegate.client.budget import InputBudget
from tidegate.errors import Displaced, InvalidRequest, SessionLost
from tidegate.v1 import stream_pb2 as pb

SMALL_BYTES = 4096
"""Room for about 500 steps of one number, half of it for one session."""


def client_of(peer: SumPeer, **options: Any) -> AsyncClient:
    return AsyncClient(
        peer.address, recovery=RecoveryOptions(first_delay_s=0.005, max_delay_s=0.05, **options)
    )


async def fill(session: Session) -> None:
    """Feed a session until there is no room for its steps."""
    with suppress(CallTimedOut):
        while session.next_step < SMALL_BYTES:
            await session.steps(np.ones(50), timeout_s=0.5)


class DurableOnAck(SumPeer):
    """Reports a step as durable as soon as it is acknowledged."""

    is_stuck = False

    async def _dispatch(self, stream: PeerStream, message: pb.StreamRequest) -> None:
        before = dict(self.acks)
        await super()._dispatch(stream, message)
        news = {name: step for name, step in self.acks.items() if before.get(name) != step}
        for name, step in news.items():
            if not self.is_stuck:
                await self.tell_durable(stream, name, step)


async def test_what_is_durable_is_not_held_any_more() -> None:
    async with (
        DurableOnAck() as peer,
        client_of(peer, max_held_bytes=SMALL_BYTES) as client,
        client.session("sum", "s") as session,
    ):
        # Ten times what one session may hold.
        for _ in range(20):
            await session.steps(np.ones(200), timeout_s=20)
        assert 0 < session.durable_step <= session.next_step == 4000

        await peer.abort_streams()
        assert float(await session.step(1)) == 4001
    assert peer.resumes[0].held_from >= 4000 - 400


async def test_a_durable_step_may_travel_with_an_answer() -> None:
    class WithAnswers(SumPeer):
        def run(self, stream: PeerStream, frame: pb.Frame, until: int | None = None) -> pb.FrameResult:
            result = super().run(stream, frame, until)
            result.durable.CopyFrom(pb.Durable(handles=frame.handles, steps=frame.first_steps))
            return result

    async with WithAnswers() as peer, client_of(peer) as client, client.fleet("sum", ["a", "b"]) as fleet:
        for _ in range(3):
            await fleet.steps(np.ones((2, 4)))

        assert fleet.durable_steps.tolist() == [8, 8]


async def test_a_call_waits_while_checkpoints_are_stuck_and_its_answer_is_to_be_had_later() -> None:
    async with (
        DurableOnAck() as peer,
        client_of(peer, max_held_bytes=SMALL_BYTES) as client,
        client.session("sum", "s") as session,
    ):
        peer.is_stuck = True
        await session.steps(np.ones(400))
        with pytest.raises(CallTimedOut) as caught:
            await session.steps(np.ones(300), timeout_s=0.3)
        assert (caught.value.taken, session.next_step) == (False, 400)

        peer.is_stuck = False
        await peer.tell_durable(peer.streams[-1], "s", 400)
        answers = await caught.value.retry(timeout_s=20)

        np.testing.assert_array_equal(answers, np.arange(401, 701))


async def test_a_call_fails_at_once_by_choice() -> None:
    async with (
        SumPeer() as peer,
        client_of(peer, max_held_bytes=SMALL_BYTES, when_full="fail") as client,
        client.session("sum", "s") as session,
    ):
        await session.steps(np.ones(400))
        with pytest.raises(BufferFull, match="not reported as durable") as caught:
            await session.steps(np.ones(300))

        assert caught.value.code == "RESOURCE_EXHAUSTED"
        assert session.next_step == 400
        assert float(await session.step(1)) == 401


async def test_a_server_that_never_reports_durable_steps_is_fed_no_more_than_may_be_held() -> None:
    async with (
        SumPeer() as peer,
        client_of(peer, max_held_bytes=SMALL_BYTES) as client,
        client.session("sum") as session,
    ):
        await fill(session)

        assert 4 * session.next_step <= SMALL_BYTES // 2


@pytest.mark.parametrize("when_full", ["wait", "fail"])
async def test_a_call_that_can_never_find_room_is_refused(when_full: str) -> None:
    async with (
        SumPeer() as peer,
        client_of(peer, max_held_bytes=SMALL_BYTES, when_full=when_full) as client,
        client.session("sum") as session,
    ):
        with pytest.raises(BufferFull, match="expected at most 2048 bytes in a call"):
            await session.steps(np.ones(1000))


async def test_a_session_that_is_stuck_does_not_shut_out_the_others() -> None:
    async with (
        SumPeer() as peer,
        client_of(peer, max_held_bytes=SMALL_BYTES) as client,
        client.session("sum", ack="explicit") as hog,
    ):
        await fill(hog)

        async with client.session("sum") as other:
            assert float(await other.step(1, timeout_s=5)) == 1


async def test_leaving_makes_room() -> None:
    async with SumPeer() as peer, client_of(peer, max_held_bytes=SMALL_BYTES) as client:
        for _ in range(20):
            async with client.session("sum") as session:
                await session.steps(np.ones(400), timeout_s=5)


async def test_a_lost_session_makes_room() -> None:
    peer = SumPeer()
    peer.resumes_at = lambda _: refusal("DATA_LOSS", "SESSION_LOST")  # type: ignore[method-assign]

    async with (
        peer,
        client_of(peer, max_held_bytes=SMALL_BYTES) as client,
        client.session("sum", "a") as lost,
    ):
        await lost.steps(np.ones(400))
        await peer.abort_streams()
        with pytest.raises(SessionLost):
            await lost.step(1)

        async with client.session("sum", "b") as other:
            await other.steps(np.ones(400), timeout_s=5)


async def test_refused_steps_are_not_held() -> None:
    class Refuses(SumPeer):
        async def on_frame(self, stream: PeerStream, frame: pb.Frame) -> bool:
            error = refusal("INVALID_ARGUMENT", "INVALID_REQUEST")
            await stream.write(self.refuse_rows(frame, error))
            return True

    async with (
        Refuses() as peer,
        client_of(peer, max_held_bytes=SMALL_BYTES) as client,
        client.session("sum") as session,
    ):
        for _ in range(20):
            with pytest.raises(InvalidRequest):
                await session.steps(np.ones(200), timeout_s=5)


async def test_a_lost_session_may_be_asked_as_often_as_one_likes() -> None:
    peer = SumPeer()
    peer.resumes_at = lambda _: refusal("ABORTED", "DISPLACED")  # type: ignore[method-assign]

    async with (
        peer,
        client_of(peer, max_held_bytes=SMALL_BYTES) as client,
        client.session("sum") as session,
    ):
        await session.step(1)
        await peer.abort_streams()
        for _ in range(20):
            with pytest.raises(Displaced):
                await session.steps(np.ones(200), timeout_s=5)


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


async def test_flush_tells_of_a_loss() -> None:
    peer = SumPeer()
    peer.resumes_at = lambda _: refusal("DATA_LOSS", "SESSION_LOST")  # type: ignore[method-assign]

    async with peer, client_of(peer) as client, client.session("sum", "s") as session:
        await session.step(1)
        flushing = asyncio.create_task(session.flush(timeout_s=20))
        await peer.abort_streams()

        with pytest.raises(SessionLost):
            await flushing


async def test_a_store_in_memory_frees_inputs_and_makes_nothing_durable() -> None:
    peer = DurableOnAck()
    peer.limits.durable = False

    async with peer, client_of(peer) as client, client.session("sum", "s") as session:
        await session.steps(np.ones(5))
        await session.flush(timeout_s=20)
        await peer.abort_streams()
        await session.step(1)

        assert session.durable_step == 0
    assert peer.resumes[0].held_from == 5


async def test_a_server_cannot_make_durable_what_it_has_not_answered() -> None:
    async with SumPeer() as peer, client_of(peer) as client, client.session("sum", "s") as session:
        await session.steps(np.ones(5))
        await peer.tell_durable(peer.streams[0], "s", 99)
        await until(lambda: session.durable_step)

        assert session.durable_step == 5


@pytest.mark.parametrize("field", ["max_held_bytes", "first_delay_s", "max_delay_s", "open_timeout_s"])
def test_options_that_make_no_sense_are_refused(field: str) -> None:
    with pytest.raises(InvalidRequest, match=f"{field}: expected more than 0, got 0"):
        RecoveryOptions(**{field: 0})


def test_an_unknown_choice_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="when_full"):
        RecoveryOptions(when_full="drop")  # type: ignore[arg-type]


async def test_no_holder_may_take_more_than_the_others_leave() -> None:
    budget = InputBudget(100)
    budget.change(40)

    assert budget.fits(40, 10)
    assert not budget.fits(40, 11)
    assert budget.fits(0, 30)
    assert not budget.fits(0, 31)


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
