"""Many sessions of one model, stepped together: one frame carries them all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tidegate.client.calling import Caller
from tidegate.client.codec import Inputs, encode_inputs
from tidegate.client.session import Outputs, selection_of
from tidegate.client.signature import ModelInfo
from tidegate.errors import InvalidRequest
from tidegate.protocol.outputs import OutputSelection
from tidegate.protocol.tracking import StepCall
from tidegate.tensor import Array, IntArray


class Fleet:
    """n sessions in the order of their ids; made by `AsyncClient.fleet`.

    Every array has a row per session. When some sessions are refused (a NaN, a session that another
    stream took over), the others go on: the call raises `FleetError`, which holds the error of each
    refused session by id, and `answers`: what the call would have returned, with NaN in their rows.
    Otherwise the methods raise what those of `Session` raise.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._group = caller.group
        self._model = caller.model

    def __len__(self) -> int:
        return len(self._group.roster)

    @property
    def session_ids(self) -> Sequence[str]:
        """The ids, in the order of rows."""
        return self._group.roster.ids

    @property
    def model(self) -> ModelInfo:
        """The version that all sessions are pinned to."""
        return self._model

    @property
    def next_steps(self) -> IntArray:
        """Number of each session's next step, shape (n,), int64; those under way count as applied."""
        return self._group.roster.next_steps.copy()

    @property
    def durable_steps(self) -> IntArray:
        """Steps below these numbers survive the death of the server, shape (n,), int64."""
        return self._group.roster.shown_durable_steps

    @property
    def is_attached(self) -> bool:
        """As `Session.is_attached`, for all that are not lost."""
        return self._group.is_caught_up.is_set()

    async def step(self, values: Inputs, *, timeout_s: float | None = None) -> Array:
        """Feed one step to every session.

        Args:
            values: The model's input, shape (n, step_shape...); (n,) where a step is one element.
            timeout_s: Longest wait for all answers, in seconds; None waits.

        Returns:
            The model's first output, shape (n, step_shape...).
        """
        inputs = encode_inputs(self._model.inputs, values, {"n": len(self)})
        rows = [value[:, np.newaxis] for value in inputs]
        return await self._caller.call(rows, OutputSelection.ALL, timeout_s, self._one)

    async def steps(self, values: Inputs, *, timeout_s: float | None = None) -> Array:
        """Feed several steps to every session.

        Args:
            values: The model's input, shape (n, T, step_shape...); (n, T) where a step is one element.
            timeout_s: Longest wait for all answers, in seconds; None waits.

        Returns:
            The model's first output, shape (n, T, step_shape...).
        """
        return await self._caller.call(self._encode(values), OutputSelection.ALL, timeout_s, self._first)

    async def run(
        self, inputs: Inputs, *, outputs: Outputs = "all", timeout_s: float | None = None
    ) -> dict[str, Array]:
        """Feed several steps to a model with any number of inputs and outputs.

        Args:
            inputs: By name, shape (n, T, step_shape...) each.
            outputs: Which answers come back: "all", "last" (of the last step) or "none".
            timeout_s: Longest wait for all answers, in seconds; None waits.

        Returns:
            Every output by name, shape (n, T, step_shape...); (n, 1, ...) for "last", (n, 0, ...) for
            "none".
        """
        rows = self._encode(inputs)
        return await self._caller.call(rows, selection_of(outputs), timeout_s, self._by_name)

    async def settle(self, *, timeout_s: float | None = None) -> dict[str, Array] | None:
        """Wait for the call that timed out or was cancelled, and take its answers.

        Returns:
            As `run`; None when there is no such call.
        """
        return await self._caller.settle(timeout_s, self._by_name)

    def ack(self, steps: Sequence[int] | IntArray) -> None:
        """Say that the application has kept the answers before these steps, as `Session.ack` does.

        Args:
            steps: One per session, shape (n,).
        """
        kept = np.asarray(steps, np.int64)
        if kept.shape != (len(self),):
            raise InvalidRequest(f"steps: expected {len(self)}, one per session, got shape {kept.shape}")
        self._group.acknowledge(kept)

    async def flush(self, *, timeout_s: float | None = None) -> None:
        """Wait until every step of every session survives the death of the server, as `Session.flush` does.

        Args:
            timeout_s: Longest wait, in seconds; None waits.

        Raises:
            CallTimedOut: Not so in time; nothing is lost by that.
            FleetError: Sessions are lost.
        """
        await self._caller.flush(timeout_s)

    async def end(self) -> None:
        """End all sessions for good: the server deletes their states, and the ids are free again."""
        await self._caller.end()

    def _encode(self, values: Inputs) -> list[Array]:
        return encode_inputs(self._model.inputs, values, {"n": len(self), "T": None})

    def _one(self, account: StepCall) -> Array:
        answers: Array = account.outputs[0][:, 0]
        self._group.raise_errors(account.errors, answers)
        return answers

    def _first(self, account: StepCall) -> Array:
        self._group.raise_errors(account.errors, account.outputs[0])
        return account.outputs[0]

    def _by_name(self, account: StepCall) -> dict[str, Array]:
        names = [spec.name for spec in self._model.outputs]
        answers = dict(zip(names, account.outputs, strict=True))
        self._group.raise_errors(account.errors, answers)
        return answers
