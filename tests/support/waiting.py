"""Waiting for what others do without telling."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

EVENTUALLY_S = 20.0
INTERVAL_S = 0.02


async def eventually(check: Callable[[], Awaitable[bool]], within_s: float = EVENTUALLY_S) -> float:
    """Ask again until the answer is yes.

    Returns:
        Seconds that it took.

    Raises:
        AssertionError: It never was.
    """
    start_s = time.monotonic()
    while not await check():
        assert time.monotonic() - start_s < within_s, f"not so within {within_s} s"
        await asyncio.sleep(INTERVAL_S)
    return time.monotonic() - start_s


async def until(check: Callable[[], object], within_s: float = EVENTUALLY_S) -> None:
    """Let the other tasks of this event loop run until something is so.

    Raises:
        AssertionError: It never was.
    """
    deadline_s = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < deadline_s, f"not so within {within_s} s"
        await asyncio.sleep(0)
