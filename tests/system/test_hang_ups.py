"""Clients that hang up while the server cannot get its answers to them: their business, no error of ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support.ids import new_id
from support.metrics import becomes, value
from support.raw_stream import RawStream, connect
from support.server import ServerProcess
from support.waiting import eventually

ROUNDS = 20
"""The write that waits may fail before or after the stream is known to be lost."""

HISTORY = np.zeros((8, 40_000, 3))
"""Of eight sessions, with 20 MB of answers."""


@pytest.mark.slow
async def test_a_hang_up_while_answers_wait_is_no_internal_error(small_models: Path, tmp_path: Path) -> None:
    with ServerProcess(small_models, tmp_path) as server:
        for _ in range(ROUNDS):
            async with connect(server.address) as channel, RawStream(channel) as stream:
                handles = await stream.handles("lstm", *[new_id() for _ in HISTORY])
                await stream.submit(handles, [0] * len(handles), HISTORY)
                await until_stalled(server)
            await becomes(server, 0, "tidegate_pending_bytes")

        assert value(server, "tidegate_errors_total", code="INTERNAL") == 0, server.log()


async def until_stalled(server: ServerProcess) -> None:
    """Until steps have run, and no more do."""
    before = value(server, "tidegate_steps_total")
    last = before

    async def stands_still() -> bool:
        nonlocal last
        earlier, last = last, value(server, "tidegate_steps_total")
        return before < earlier == last

    await eventually(stands_still)
