"""A client that minds its own business while another misbehaves."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import numpy as np

from support.ids import new_id
from support.raw_stream import Floats, RawStream, Reply, connect
from support.server import ServerProcess


class Neighbour:
    """Steps one session over its own connection, one step after the other; use it as `async with`.

    Attributes:
        peak_bytes: The most memory that the server held after any of the steps.
    """

    def __init__(self, server: ServerProcess, model: str, x: Floats) -> None:
        """Prepare.

        Args:
            server: Whose answers and whose memory are looked at.
            model: With one float32 input.
            x: More inputs than there will be time for, [steps, features].
        """
        self.peak_bytes = 0
        self._server = server
        self._model = model
        self._x = x
        self._answers: list[Floats] = []
        self._stopping = False
        self._stepped = asyncio.Event()
        self._exits = AsyncExitStack()

    async def __aenter__(self) -> Neighbour:
        channel = await self._exits.enter_async_context(connect(self._server.address))
        stream = await self._exits.enter_async_context(RawStream(channel))
        handles = await stream.handles(self._model, new_id("neighbour"))
        self._task = asyncio.create_task(self._step_on(stream, handles))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping = True
        try:
            await self._task
        finally:
            await self._exits.aclose()

    @property
    def answers(self) -> Floats:
        """What it was answered, [steps, elements]."""
        return np.stack(self._answers)

    async def makes(self, num_steps: int) -> None:
        """Wait until it has made so many more steps.

        Raises:
            Exception: What ended its stepping.
        """
        target = len(self._answers) + num_steps
        while len(self._answers) < target:
            if self._task.done():
                self._task.result()
            self._stepped.clear()
            await self._stepped.wait()

    async def _step_on(self, stream: RawStream, handles: list[int]) -> None:
        try:
            for step, x_t in enumerate(self._x):
                if self._stopping:
                    await stream.close(handles)
                    return
                reply = await self._step(stream, handles, step, x_t)
                self._answers.append(reply.output()[0, 0])
                self.peak_bytes = max(self.peak_bytes, self._server.rss_bytes())
                self._stepped.set()
            raise AssertionError(f"the neighbour has used up its {len(self._x)} inputs")
        finally:
            self._stepped.set()

    async def _step(self, stream: RawStream, handles: list[int], step: int, x_t: Floats) -> Reply:
        """One step, sent again for as long as the server, being full, asks for it."""
        while True:
            outcome = await stream.outcome(await stream.submit(handles, [step], x_t[None, None]), 1, 1)
            if isinstance(outcome, Reply):
                return outcome
            assert outcome.reason == "TOO_MANY_REQUESTS", outcome
            await asyncio.sleep(outcome.retry_after.ToTimedelta().total_seconds())
