"""Clients of sequences that keep the books a connection keeps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator

import numpy as np

from support.session_clients import series
from tidegate.engine.frame import Source
from tidegate.model.manifest import Manifest
from tidegate.session.manager import SessionManager
from tidegate.session.sequences.key import SequenceKey
from tidegate.session.sequences.request import Outcome, SequenceAnswer, SequenceRequest
from tidegate.tensor import Array

LONG_AGO_S = -1.0
"""A time limit that has passed."""


class Reply:
    """What comes back for one request: once."""

    def __init__(self) -> None:
        self._came: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    def take(self, outcome: Outcome) -> None:
        assert not self._came.done(), "a request was answered twice"
        self._came.set_result(outcome)

    @property
    def has_come(self) -> bool:
        return self._came.done()

    async def outcome(self) -> Outcome:
        async with asyncio.timeout(20.0):
            return await asyncio.shield(self._came)

    async def answer(self) -> SequenceAnswer:
        outcome = await self.outcome()
        if not isinstance(outcome, SequenceAnswer):
            raise outcome
        return outcome

    async def _values(self) -> list[float]:
        answer = await self.answer()
        return [float(v) for v in answer.outputs[0][0, :, 0]]

    def __await__(self) -> Generator[object, None, list[float]]:
        """The first element of each step's answer, or the error."""
        return self._values().__await__()


class SequenceClient:
    """One stream of requests. If nothing else is said they are for counters: each value is one step."""

    def __init__(self, manager: SessionManager) -> None:
        self._manager = manager
        self.source = Source()

    def step(
        self,
        sequence_id: int | str,
        *values: float,
        start: bool = False,
        end: bool = False,
        request_id: str = "",
        step: int | None = None,
        model: str = "counter",
        version: str = "",
        time_limit_s: float | None = None,
        inputs: list[Array] | None = None,
    ) -> Reply:
        """Send the next steps of a sequence."""
        reply = Reply()

        def read(_manifest: Manifest) -> list[Array]:
            return [series(list(values))] if inputs is None else inputs

        request = SequenceRequest(
            SequenceKey(model, sequence_id),
            version,
            request_id,
            start,
            end,
            step,
            time_limit_s,
            time.monotonic(),
            read,
            self.source,
            reply.take,
        )
        self._manager.sequences.submit(request)
        return reply


def indices(*values: int) -> list[Array]:
    """Inputs of one row of `table`, whose run fails at 9 or more."""
    return [np.array(values, np.int64).reshape(1, -1, 1)]
