"""Waiting until a server has stored what it was told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from support.metrics import value
from support.raw_stream import RawStream
from support.server import ServerProcess
from support.waiting import eventually


async def until_durable(stream: RawStream, num_sessions: int, step: int) -> None:
    """Wait until the server has reported this step, or a later one, as durable for so many sessions."""
    told: dict[int, int] = {}
    while sum(durable >= step for durable in told.values()) < num_sessions:
        durable = (await stream.receive(lambda m: m.HasField("durable"))).durable
        told |= dict(zip(durable.handles, durable.steps, strict=True))


async def stored_after(server: ServerProcess, act: Callable[[], Awaitable[object]], count: int) -> None:
    """Change so many sessions, and wait until so many more states are stored."""
    stored = value(server, "tidegate_checkpoints_total")
    await act()

    async def are_stored() -> bool:
        return value(server, "tidegate_checkpoints_total") >= stored + count

    await eventually(are_stored)
