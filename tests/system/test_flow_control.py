"""Clients that send and never read: the server stops reading them before it holds much."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from grpc import aio

from support.ids import new_id
from support.metrics import becomes
from support.raw_stream import RawStream, connect, frame
from support.server import ServerProcess
from tidegate.v1 import stream_pb2 as pb
from tidegate.v1.model_pb2 import ModelVersion

STALL_S = 2.0
"""A write that takes this long is held back; one that is not takes well under a millisecond."""

FLOOD = 1_000
"""Messages whose answers are 150 MB in all, where the buffers between server and client hold a few MB."""

ROWS = 1_000
"""Of a message, each of which is refused with 150 bytes."""


def unknown_handles(number: int) -> pb.StreamRequest:
    x = np.zeros((ROWS, 1, 3))
    return pb.StreamRequest(frame=frame(number + 1, [12345] * ROWS, [0] * ROWS, x))


def unknown_ids(number: int) -> pb.StreamRequest:
    ids = [f"unknown-{i}" for i in range(ROWS)]
    model = ModelVersion(name="lstm")
    opening = pb.Open(open_id=number + 1, model=model, mode="OPEN_MODE_RESUME", session_ids=ids)
    return pb.StreamRequest(open=opening)


@pytest.mark.parametrize("refused", [unknown_handles, unknown_ids])
async def test_refusals_that_nobody_reads_hold_their_sender_back(
    channel: aio.Channel, refused: object
) -> None:
    assert callable(refused)
    async with RawStream(channel) as flood, RawStream(channel) as neighbour:
        sent = 0
        write = asyncio.ensure_future(flood.send_raw(refused(0).SerializeToString()))
        while (await asyncio.wait({write}, timeout=STALL_S))[0]:
            sent += 1
            assert sent < FLOOD, "the server reads on while nobody takes its answers"
            write = asyncio.ensure_future(flood.send_raw(refused(sent).SerializeToString()))
        handles = await neighbour.handles("lstm", new_id())
        reply = await neighbour.step(handles, [0], np.zeros((1, 1, 3)))
        answers = [await flood.receive() for _ in range(sent + 1)]
        await write

    assert reply.errors == {}
    assert [a.result.frame_id + a.opened.open_id for a in answers] == list(range(1, sent + 2))
    assert {len(a.result.errors) + len(a.opened.errors) for a in answers} == {ROWS}


async def test_an_open_counts_among_the_bytes_that_wait(small_models: Path, tmp_path: Path) -> None:
    with ServerProcess(small_models, tmp_path, "--max-pending-bytes=100000") as server:
        async with connect(server.address) as channel, RawStream(channel) as stream:
            await stream.send(open=unknown_ids(0).open)
            refused = (await stream.receive()).error
            handles = await stream.handles("lstm", *[new_id() for _ in range(50)])
            reply = await stream.step(handles, [0] * 50, np.zeros((50, 1, 3)))

        assert (refused.open_id, refused.error.reason) == (1, "TOO_MANY_REQUESTS")
        assert refused.error.HasField("retry_after")
        assert not reply.errors
        await becomes(server, 0, "tidegate_pending_bytes")
