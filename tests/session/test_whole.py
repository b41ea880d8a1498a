"""Work goes on without whoever asked for it, and its end is heard."""

from __future__ import annotations

import asyncio
import gc

import pytest

from tidegate.errors import SessionNotFound
from tidegate.session.whole import to_the_end


async def left_alone(error: Exception) -> None:
    """Let work fail after whoever waited for it has gone."""
    may_end = asyncio.Event()

    async def work() -> None:
        await may_end.wait()
        raise error

    waiting = asyncio.create_task(to_the_end(work()))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    may_end.set()
    for _ in range(3):
        await asyncio.sleep(0)
    gc.collect()


@pytest.mark.parametrize(
    ("error", "messages"),
    [(SessionNotFound("no session 'a'"), []), (KeyError("a mistake of ours"), ["unexpected exception"])],
)
async def test_only_a_mistake_of_ours_is_logged_when_nobody_waits(
    caplog: pytest.LogCaptureFixture, error: Exception, messages: list[str]
) -> None:
    await left_alone(error)

    assert [record.message for record in caplog.records] == messages


async def test_who_waits_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        raise SessionNotFound("no session 'a'")

    with pytest.raises(SessionNotFound):
        await to_the_end(work())

    assert caplog.records == []
