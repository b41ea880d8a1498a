"""Forecasts from the live states of sessions; no session advances.

A forecast starts from a copy of the state after exactly `next_step` steps; what waits behind it is not in
it. It is run in pieces between the batches of its model, each as long as a slice of a history, so it
holds neither other sessions nor the event loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tidegate.engine.pool import LoadedModel
from tidegate.errors import InvalidRequest, MessageTooLarge, ModelMismatch, SessionNotStarted, Unsupported
from tidegate.model.forecast import DirectRules, FeedbackRules
from tidegate.model.future_inputs import future_inputs
from tidegate.model.manifest import InputSpec, Manifest, OutputSpec
from tidegate.protocol.lifecycle import Event
from tidegate.runner.roll import Roll
from tidegate.session.manager import SessionManager
from tidegate.session.registry import Place
from tidegate.session.single import NUMBER_BYTES
from tidegate.tensor import Array, num_elements

Named = list[tuple[InputSpec | OutputSpec, Array]]


@dataclass(frozen=True, slots=True)
class Forecast:
    """The steps ahead of a session.

    Attributes:
        next_step: Steps that the session has had; the forecast begins with this one.
        horizon_steps: Per row, how many steps it lies after the last one that was applied.
        outputs: Per output, `[rows, ...]`. Of a feedback, what the model answers at each of these steps; of
            a direct forecast, what the last answer says of them, without its horizon axis.
        inputs: Of a feedback, what these steps are fed with, `[rows, step_shape...]`; else empty.
    """

    next_step: int
    horizon_steps: list[int]
    outputs: Named
    inputs: Named


class Forecaster:
    """Forecasts for all sessions of one server."""

    def __init__(self, manager: SessionManager) -> None:
        self._manager = manager

    async def forecast(
        self, session_id: str, model: LoadedModel, num_steps: int, future: Mapping[str, Array]
    ) -> Forecast:
        """Forecast the next steps of a session.

        Args:
            session_id: The session, attached or not.
            model: As `SessionManager.model_of` gave it.
            num_steps: How many.
            future: Inputs that are known ahead, by name, `[steps, step_shape...]`.

        Raises:
            Unsupported: The package does not say how its model forecasts.
            InvalidRequest: Inputs are needed and not given, or steps lie past the model's horizon.
            SessionNotStarted: Nothing can be said before the first step.
            MessageTooLarge: More steps, or a longer answer, than the server takes at a time.
            TooManyRequests: Too many bytes are waiting.
        """
        manifest, rules = model.manifest, model.manifest.forecast
        if rules is None:
            raise Unsupported(
                f"{manifest.label} cannot be forecast: its manifest has no [forecast] that says how "
                "(docs/model-package.md)"
            )
        if isinstance(rules, DirectRules):
            _check_direct(manifest, rules, num_steps, future)
            async with self._manager.returner.present(session_id, Event.READ) as place:
                _check_model(session_id, place, model)
                return await model.engine.errands.look(lambda: _read(place, rules, num_steps))
        return await self._roll(session_id, model, rules, num_steps, future)

    async def _roll(
        self,
        session_id: str,
        model: LoadedModel,
        rules: FeedbackRules,
        num_steps: int,
        future: Mapping[str, Array],
    ) -> Forecast:
        num_bytes = self._check_size(model.manifest, num_steps)
        errands, manifest = model.engine.errands, model.manifest

        def begin(place: Place) -> tuple[int, Roll]:
            next_step = place.next_step
            laid_out = future_inputs(manifest, rules, future, num_steps, has_answered=next_step > 0)
            return next_step, Roll(model.runner, np.array([place.slot], np.int32), [laid_out])

        self._manager.budget.take(num_bytes)
        try:
            async with self._manager.returner.present(session_id, Event.READ) as place:
                _check_model(session_id, place, model)
                next_step, roll = await errands.look(lambda: begin(place))
            while roll.num_left:
                await errands.work(lambda: roll.advance(model.runner.max_slice_steps))
        finally:
            self._manager.budget.give_back(num_bytes)
        return Forecast(
            next_step,
            list(range(1, num_steps + 1)),
            [(spec, rows[0]) for spec, rows in zip(manifest.outputs, roll.outputs, strict=True)],
            [(spec, rows[0]) for spec, rows in zip(manifest.inputs, roll.inputs, strict=True)],
        )

    def _check_size(self, manifest: Manifest, num_steps: int) -> int:
        """Bytes of the answer, as a message has them."""
        limits = self._manager.limits
        if num_steps < 1:
            raise InvalidRequest("num_steps: expected at least 1, got 0")
        if num_steps > limits.max_frame_steps:
            raise MessageTooLarge(f"num_steps: expected at most {limits.max_frame_steps}, got {num_steps}")
        specs = (*manifest.inputs, *manifest.outputs)
        num_bytes = num_steps * NUMBER_BYTES * sum(num_elements(s.step_shape) for s in specs)
        if num_bytes > limits.max_message_bytes:
            raise MessageTooLarge(
                f"num_steps: expected an answer of at most {limits.max_message_bytes} bytes, "
                f"{num_steps} steps of {manifest.label} would have {num_bytes}"
            )
        return num_bytes


def _check_model(session_id: str, place: Place, model: LoadedModel) -> None:
    """Refuse a session that is another than the one whose model was asked for."""
    if place.table.model is not model:
        raise ModelMismatch(
            f"session {session_id!r} was ended, and is now one of {place.table.model.manifest.label}"
        )


def _check_direct(
    manifest: Manifest, rules: DirectRules, num_steps: int, future: Mapping[str, Array]
) -> None:
    """Refuse what the last answer cannot say."""
    (spec, _), *_ = rules.sources(manifest.outputs, manifest.states)
    nearest, farthest = spec.horizon_steps[0], spec.horizon_steps[-1]
    if not nearest <= num_steps <= farthest:
        raise InvalidRequest(
            f"num_steps: {manifest.label} looks {nearest} to {farthest} steps ahead, got {num_steps}"
        )
    if future:
        names = ", ".join(repr(name) for name in future)
        raise InvalidRequest(
            f"future_inputs: expected none, {manifest.label} looks ahead by itself; got {names}"
        )


def _read(place: Place, rules: DirectRules, num_steps: int) -> Forecast:
    """The last answer, as the session's state carries it."""
    table, next_step = place.table, place.next_step
    if next_step == 0:
        raise SessionNotStarted(
            f"session {table.ids[place.slot]!r} has had no step: expected at least one before a forecast"
        )
    manifest = table.model.manifest
    states = table.model.runner.arena.read(np.array([place.slot], np.int32))
    outputs: Named = []
    horizons: list[int] = []
    for spec, carrier in rules.sources(manifest.outputs, manifest.states):
        assert spec.horizon_axis is not None
        horizons = [h for h in spec.horizon_steps if h <= num_steps]
        outputs.append((spec, np.moveaxis(states[carrier][0], spec.horizon_axis, 0)[: len(horizons)]))
    return Forecast(next_step, horizons, outputs, inputs=[])
