"""How a package says that the steps ahead of a session can be forecast from its state alone.

Two ways, and nothing is guessed about either:

* "direct": an answer looks ahead by itself, and the model carries the last one as a state
  (`carried_as`), so a forecast is read from the session's state.
* "feedback": the steps are run on a copy of the state, and what the model answers at one step is fed
  into the next, pair by pair. A value before the first of them is the last answer, where the model
  carries it; otherwise whoever asks for the forecast gives it.

What a manifest says is checked against its own shapes when it is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import EllipsisType
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from tidegate.model.specs import InputSpec, Name, OutputSpec, StatePair, Strict
from tidegate.tensor import BoolArray, format_shape

Index = tuple[int | slice | EllipsisType, ...]
"""Selects elements of `[..., step_shape...]`."""


class DirectRules(Strict):
    """The last answer is the forecast."""

    mode: Literal["direct"]

    outputs: Annotated[tuple[Name, ...], Field(min_length=1)]
    """Outputs with `carried_as` and the same `horizon_steps`."""

    def sources(
        self, outputs: Sequence[OutputSpec], states: Sequence[StatePair]
    ) -> list[tuple[OutputSpec, int]]:
        """The outputs that make the forecast, each with the position of the state that carries it."""
        carriers = [s.input_name for s in states]
        named = {o.name: o for o in outputs}
        return [(named[name], carriers.index(named[name].carried_as)) for name in self.outputs]


class FeedbackPair(Strict):
    """What of an answer goes into which elements of the next step's input."""

    input: Name

    input_feature: str = ""
    """The element of the last axis that it becomes; "": the whole input."""

    output: Name
    """Where it has `horizon_steps`, the element that looks 1 step ahead is taken."""

    output_feature: str = ""
    """The predicted feature that is taken; "": all of them."""

    quantile_level: float | None = None
    """The quantile that is taken; required for an output that has quantiles."""


class FeedbackRules(Strict):
    """Answers become inputs."""

    mode: Literal["feedback"]
    pairs: Annotated[tuple[FeedbackPair, ...], Field(min_length=1)]


ForecastRules = Annotated[DirectRules | FeedbackRules, Field(discriminator="mode")]


@dataclass(frozen=True)
class Feed:
    """A feedback pair by positions.

    Attributes:
        input: Position of the input.
        input_index: Its elements that are fed.
        output: Position of the output.
        output_index: Its elements that they take.
        carried: Position of the state pair that carries the output's last answer; None: none does.
    """

    input: int
    input_index: Index
    output: int
    output_index: Index
    carried: int | None


def check_carried(outputs: Sequence[OutputSpec], states: Sequence[StatePair]) -> None:
    """Raise ValueError if an output is carried by a state that cannot hold its answer."""
    pairs = {s.input_name: s for s in states}
    for output in (o for o in outputs if o.carried_as):
        what = f"output {output.name!r}: carried_as"
        pair = pairs.get(output.carried_as)
        if pair is None:
            raise ValueError(f"{what}: expected the input_name of a state pair, got {output.carried_as!r}")
        if (pair.dtype, pair.step_shape) != (output.dtype, output.step_shape):
            raise ValueError(
                f"{what}: expected a state of {output.dtype} {format_shape(output.step_shape)}, "
                f"got {pair.dtype} {format_shape(pair.step_shape)}"
            )


def check_forecast(
    rules: DirectRules | FeedbackRules,
    inputs: Sequence[InputSpec],
    outputs: Sequence[OutputSpec],
    states: Sequence[StatePair],
) -> None:
    """Raise ValueError if a forecast cannot be made the way the rules say."""
    if isinstance(rules, FeedbackRules):
        fed_elements(inputs, feeds(rules, inputs, outputs, states))
        return
    first = outputs[_position("forecast.outputs", rules.outputs[0], outputs)]
    for name in rules.outputs:
        output = outputs[_position("forecast.outputs", name, outputs)]
        _check_horizons(output)
        if output.horizon_steps != first.horizon_steps:
            raise ValueError(f"output {name!r}: horizon_steps: expected those of output {first.name!r}")
        if not output.carried_as:
            raise ValueError(
                f"output {name!r}: carried_as: required for mode 'direct', because only a state outlives a step"
            )


def feeds(
    rules: FeedbackRules,
    inputs: Sequence[InputSpec],
    outputs: Sequence[OutputSpec],
    states: Sequence[StatePair],
) -> list[Feed]:
    """The pairs by positions, in order.

    Raises:
        ValueError: A pair names what does not exist, or its two sides do not fit.
    """
    carriers = [s.input_name for s in states]
    found = []
    for pair in rules.pairs:
        into = _position("forecast.pairs: input", pair.input, inputs)
        of = _position("forecast.pairs: output", pair.output, outputs)
        feed = Feed(
            into,
            _input_index(inputs[into], pair),
            of,
            _output_index(outputs[of], pair),
            carriers.index(outputs[of].carried_as) if outputs[of].carried_as else None,
        )
        _check_sides(pair, inputs[into], outputs[of], feed)
        found.append(feed)
    return found


def fed_elements(inputs: Sequence[InputSpec], pairs: Sequence[Feed]) -> list[BoolArray]:
    """Per input, which elements of its step shape are fed back.

    Raises:
        ValueError: Two pairs feed one element, or a part of an input of whole numbers is fed.
    """
    masks = [np.zeros(i.step_shape, np.bool_) for i in inputs]
    for feed in pairs:
        spec, mask = inputs[feed.input], masks[feed.input]
        if mask[feed.input_index].any():
            raise ValueError(f"forecast.pairs: an element of input {spec.name!r} is fed twice")
        mask[feed.input_index] = True
    for spec, mask in zip(inputs, masks, strict=True):
        # Whoever gives the other elements marks this one with NaN, which whole numbers do not have.
        if mask.any() and not mask.all() and not spec.dtype.is_float:
            raise ValueError(
                f"forecast.pairs: input {spec.name!r} of {spec.dtype}: expected all of its elements to be fed"
            )
    return masks


def _position(what: str, name: str, specs: Sequence[InputSpec] | Sequence[OutputSpec]) -> int:
    names = [s.name for s in specs]
    if name not in names:
        raise ValueError(f"{what}: expected one of {', '.join(names)}, got {name!r}")
    return names.index(name)


def _check_horizons(output: OutputSpec) -> None:
    steps, axis = output.horizon_steps, output.horizon_axis
    if axis is None or axis < 0 or output.step_shape[axis] != len(steps):
        raise ValueError(
            f"output {output.name!r}: horizon_steps: expected one per element of the axis before the quantiles, "
            f"got {len(steps)} for a step shape of {format_shape(output.step_shape)}"
        )
    if any(after <= before for before, after in pairwise(steps)):
        raise ValueError(f"output {output.name!r}: horizon_steps: expected ascending ones, got {list(steps)}")


def _input_index(spec: InputSpec, pair: FeedbackPair) -> Index:
    if not pair.input_feature:
        return (...,)
    if pair.input_feature not in spec.features:
        raise ValueError(
            f"forecast.pairs: input_feature: expected one of {', '.join(spec.features) or 'none'}, "
            f"got {pair.input_feature!r}"
        )
    return (..., spec.features.index(pair.input_feature)) if spec.step_shape else (...,)


def _output_index(spec: OutputSpec, pair: FeedbackPair) -> Index:
    index: list[int | slice] = [slice(None)] * len(spec.step_shape)
    if spec.horizon_axis is not None:
        _check_horizons(spec)
        if 1 not in spec.horizon_steps:
            raise ValueError(
                f"forecast.pairs: output {spec.name!r}: expected 1 among its horizon_steps, "
                f"got {list(spec.horizon_steps)}"
            )
        index[spec.horizon_axis] = spec.horizon_steps.index(1)
    if (pair.quantile_level is not None or spec.quantile_levels) and (
        pair.quantile_level not in spec.quantile_levels
    ):
        raise ValueError(
            f"forecast.pairs: quantile_level of output {spec.name!r}: expected one of "
            f"{list(spec.quantile_levels)}, got {pair.quantile_level}"
        )
    if spec.quantile_axis is not None and pair.quantile_level is not None:
        index[spec.quantile_axis] = spec.quantile_levels.index(pair.quantile_level)
    if pair.output_feature:
        if pair.output_feature not in spec.features:
            raise ValueError(
                f"forecast.pairs: output_feature: expected one of {', '.join(spec.features) or 'none'}, "
                f"got {pair.output_feature!r}"
            )
        if spec.feature_axis is not None:
            index[spec.feature_axis] = spec.features.index(pair.output_feature)
    return (..., *index)


def _check_sides(pair: FeedbackPair, into: InputSpec, of: OutputSpec, feed: Feed) -> None:
    """Both sides of a pair must have the same type and shape; one element fits one element."""
    try:
        taken = np.empty(of.step_shape, np.bool_)[feed.output_index].shape
    except IndexError:
        taken = None
    wanted = np.empty(into.step_shape, np.bool_)[feed.input_index].shape
    fits = taken == wanted or (taken is not None and set(taken) | set(wanted) <= {1})
    if into.dtype != of.dtype or not fits:
        raise ValueError(
            f"forecast.pairs: expected {into.dtype} {format_shape(wanted)} for input {pair.input!r}, got "
            f"{of.dtype} {format_shape(taken or ())} of output {pair.output!r}"
        )
