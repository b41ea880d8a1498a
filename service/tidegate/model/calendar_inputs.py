"""Where the calendar stands in a model's inputs, and what it says there at given times."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np

from tidegate.errors import ConfigError, InvalidRequest
from tidegate.model.calendar_features import calendar_features
from tidegate.model.parsing import to_utc
from tidegate.model.time_rules import FeatureInput, TimeRules, feature_names
from tidegate.tensor import Array

Values = Sequence[list[float]]
"""Of one step: per input, its elements in C order."""


class CalendarWriter:
    """Writes the computed features of a model into the values of its steps."""

    def __init__(self, inputs: Sequence[FeatureInput], rules: TimeRules) -> None:
        features = calendar_features(rules.calendar)
        self._zone = rules.zone
        self._places = [
            (i, j, features[name])
            for i, spec in enumerate(inputs)
            for j, name in enumerate(feature_names(spec) if features else ())
            if name in features
        ]

    @property
    def is_needed(self) -> bool:
        """Whether any feature is computed, so that every step needs a time."""
        return bool(self._places)

    def written(self, steps: Sequence[Values], times: Sequence[datetime]) -> Sequence[Values]:
        """The steps with their calendar; those that came are left as they are.

        Args:
            steps: Per step, what is read.
            times: Per step, in UTC.
        """
        if not self._places:
            return steps
        return [
            self._written(step, time.astimezone(self._zone)) for step, time in zip(steps, times, strict=True)
        ]

    def _written(self, step: Values, local: datetime) -> Values:
        copy = [values.copy() for values in step]
        for i, j, feature in self._places:
            copy[i][j] = feature(local)
        return copy


def coming_times(rules: TimeRules, newest: datetime, num_steps: int) -> list[datetime]:
    """The times of the steps behind one, in UTC, each a cadence after the other.

    Args:
        rules: Whose cadence; it is in absolute time.
        newest: Time of the step before them; without a zone it is in the rules' own.
        num_steps: How many.

    Raises:
        ConfigError: The model does not say its cadence.
        InvalidRequest: They leave the calendar.
    """
    if not rules.cadence_s:
        raise ConfigError("cadence_s: the model does not say how far apart its steps are")
    start = to_utc(newest, rules.zone)
    try:
        return [
            to_utc(start + timedelta(seconds=rules.cadence_s * k), rules.zone)
            for k in range(1, num_steps + 1)
        ]
    except OverflowError:
        raise InvalidRequest(
            f"{num_steps} steps after {start.isoformat()}: expected a year to 9998"
        ) from None


def calendar_inputs(
    inputs: Sequence[FeatureInput], rules: TimeRules, times: Sequence[datetime]
) -> dict[str, Array]:
    """What the calendar says of coming steps, for `client.sessions.forecast(..., future)`.

    Args:
        inputs: The model's inputs.
        rules: Its rules about time.
        times: Of the steps; those without a zone are in the rules' own.

    Returns:
        By name of the inputs that have a computed feature, `[len(times), step_shape...]`; NaN in all their
        other elements, which means "as predicted".

    Raises:
        InvalidRequest: A time lies outside of the calendar.
    """
    blank = [np.full(int(np.prod(spec.step_shape)), np.nan).tolist() for spec in inputs]
    steps = CalendarWriter(inputs, rules).written(
        [blank] * len(times), [to_utc(time, rules.zone) for time in times]
    )
    return {
        spec.name: np.array([step[i] for step in steps], spec.dtype.numpy).reshape(-1, *spec.step_shape)
        for i, spec in enumerate(inputs)
        if rules.computed_features & set(spec.features or (spec.name,))
    }
