"""The inputs of steps that have not happened yet: given where they are known, fed back where they are not.

A value that is given always wins over one that would be fed back, so whoever asks can also try out "what
if". In an element that is fed back, NaN and a row that is not there mean "as predicted".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tidegate.errors import InvalidRequest
from tidegate.model.forecast import Feed, FeedbackRules, fed_elements, feeds
from tidegate.model.manifest import InputSpec, Manifest
from tidegate.tensor import Array, BoolArray, format_shape


@dataclass(frozen=True)
class FutureInputs:
    """What coming steps are fed with.

    Attributes:
        values: Per model input, `[num_steps, step_shape...]`; what is fed back is written here as it comes.
        given: Per model input, which of them are known from the start.
        feeds: Where the others come from.
    """

    values: list[Array]
    given: list[BoolArray]
    feeds: list[Feed]


def future_inputs(
    manifest: Manifest,
    rules: FeedbackRules,
    future: Mapping[str, Array],
    num_steps: int,
    *,
    has_answered: bool,
) -> FutureInputs:
    """Lay out the inputs of the coming steps.

    Args:
        manifest: Of the model.
        rules: Its rules of forecasting.
        future: What is known ahead, by input name, `[steps, step_shape...]`.
        num_steps: Steps to forecast, H.
        has_answered: The state carries an answer: the session has had a step.

    Raises:
        InvalidRequest: A value is infinite, or NaN where a number is needed; more steps are given than are
            forecast; or values are needed that are not given: names each input, feature and shape.
    """
    pairs = feeds(rules, manifest.inputs, manifest.outputs, manifest.states)
    laid_out = FutureInputs([], [], pairs)
    missing: list[str] = []
    for i, (spec, fed) in enumerate(zip(manifest.inputs, fed_elements(manifest.inputs, pairs), strict=True)):
        values, given = _laid_out(spec, future.get(spec.name), fed, num_steps)
        needed = ~np.broadcast_to(fed, given.shape)
        needed[0] |= _starts(pairs, i, spec, has_answered=has_answered)
        missing += _missing(spec, needed & ~given)
        laid_out.values.append(values)
        laid_out.given.append(given)
    if missing:
        raise InvalidRequest(f"future_inputs: expected also {'; '.join(missing)}")
    return laid_out


def _laid_out(
    spec: InputSpec, future: Array | None, fed: BoolArray, num_steps: int
) -> tuple[Array, BoolArray]:
    """Values of all coming steps, zeros where there are none yet, and which of them are given."""
    values = np.zeros((num_steps, *spec.step_shape), spec.dtype.numpy)
    given = np.zeros(values.shape, np.bool_)
    if future is None:
        return values, given
    if len(future) > num_steps:
        raise InvalidRequest(
            f"future_inputs: {spec.name!r}: expected at most {num_steps} steps, got {len(future)}"
        )
    values[: len(future)], given[: len(future)] = future, True
    if spec.dtype.is_float:
        given &= ~(np.isnan(values) & fed)
        _check_usable(spec, values, given)
    return values, given


def _check_usable(spec: InputSpec, values: Array, given: BoolArray) -> None:
    usable = ~np.isinf(values) if spec.accepts_missing else np.isfinite(values)
    wrong = np.argwhere(given & ~usable)
    if len(wrong):
        where = tuple(wrong[0].tolist())
        raise InvalidRequest(
            f"future_inputs: {spec.name!r}{format_shape(where)}: expected a finite value, got {values[where]}"
        )


def _starts(pairs: Sequence[Feed], position: int, spec: InputSpec, *, has_answered: bool) -> BoolArray:
    """Elements of an input that nothing is fed into at the first step."""
    mask = np.zeros(spec.step_shape, np.bool_)
    for feed in pairs:
        if feed.input == position and (feed.carried is None or not has_answered):
            mask[feed.input_index] = True
    return mask


def _missing(spec: InputSpec, lacking: BoolArray) -> list[str]:
    """What to ask for: per feature or, where features have no names, per input."""
    if not lacking.any():
        return []
    if not (spec.features and spec.step_shape):
        return [f"{spec.name!r} {format_shape((_num_steps(lacking), *spec.step_shape))}"]
    by_feature = np.moveaxis(lacking, -1, 0)
    shape = spec.step_shape[:-1]
    return [
        f"{spec.name!r} feature {feature!r} {format_shape((_num_steps(steps), *shape))}"
        for feature, steps in zip(spec.features, by_feature, strict=True)
        if steps.any()
    ]


def _num_steps(lacking: BoolArray) -> int:
    """Steps from the first coming one on that must be given."""
    return int(np.flatnonzero(lacking.reshape(len(lacking), -1).any(1))[-1]) + 1
