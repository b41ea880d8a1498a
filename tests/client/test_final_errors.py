"""What a broken connection cannot mend, against a foreign peer: one typed error, and no other session harmed."""

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
from tidegate.client import FleetError, RemoteError, StreamLost
from tidegate.errors import Displaced, InternalError, InvalidRequest, SessionLost, StaleAttempt
from tidegate.v1 import stream_pb2 as pb
from tidegate.v1.error_pb2 import Error

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


async def test_a_session_that_is_displaced_amid_a_call_is_told_though_the_stream_breaks() -> None:
    class Displaces(SumPeer):
        async def on_frame(self, stream: PeerStream, frame: pb.Frame) -> bool:
            notice = pb.Notice(reason=pb.NOTICE_REASON_DISPLACED, handles=frame.handles)
            await stream.write(pb.StreamResponse(notice=notice))
            raise Cut

    async with Displaces() as peer, client_of(peer) as client, client.session("sum") as session:
        with pytest.raises(Displaced):
            await session.step(1, timeout_s=10)


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
