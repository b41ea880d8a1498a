"""Messages leave in order and one at a time; what stops them is told once."""

from __future__ import annotations

import asyncio
import gc

import pytest
from grpc import aio

from tidegate.rpc.outbox import Outbox, Unsent
from tidegate.v1 import stream_pb2


class Wire:
    """Takes messages when it is let, as HTTP/2's flow control does."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.written: list[int] = []
        self.gates: list[asyncio.Future[None]] = []
        self.outbox = Outbox(self._write, lambda unsent: self.written.append(unsent.num_bytes))

    async def _write(self, response: stream_pb2.StreamResponse) -> None:
        self.begun.append(response.result.frame_id)
        self.gates.append(asyncio.get_running_loop().create_future())
        await self.gates[-1]

    def put(self, number: int) -> None:
        response = stream_pb2.StreamResponse(result=stream_pb2.FrameResult(frame_id=number))
        self.outbox.put(Unsent(response, number, completes=True))


async def a_round() -> None:
    """Let everything run that is due, and what follows from it."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_messages_are_written_in_order_and_one_at_a_time() -> None:
    wire = Wire()
    for number in (1, 2, 3):
        wire.put(number)

    states = []
    for number in range(3):
        await a_round()
        states.append((list(wire.begun), list(wire.written), len(wire.outbox)))
        wire.gates[number].set_result(None)
    await a_round()

    assert states == [([1], [], 2), ([1, 2], [1], 1), ([1, 2, 3], [1, 2], 0)]
    assert wire.written == [1, 2, 3]
    assert wire.outbox.is_idle


async def test_a_message_after_a_pause_is_written_too() -> None:
    wire = Wire()
    wire.put(1)
    await a_round()
    wire.gates[0].set_result(None)
    await a_round()

    wire.put(2)
    await a_round()

    assert wire.begun == [1, 2]
    assert not wire.outbox.is_idle


async def test_a_hang_up_ends_the_writing_without_an_error() -> None:
    wire = Wire()
    wire.put(1)
    wire.put(2)
    await a_round()

    wire.gates[0].set_exception(aio.InternalError("the call is over"))
    await a_round()

    assert wire.outbox.lost.result() is None
    assert (wire.begun, wire.written, wire.outbox.is_idle) == ([1], [], True)


async def test_any_other_failure_is_told() -> None:
    wire = Wire()
    wire.put(1)
    await a_round()

    wire.gates[0].set_exception(RuntimeError("broken"))
    await a_round()

    with pytest.raises(RuntimeError, match="broken"):
        wire.outbox.lost.result()


async def test_what_is_put_into_a_closed_outbox_goes_nowhere() -> None:
    wire = Wire()
    wire.outbox.close()

    wire.put(1)
    await a_round()

    assert wire.begun == []
    assert wire.outbox.is_idle


async def test_a_write_that_fails_behind_the_close_is_no_error_of_ours(
    caplog: pytest.LogCaptureFixture,
) -> None:
    wire = Wire()
    wire.put(1)
    await a_round()
    wire.outbox.close()

    wire.gates.pop().set_exception(RuntimeError("the call has ended"))
    await a_round()
    gc.collect()

    assert caplog.records == []
