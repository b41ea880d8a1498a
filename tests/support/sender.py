"""Sends frames without waiting for answers, as a client does that is in a hurry, or does not care."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np

from support.raw_stream import Floats, RawStream, Reply, frame
from tidegate.v1.error_pb2 import Error


@dataclass
class Sender:
    """Sends frames of one stream, all with the same rows, as fast as the server takes them.

    Attributes:
        stream: Where to.
        handles: The rows.
        x: Inputs of every row, [steps, features].
        num_steps: Steps of each frame.
        fields: Further fields of each frame.
    """

    stream: RawStream
    handles: list[int]
    x: Floats
    num_steps: int
    fields: Mapping[str, object] = field(default_factory=dict)

    @asynccontextmanager
    async def sending(self, first_step: int = 0) -> AsyncIterator[list[int]]:
        """Send in the background what lies from a step on; the numbers of the frames."""
        first_steps = range(first_step, len(self.x), self.num_steps)
        frame_ids = [self.stream.new_id() for _ in first_steps]
        task = asyncio.create_task(self._send(frame_ids, first_steps))
        try:
            yield frame_ids
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def _send(self, frame_ids: list[int], first_steps: range) -> None:
        for frame_id, first_step in zip(frame_ids, first_steps, strict=True):
            x = np.broadcast_to(
                self.x[first_step : first_step + self.num_steps],
                (len(self.handles), self.num_steps, self.x.shape[1]),
            )
            at = [first_step] * len(self.handles)
            await self.stream.send(frame=frame(frame_id, self.handles, at, x, **self.fields))

    async def reply(self, frame_id: int) -> Floats:
        """The answers to a frame that must not be refused, [rows, steps, elements]."""
        reply = await self.stream.reply(frame_id, len(self.handles), self.num_steps)
        assert not reply.errors, reply.errors
        return reply.output()

    async def outcome(self, frame_id: int) -> Reply | Error:
        """What became of a frame: all its results, or why it was refused as a whole."""
        return await self.stream.outcome(frame_id, len(self.handles), self.num_steps)
