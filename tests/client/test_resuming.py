"""Breaks of every kind, against a foreign peer: the caller sees latency, or one typed error."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import grpc
import numpy as np
import pytest

from support.sum_peer import Cut, PeerStream, Resume, SumPeer, refusal
from support.waiting import until
from tidegate.client import AsyncClient, CallTimedOut, FleetError, RecoveryOptions, RemoteError, StreamLost
from tidegate.errors import Displaced, InternalError, InvalidRequest, SessionLost, StaleAttempt
from tidegate.v1 import stream_pb2 as pb
from tidegate.v1.error_pb2 import Error


def client_of(peer: SumPeer, **options: Any) -> AsyncClient:
    return AsyncClient(
        peer.address, recovery=RecoveryOptions(first_delay_s=0.005, max_delay_s=0.05, **options)
    )


class CutsOnce(SumPeer):
    """Ends its first stream when it gets its second frame, before or after running some of it."""

    def __init__(self, code: grpc.StatusCode, *, runs: int = 0, tells: bool = False) -> None:
        super().__init__()
        self.code = code
        self.runs = runs
        self.tells = tells
        self.falls_back_by = 0

    def resumes_at(self, resume: Resume) -> int:
        have_here = len(self.states[resume.session_id]) - 1
        return max(resume.held_from, min(resume.have, have_here) - self.falls_back_by)

    async def on_frame(self, stream: PeerStream, frame: pb.Frame) -> bool:
        if stream.number > 1 or stream.num_frames < 2:
            return False
        if self.runs:
            result = self.run(stream, frame, self.runs)
            if self.tells:
                await stream.write(pb.StreamResponse(result=result))
        raise Cut(self.code)


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


FINAL = [
    (refusal("DATA_LOSS", "SESSION_LOST", next_step=9, durable_step=2), SessionLost),
    (refusal("ABORTED", "DISPLACED", next_step=7), Displaced),
    (refusal("ABORTED", "STALE_ATTEMPT"), StaleAttempt),
]


@pytest.mark.parametrize(("error", "expected"), FINAL, ids=lambda v: getattr(v, "__name__", ""))
async def test_a_refused_resume_is_final_and_harms_no_other(error: Error, expected: type) -> None:
    peer = CutsOnce(grpc.StatusCode.UNAVAILABLE)
    peer.resumes_at = lambda r: error if r.session_id == "a" else r.have  # type: ignore[method-assign]

    async with peer, client_of(peer) as client, client.session("sum", "b") as b:
        with suppress(SessionLost):
            async with client.session("sum", "a") as a:
                await a.step(1)
                for _ in range(2):
                    with pytest.raises(expected) as caught:
                        await a.step(1)
                if isinstance(caught.value, SessionLost):
                    assert (caught.value.next_step, caught.value.durable_step) == (9, 2)
        assert [float(await b.step(1)) for _ in range(2)] == [1, 2]

    assert [r.session_id for r in peer.resumes].count("a") == 1


async def test_a_lost_session_of_a_fleet_leaves_the_others_alone() -> None:
    peer = CutsOnce(grpc.StatusCode.UNAVAILABLE)
    lost = refusal("DATA_LOSS", "SESSION_LOST")
    peer.resumes_at = lambda r: lost if r.session_id == "b" else 0  # type: ignore[method-assign]

    async with peer, client_of(peer) as client, client.fleet("sum", ["a", "b", "c"]) as fleet:
        await fleet.step([1, 2, 3])
        for expected in ([2, np.nan, 6], [3, np.nan, 9]):
            with pytest.raises(FleetError) as caught:
                await fleet.step([1, 2, 3])
            assert list(caught.value.errors) == ["b"]
            np.testing.assert_array_equal(caught.value.answers, np.float32(expected))


async def test_a_server_that_forgot_everything_is_told_as_a_loss() -> None:
    peer = CutsOnce(grpc.StatusCode.UNAVAILABLE)

    async with peer, client_of(peer) as client, client.session("sum", "s") as session:
        await session.step(1)
        del peer.states["s"]
        with pytest.raises(SessionLost, match="a store in memory; 1 steps were answered") as caught:
            await session.step(2)

        assert (caught.value.next_step, caught.value.durable_step) == (1, 0)


async def test_a_loss_that_nobody_was_told_of_is_told_when_leaving() -> None:
    async with SumPeer() as peer, client_of(peer) as client:
        opened = client.session("sum", "s")
        session = await opened.__aenter__()
        await session.step(1)
        del peer.states["s"]
        await peer.abort_streams()

        with pytest.raises(SessionLost):
            await opened.__aexit__(None, None, None)


async def test_a_notice_of_displacement_is_final() -> None:
    class Displaces(SumPeer):
        async def after_frame(self, stream: PeerStream, frame: pb.Frame) -> None:
            if stream.num_frames == 2:
                reason = pb.NOTICE_REASON_DISPLACED
                handles = [stream.handle_of("s")]
                notice = pb.Notice(reason=reason, handles=handles, next_steps=[2], message="taken over")
                await stream.write(pb.StreamResponse(notice=notice))
                raise Cut

    async with Displaces() as peer, client_of(peer) as client, client.session("sum", "s") as session:
        assert [float(await session.step(1)) for _ in range(2)] == [1, 2]
        for _ in range(2):
            with pytest.raises(Displaced, match="taken over") as caught:
                await session.step(1)

    assert caught.value.next_step == 2
    assert peer.resumes == []


async def test_a_server_that_drains_is_left_for_the_next() -> None:
    class Drains(SumPeer):
        is_draining = False

        async def after_frame(self, stream: PeerStream, frame: pb.Frame) -> None:
            if stream.number == 1 and not self.is_draining:
                self.is_draining = True
                await stream.write(pb.StreamResponse(notice=pb.Notice(reason=pb.NOTICE_REASON_DRAINING)))

        async def on_frame(self, stream: PeerStream, frame: pb.Frame) -> bool:
            assert stream.number > 1 or not self.is_draining, "a frame for a server that drains"
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


async def test_a_resume_where_the_client_did_not_ask_for_one_is_the_servers_fault() -> None:
    peer = CutsOnce(grpc.StatusCode.UNAVAILABLE)
    peer.resumes_at = lambda resume: resume.have + 1  # type: ignore[method-assign]

    async with peer, client_of(peer) as client, client.session("sum", "s") as session:
        await session.step(1)
        peer.states["s"] += [5.0, 6.0]
        with pytest.raises(InternalError, match=r"expected \[0, 1\], got 2"):
            await session.step(1)


async def test_a_status_that_means_a_misunderstanding_is_told_at_once() -> None:
    class Refuses(SumPeer):
        async def on_frame(self, stream: PeerStream, frame: pb.Frame) -> bool:
            raise Cut(grpc.StatusCode.INVALID_ARGUMENT)

    async with Refuses() as peer, client_of(peer) as client, client.session("sum") as session:
        for _ in range(2):
            with pytest.raises(InvalidRequest):
                await session.step(1)

    assert len(peer.frames) == 1


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


async def test_closing_the_client_ends_what_waits() -> None:
    class Mute(SumPeer):
        async def on_frame(self, stream: PeerStream, frame: pb.Frame) -> bool:
            return True

        async def on_open(self, stream: PeerStream, message: pb.Open) -> bool:
            return len(self.opens) > 1

    async with Mute() as peer:
        client = client_of(peer)
        await client.__aenter__()
        opened, never_opened = client.session("sum"), client.session("sum")
        session = await opened.__aenter__()
        call = asyncio.create_task(session.step(1))
        opening = asyncio.create_task(never_opened.__aenter__())
        await until(lambda: len(peer.frames) == 1 and len(peer.opens) == 2)

        await client.__aexit__(None, None, None)

        for task in (call, opening):
            with pytest.raises(StreamLost, match="the client was closed"):
                await task


async def test_a_server_of_another_kind_is_told_once_and_not_called_again() -> None:
    class Other(SumPeer):
        async def on_frame(self, stream: PeerStream, frame: pb.Frame) -> bool:
            raise Cut(grpc.StatusCode.UNAUTHENTICATED)

    async with Other() as peer, client_of(peer) as client, client.session("sum") as session:
        with pytest.raises(RemoteError):
            await session.step(1)
        await asyncio.sleep(0.2)  # Longer than any pause before another attempt.
        assert len(peer.streams) == 1

        async with client.session("sum"):
            assert len(peer.streams) == 2
