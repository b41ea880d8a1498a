"""Work that must not stop half-way because whoever asked for it has gone."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from tidegate.errors import TidegateError
from tidegate.telemetry.incidents import incident

Result = TypeVar("Result")

_under_way: set[asyncio.Task[Any]] = set()
"""Keeps tasks that nobody waits for any more from being collected."""


def begin(work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
    """Start work that nobody need wait for."""
    task = asyncio.create_task(work)
    _under_way.add(task)
    task.add_done_callback(_under_way.discard)
    return task


async def to_the_end(work: Coroutine[Any, Any, Result]) -> Result:
    """Wait for work; if the waiting is cancelled, the work goes on."""
    task = begin(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(_hear_out)
        raise


def _hear_out(task: asyncio.Task[Any]) -> None:
    """Take what work has ended with that nobody waits for: a refusal is nobody's loss, all else is ours."""
    error = None if task.cancelled() else task.exception()
    if isinstance(error, Exception) and not isinstance(error, TidegateError):
        incident(error)
