"""Inputs are held until they are durable, and never without bound, against a foreign peer."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest

from support.peer_parts import PeerStream, refusal
from support.peers import DurableOnAck
from support.quick_client import client_of
from support.sum_peer import SumPeer
from support.waiting import until
from tidegate.client import BufferFull, CallTimedOut, Session
from tidegate.client.budget import InputBudget
from tidegate.errors import Displaced, InvalidRequest, SessionLost
from tidegate.v1 import stream_pb2 as pb

SMALL_BYTES = 4096
"""Room for about 500 steps of one number, half of it for one session."""


async def fill(session: Session) -> None:
    """Feed a session until there is no room for its steps."""
    with suppress(CallTimedOut):
        while session.next_step < SMALL_BYTES:
            await session.steps(np.ones(50), timeout_s=0.5)


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


async def test_what_fails_for_lack_of_room_acknowledges_the_last_answer() -> None:
    """Or the server would never report its steps as durable, and there would never be room."""
    async with (
        DurableOnAck() as peer,
        client_of(peer, max_held_bytes=SMALL_BYTES, when_full="fail") as client,
        client.session("sum", "s") as session,
    ):
        await session.steps(np.ones(400))
        with pytest.raises(BufferFull):
            await session.steps(np.ones(400))
        await until(lambda: session.durable_step == 400, within_s=5)

        await session.steps(np.ones(400))


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


async def test_no_holder_may_take_more_than_the_others_leave() -> None:
    budget = InputBudget(100)
    budget.change(40)

    assert budget.fits(40, 10)
    assert not budget.fits(40, 11)
    assert budget.fits(0, 30)
    assert not budget.fits(0, 31)
