"""One session, as an application holds it: numpy in, numpy out, one step or many at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from tidegate.client.codec import encode_inputs
from tidegate.client.group import SessionGroup
from tidegate.client.signature import ModelInfo
from tidegate.errors import InvalidRequest
from tidegate.protocol.outputs import OutputSelection
from tidegate.protocol.tracking import StepCall
from tidegate.tensor import Array

Inputs = ArrayLike | Mapping[str, ArrayLike]
"""A value per model input by name; a bare value for a model with one input."""

Outputs = Literal["all", "last", "none"]
"""Which answers come back: of every step, of the last step, none."""


class Session:
    """A series whose state the server keeps; made by `AsyncClient.session`.

    Calls run one after another, in the order they were made. Every method that steps raises:

    * `InvalidRequest`: wrong type or shape, or a value that the model does not take; nothing was applied.
    * `CallTimedOut`: no answer within `timeout_s`. The input keeps its step number: do not send it
      again. The next call waits for it first; `settle()` returns its answer.
    * `StreamLost`: the connection broke; its `unknown` says for which steps.
    * `Displaced`, `SessionLost`, `SessionNotFound`: the session is no longer this stream's.
    * `CapacityError`: a limit of the server; see its `retry_after_s`.
    """

    def __init__(self, group: SessionGroup, model: ModelInfo) -> None:
        self._group = group
        self._model = model

    @property
    def session_id(self) -> str:
        """The id by which any client may resume the session."""
        return self._group.ids[0]

    @property
    def model(self) -> ModelInfo:
        """The version that the session is pinned to."""
        return self._model

    @property
    def next_step(self) -> int:
        """Number of the next step; also the number of steps so far, those under way included."""
        return int(self._group.next_steps[0])

    @property
    def durable_step(self) -> int:
        """Steps below this number survive the death of the server; stays 0 with a store in memory."""
        return int(self._group.durable_steps[0])

    async def step(self, x: Inputs, *, timeout_s: float | None = None) -> Array:
        """Feed one step.

        Args:
            x: The model's input, shape `step_shape`; a plain number where that is one element.
            timeout_s: Longest wait for the answer, in seconds; None waits.

        Returns:
            The model's first output, its `step_shape`.
        """
        inputs = encode_inputs(self._model.inputs, x, {})
        account = await self._call([value[np.newaxis, np.newaxis] for value in inputs], "all", timeout_s)
        answer: Array = account.outputs[0][0, 0]
        return answer

    async def steps(self, x: Inputs, *, timeout_s: float | None = None) -> Array:
        """Feed several steps; as many frames leave as the server's limits ask for.

        Args:
            x: The model's input, shape (T, step_shape...); (T,) where a step is one element.
            timeout_s: Longest wait for all answers, in seconds; None waits.

        Returns:
            The model's first output, shape (T, step_shape...).
        """
        return next(iter((await self.run(x, timeout_s=timeout_s)).values()))

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
        arrays = encode_inputs(self._model.inputs, inputs, {"T": None})
        return self._by_name(await self._call([value[np.newaxis] for value in arrays], outputs, timeout_s))

    async def settle(self, *, timeout_s: float | None = None) -> dict[str, Array] | None:
        """Wait for the call that timed out or was cancelled, and take its answer.

        Returns:
            As `run`; None when there is no such call.
        """
        account = await self._group.settle(timeout_s)
        if account is None:
            return None
        self._group.raise_errors(account.errors)
        return self._by_name(account)

    async def end(self) -> None:
        """End the session for good: the server deletes its state, and its id is free again.

        Leaving the `async with` block instead leaves it to be resumed.
        """
        await self._group.leave("end")

    async def _call(self, inputs: list[Array], outputs: Outputs, timeout_s: float | None) -> StepCall:
        account = await self._group.call(self._model, inputs, selection_of(outputs), timeout_s)
        self._group.raise_errors(account.errors)
        return account

    def _by_name(self, account: StepCall) -> dict[str, Array]:
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
