"""One session, as an application holds it: numpy in, numpy out, one step or many at a time."""

from __future__ import annotations

from typing import Literal

import numpy as np

from tidegate.client.calling import Caller
from tidegate.client.codec import Inputs, encode_inputs
from tidegate.client.signature import ModelInfo
from tidegate.errors import InvalidRequest
from tidegate.protocol.outputs import OutputSelection
from tidegate.protocol.tracking import StepCall
from tidegate.tensor import Array

Outputs = Literal["all", "last", "none"]
"""Which answers come back: of every step, of the last step, none."""


class Session:
    """A series whose state the server keeps; made by `AsyncClient.session`.

    Calls run one after another, in the order they were made. A lost connection, a server that is
    started again and one that has no room for the moment only make a call take longer: the client
    resumes the session and sends again what the server has lost. Each step changes the state once, and
    its answer is returned once. These errors remain:

    * `InvalidRequest`: wrong type or shape, or a value that the model does not take; nothing was applied.
    * `CallTimedOut`: no answer within `timeout_s`. The input keeps its step number: do not send it
      again. Its `retry()`, or `settle()`, waits for the answer; the next call waits for it first.
    * `Displaced`: another client has resumed the session. Final.
    * `SessionLost`: the state exists nowhere any more, or only at a step whose inputs are not held; says
      how many steps there were and how many are durable. Final.
    * `SessionNotFound`: the session was ended by a call on its id. Final.
    * `BufferFull`: the client may hold no more inputs, because the server's checkpoints have stopped
      (only with `when_full="fail"`), or the call alone has too many.
    * `InternalError`, `RemoteError`: the server failed in a way that trying again does not mend.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._group = caller.group
        self._model = caller.model

    @property
    def session_id(self) -> str:
        """The id by which any client may resume the session."""
        return self._group.roster.ids[0]

    @property
    def model(self) -> ModelInfo:
        """The version that the session is pinned to."""
        return self._model

    @property
    def next_step(self) -> int:
        """Number of the next step; also the number of steps so far, those under way included."""
        return int(self._group.roster.next_steps[0])

    @property
    def durable_step(self) -> int:
        """Steps below this number survive the death of the server; stays 0 with a store in memory."""
        return int(self._group.roster.shown_durable_steps[0])

    @property
    def is_attached(self) -> bool:
        """Whether the server holds the session for this client now; while false, calls wait until it does."""
        return self._group.is_caught_up.is_set()

    async def step(self, x: Inputs, *, timeout_s: float | None = None) -> Array:
        """Feed one step.

        Args:
            x: The model's input, shape `step_shape`; a plain number where that is one element.
            timeout_s: Longest wait for the answer, in seconds; None waits.

        Returns:
            The model's first output, its `step_shape`.
        """
        inputs = encode_inputs(self._model.inputs, x, {})
        rows = [value[np.newaxis, np.newaxis] for value in inputs]
        return await self._caller.call(rows, OutputSelection.ALL, timeout_s, self._one)

    async def steps(self, x: Inputs, *, timeout_s: float | None = None) -> Array:
        """Feed several steps; as many frames leave as the server's limits ask for.

        Args:
            x: The model's input, shape (T, step_shape...); (T,) where a step is one element.
            timeout_s: Longest wait for all answers, in seconds; None waits.

        Returns:
            The model's first output, shape (T, step_shape...).
        """
        rows = self._encode(x)
        return await self._caller.call(rows, OutputSelection.ALL, timeout_s, self._first)

    async def run(
        self, inputs: Inputs, *, outputs: Outputs = "all", timeout_s: float | None = None
    ) -> dict[str, Array]:
        """Feed several steps to a model with any number of inputs and outputs.

        Args:
            inputs: By name, shape (T, step_shape...) each.
            outputs: Which answers come back: "all", "last" (of the last step) or "none".
            timeout_s: Longest wait for all answers, in seconds; None waits.

        Returns:
            Every output by name, shape (T, step_shape...); (1, ...) for "last", (0, ...) for "none".
        """
        rows = self._encode(inputs)
        return await self._caller.call(rows, selection_of(outputs), timeout_s, self._by_name)

    async def settle(self, *, timeout_s: float | None = None) -> dict[str, Array] | None:
        """Wait for the call that timed out or was cancelled, and take its answer.

        Returns:
            As `run`; None when there is no such call.
        """
        return await self._caller.settle(timeout_s, self._by_name)

    def ack(self, step: int) -> None:
        """Say that the application has kept the answers before `step`, for a session with `ack="explicit"`.

        The server may then forget the states before it. Nothing is awaited: it is told with the next
        frame, or shortly.

        Raises:
            InvalidRequest: The step before has not been answered yet.
        """
        self._group.acknowledge(np.array([step], np.int64))

    async def flush(self, *, timeout_s: float | None = None) -> None:
        """Wait until every step so far survives the death of the server.

        What was returned is acknowledged first; a session with `ack="explicit"` waits for the steps that
        it has acknowledged, and should have acknowledged all by then: the server stores the newest state,
        which counts once every answer before it is kept. With a store in memory this returns once that store has the state: it then
        survives a lost connection, not the server (`durable_step` stays 0).

        Args:
            timeout_s: Longest wait, in seconds; None waits.

        Raises:
            CallTimedOut: Not so in time; nothing is lost by that.
            SessionError: The session is lost.
        """
        await self._caller.flush(timeout_s)

    async def end(self) -> None:
        """End the session for good: the server deletes its state, and its id is free again.

        Leaving the `async with` block instead leaves it to be resumed.
        """
        await self._caller.end()

    def _encode(self, values: Inputs) -> list[Array]:
        return [value[np.newaxis] for value in encode_inputs(self._model.inputs, values, {"T": None})]

    def _one(self, account: StepCall) -> Array:
        step: Array = self._first(account)[0]
        return step

    def _first(self, account: StepCall) -> Array:
        self._group.raise_errors(account.errors)
        steps: Array = account.outputs[0][0]
        return steps

    def _by_name(self, account: StepCall) -> dict[str, Array]:
        self._group.raise_errors(account.errors)
        specs = self._model.outputs
        return {spec.name: output[0] for spec, output in zip(specs, account.outputs, strict=True)}


def selection_of(outputs: Outputs) -> OutputSelection:
    """The wire's selection for what a caller spelled.

    Raises:
        InvalidRequest: It is none.
    """
    names = [selection.name.lower() for selection in OutputSelection]
    if outputs not in names:
        raise InvalidRequest(f"outputs: expected one of {', '.join(names)}, got {outputs!r}")
    return OutputSelection[outputs.upper()]
