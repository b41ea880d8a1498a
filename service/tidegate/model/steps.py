"""How a row of values becomes steps: the one reading of time that training, client and CLI share.

A `StepMaker` takes the rows of one series in order and gives for each the inputs of its steps: those that
fill the gap before it, then its own. It reads no files; `model/rows.py` does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from tidegate.errors import InvalidRequest
from tidegate.model.calendar_inputs import CalendarWriter, Values
from tidegate.model.parsing import check_number, to_utc
from tidegate.model.step_order import StepOrder
from tidegate.model.time_rules import FeatureInput, TimeRules, feature_names
from tidegate.tensor import Array, DType

Cell = Callable[[str, DType], float | None]
"""The value of a feature as its input's type holds it; None: missing. Raises InvalidRequest."""


@dataclass(frozen=True)
class Steps:
    """What a row became.

    Attributes:
        times: Of each step, in UTC; empty where the row has no time.
        values: Per input, `[num_steps, step_shape...]`; the row itself is the last step.
        filled: Features that the row itself lacks, and that the rules have filled or masked.
    """

    times: tuple[datetime, ...]
    values: tuple[Array, ...]
    filled: frozenset[str]

    @property
    def num_steps(self) -> int:
        """At least 1; 0 for a row that the rules drop."""
        return len(self.values[0])

    def since(self, count: int) -> Steps:
        """Without the first `count` of them; all for a count below 1, and none for one past the last."""
        first = max(0, count)
        return Steps(self.times[first:], tuple(values[first:] for values in self.values), self.filled)


class StepMaker:
    """Turns the rows of one series into steps by a model's rules about time.

    Not thread-safe. A row that is refused leaves everything as it was, but for its time: rows behind it
    are not refused for the gap that it leaves, unless gaps are filled, for then it leaves one to fill.

    Attributes:
        num_filled: Steps that filled gaps so far.
        num_dropped: Rows dropped so far.
    """

    def __init__(self, inputs: Sequence[FeatureInput], rules: TimeRules) -> None:
        """Begin a series.

        Args:
            inputs: The model's inputs: `manifest.inputs`, or `ModelInfo.inputs` of the client.
            rules: Its rules about time: `manifest.time`, or `ModelInfo.time`.

        Raises:
            ConfigError: An input has more elements than named features.
        """
        self._inputs = tuple(inputs)
        self._names = [feature_names(spec) for spec in inputs]
        self._calendar = CalendarWriter(inputs, rules)
        self._rules = rules
        computed = rules.computed_features
        self._read_places = [
            (i, j, name)
            for i, names in enumerate(self._names)
            for j, name in enumerate(names)
            if name not in computed
        ]
        self._order = StepOrder(rules)
        self._last: Values | None = None
        self.num_filled = 0
        self.num_dropped = 0

    def steps(self, time: datetime | None, values: Mapping[str, float | None]) -> dict[str, Array]:
        """The inputs of the next row's steps.

        Args:
            time: Of the row; one without a zone is in the rules' own. None for a series without times.
            values: By feature; None and NaN mean "missing". What the calendar gives is not read, and
                neither is what the model does not know.

        Returns:
            By input name, `[num_steps, step_shape...]`, as `Session.run` takes them; the row's own answer
            is the last. Empty if the rules drop the row.

        Raises:
            InvalidRequest: The row cannot be a step; says why, and names the feature.
        """

        def cell(name: str, dtype: DType) -> float | None:
            if name not in values:
                raise InvalidRequest("expected a number, or None where it is missing; there is no such key")
            return check_number(values[name], dtype)

        made = self.make(None if time is None else to_utc(time, self._rules.zone), cell)
        if made.num_steps == 0:
            return {}
        return {spec.name: value for spec, value in zip(self._inputs, made.values, strict=True)}

    def make(self, time: datetime | None, cell: Cell) -> Steps:
        """The steps of the next row.

        Args:
            time: Of the row, in UTC; None for a series without times.
            cell: Gives the row's values; asked for every feature that the calendar does not give, and for
                none where the row is dropped.

        Raises:
            InvalidRequest: The row cannot be a step.
        """
        if time is None:
            return self._untimed(cell)
        times = self._order.place(time)
        if not times:
            self.num_dropped += 1
            return Steps((), self._arrays([]), frozenset())
        try:
            own, filled = self._read(cell)
        except InvalidRequest:
            self._order.take_back()
            raise
        gap = [self._missing_values()] * (len(times) - 1) if len(times) > 1 else []
        self.num_filled += len(gap)
        self._last = own
        return Steps(times, self._arrays(self._calendar.written([*gap, own], times)), frozenset(filled))

    def _untimed(self, cell: Cell) -> Steps:
        if self._calendar.is_needed:
            raise InvalidRequest("time: required, because the calendar's features are computed from it")
        own, filled = self._read(cell)
        self._last = own
        return Steps((), self._arrays([own]), frozenset(filled))

    def _read(self, cell: Cell) -> tuple[Values, set[str]]:
        """The row's own values, and the features that it lacks."""
        filled: set[str] = set()
        values: list[list[float]] = [[math.nan] * len(names) for names in self._names]
        for i, j, name in self._read_places:
            try:
                value = cell(name, self._inputs[i].dtype)
                if value is None:
                    value = self._fill(i, j)
                    filled.add(name)
            except InvalidRequest as error:
                raise InvalidRequest(f"column {name!r}: {error}") from None
            values[i][j] = value
        return values, filled

    def _fill(self, i: int, j: int) -> float:
        if self._rules.missing == "mask" and self._inputs[i].accepts_missing:
            return math.nan
        if self._rules.missing != "repeat-last":
            raise InvalidRequest("expected a number, got a missing value")
        if self._last is None:
            raise InvalidRequest("missing value, and none before it to repeat")
        return self._last[i][j]

    def _missing_values(self) -> Values:
        """Of a step in a gap."""
        assert self._last is not None, "a gap lies behind a step"
        if self._rules.missing == "repeat-last":
            return self._last
        return [[math.nan] * len(names) for names in self._names]

    def _arrays(self, steps: Sequence[Values]) -> tuple[Array, ...]:
        return tuple(
            np.array([values[i] for values in steps], spec.dtype.numpy).reshape(len(steps), *spec.step_shape)
            for i, spec in enumerate(self._inputs)
        )
