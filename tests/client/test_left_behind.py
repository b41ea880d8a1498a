"""Calls whose callers left before the answer, and whose outcome came before anybody asked again."""

from __future__ import annotations

import asyncio

import pytest

from support.peer_parts import PeerStream, refusal
from support.quick_client import client_of
from support.sum_peer import SumPeer
from tidegate.client import AsyncClient, CallTimedOut
from tidegate.errors import InvalidRequest
from tidegate.v1 import stream_pb2 as pb


class RefusesNegative(SumPeer):
    """Takes no number below zero."""

    async def on_frame(self, stream: PeerStream, frame: pb.Frame) -> bool:
        if not frame.inputs[0][3] & 0x80:
            return False
        await stream.write(self.refuse_rows(frame, refusal("INVALID_ARGUMENT", "INVALID_REQUEST")))
        return True


async def cancelled(call: asyncio.Task[object]) -> bool:
    """Cancel a call; whether it had no answer yet."""
    call.cancel()
    await asyncio.wait([call])
    return call.cancelled()


async def outcomes_are_here(client: AsyncClient) -> None:
    """A stream answers in order, so what was sent before this has its outcome after it."""
    async with client.session("sum") as other:
        await other.step(0)


async def test_every_answer_is_returned_once_whenever_its_caller_is_cancelled() -> None:
    answers = []

    async with SumPeer() as peer, client_of(peer) as client, client.session("sum") as session:
        for turns in range(1, 101):
            call = asyncio.create_task(session.step(1))
            for _ in range(turns):
                await asyncio.sleep(0)
            if not await cancelled(call):
                answers.append(float(call.result()))
            if turns % 2:
                await outcomes_are_here(client)
            settled = await session.settle()
            if settled is not None:
                answers.append(float(settled["y"][0]))
            assert await session.settle() is None

    assert answers == list(range(1, 101))


@pytest.mark.parametrize("how", ["the next call", "settle", "leaving"])
async def test_a_refusal_that_nobody_was_told_of_is_told_once(how: str) -> None:
    was_told_when_leaving = False

    async with RefusesNegative() as peer, client_of(peer) as client:
        try:
            async with client.session("sum") as session:
                call = asyncio.create_task(session.step(-1))
                await asyncio.sleep(0)  # Let it start: it submits before it waits for the first time.
                assert await cancelled(call)
                await outcomes_are_here(client)
                if how != "leaving":
                    with pytest.raises(InvalidRequest):
                        await (session.step(1) if how == "the next call" else session.settle())
                    assert float(await session.step(2)) == 2
        except InvalidRequest:
            was_told_when_leaving = True

    assert was_told_when_leaving == (how == "leaving")


async def test_a_refusal_that_a_retry_told_is_not_told_again() -> None:
    async with RefusesNegative() as peer, client_of(peer) as client, client.session("sum") as session:
        with pytest.raises(CallTimedOut) as caught:
            await session.step(-1, timeout_s=0)
        await outcomes_are_here(client)
        with pytest.raises(InvalidRequest):
            await caught.value.retry()

        assert await session.settle() is None
        assert float(await session.step(2)) == 2
