"""Waiting until steps are durable."""

from __future__ import annotations

import asyncio
from functools import partial

from tidegate.client.errors import CallTimedOut
from tidegate.client.group import SessionGroup


async def flush(group: SessionGroup, timeout_s: float | None) -> None:
    """Wait until every step so far is durable; with explicit acks, every step that was acknowledged.

    What was returned to the application is acknowledged first, unless it does that itself: a step
    becomes durable only once nobody can ask for its answer again.

    Raises:
        CallTimedOut: Not so in time.
        InvalidRequest: The sessions were left meanwhile; nobody hears of their durable steps any more.
        TidegateError: A session is lost.
    """
    try:
        async with asyncio.timeout(timeout_s):
            if group.pending is not None:
                await asyncio.wait([group.pending.done])
            group.keep_returned()
            group.tell_acks()
            wanted = group.acks.kept.copy()
            while (group.roster.live & (group.roster.durable_steps < wanted)).any():
                group.check_open()
                group.news.clear()
                await group.news.wait()
    except TimeoutError:
        steps = group.roster.durable_steps[group.roster.live]
        if steps.size:
            text = (
                f"step {steps.min()}: not durable within {timeout_s} s; it is still held, and nothing is lost"
            )
            again = partial(flush, group)
            raise CallTimedOut(text, taken=True, step=int(steps.min()), again=again) from None
    group.raise_errors(group.roster.lost)
