"""A request of a sequence on its way through the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tidegate.errors import TidegateError
from tidegate.session.sequences.request import Outcome, SequenceRequest
from tidegate.telemetry.incidents import incident
from tidegate.tensor import Array


class Row:
    """The steps that a request brings to a sequence in memory.

    Attributes:
        request: The request.
        slot: Of the sequence.
        number: What the store calls the sequence: tells whether it still has the slot.
        inputs: One array per model input, `[1, T, step_shape...]`.
        num_steps: T.
        deadline_s: Monotonic time by which its first step must have begun; None for no limit.
        digest: Of the inputs, once it is accepted, if the request has an id.
        arrival: Counts the rows of the model version; 0 until it is gathered.
        first_step: Number of its first step, once it is accepted.
        pieces: Answers to its first steps, while others are to come.
        state: What the sequence carried before it, per state pair, while it may fail half-way.
    """

    __slots__ = (
        "_ended", "_repeats", "arrival", "deadline_s", "digest", "first_step", "inputs", "num_steps", "number",
        "pieces", "request", "slot", "state",
    )  # fmt: skip

    def __init__(self, request: SequenceRequest, slot: int, number: int, inputs: list[Array]) -> None:
        self.request = request
        self.slot = slot
        self.number = number
        self.inputs = inputs
        self.num_steps: int = inputs[0].shape[1]
        self.deadline_s = request.deadline_s
        self.digest = b""
        self.arrival = 0
        self.first_step = 0
        self.pieces: list[list[Array]] = []
        self.state: Sequence[Array] | None = None
        self._repeats: list[Row] = []
        self._ended: asyncio.Future[Outcome] | None = None

    @property
    def next_step(self) -> int:
        """Where it leaves the sequence, once it is accepted."""
        return self.first_step + self.num_steps

    def repeated_by(self, row: Row) -> None:
        """The same request has come again: it gets the same outcome."""
        self._repeats.append(row)

    def end(self, outcome: Outcome) -> None:
        """Tell all who wait what became of it."""
        tell(self.request, outcome)
        for row in self._repeats:
            row.end(outcome)
        if self._ended is not None:
            self._ended.set_result(outcome)

    async def ended(self) -> Outcome:
        """Wait for what becomes of it; to be asked before its end."""
        if self._ended is None:
            self._ended = asyncio.get_running_loop().create_future()
        return await asyncio.shield(self._ended)


def tell(request: SequenceRequest, outcome: Outcome) -> None:
    """Answer a request; a receiver that fails harms no other request."""
    try:
        request.reply(outcome)
    except Exception as error:
        incident(error)


def as_refusal(error: Exception) -> TidegateError:
    """What a client is told of an exception."""
    return error.with_traceback(None) if isinstance(error, TidegateError) else incident(error)
