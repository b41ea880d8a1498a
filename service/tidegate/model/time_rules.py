"""The rules by which a series becomes steps: what a manifest says of time and missing values.

Training, the client library and the command line run the same rules (`model/steps.py`); the server sees
steps. What the rules say is checked against the model's inputs when the manifest is read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, tzinfo
from typing import Annotated, Literal, Protocol
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from tidegate.errors import ConfigError
from tidegate.model.calendar_features import CalendarCycle, calendar_names
from tidegate.model.specs import Strict
from tidegate.tensor import DType

MissingValues = Literal["refuse", "repeat-last", "mask"]
OutOfOrder = Literal["refuse", "drop"]

MAX_GAP_STEPS = 10_000
"""Most steps that a single row may make: what reads rows holds them in memory."""


SHORTEST_S = 1e-6
"""Times are told apart by the microsecond."""


class TimeRules(Strict):
    """How a series is turned into steps; run by training, the client and the CLI alike."""

    cadence_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Seconds between two steps; 0: not said."""

    column: str = ""
    """Column of a CSV file that holds the time of each row; a file without it is taken as it comes."""

    missing: MissingValues = "refuse"
    """What a missing value becomes before it is sent: an error, the last value, or NaN, which the graph
    masks."""

    max_gap_steps: Annotated[int, Field(ge=0, le=MAX_GAP_STEPS)] = 0
    """Longest gap between two rows that is filled with steps, whose values are missing; 0: none is."""

    out_of_order: OutOfOrder = "refuse"
    """What becomes of a row whose time repeats, goes back or comes within half a cadence: an error, or it is
    left out and counted."""

    calendar: tuple[CalendarCycle, ...] = ()
    """Cycles whose two features are computed from the time instead of being read."""

    time_zone: str = "UTC"
    """IANA name of the zone of times that name none, and of the calendar."""

    @field_validator("time_zone")
    @classmethod
    def _is_known(cls, name: str) -> str:
        _zone(name)
        return name

    @model_validator(mode="after")
    def _fits(self) -> TimeRules:
        needs_times = {
            "max_gap_steps": self.max_gap_steps > 0,
            "out_of_order": self.out_of_order == "drop",
            "calendar": bool(self.calendar),
        }
        for key, is_set in needs_times.items():
            if is_set and not self.column:
                raise ValueError(f"{key}: needs a column that holds the times")
        if 0 < self.cadence_s < SHORTEST_S:
            raise ValueError(f"cadence_s: expected 0 or at least {SHORTEST_S:g}, got {self.cadence_s:g}")
        if self.max_gap_steps and not self.cadence_s:
            raise ValueError("max_gap_steps: needs cadence_s")
        if self.max_gap_steps and self.missing == "refuse":
            raise ValueError("max_gap_steps: needs missing = 'repeat-last' or 'mask' to fill the gaps with")
        if len(set(self.calendar)) != len(self.calendar):
            raise ValueError(f"calendar: expected each cycle once, got {list(self.calendar)}")
        return self

    @property
    def zone(self) -> tzinfo:
        """The time zone."""
        return _zone(self.time_zone)

    @property
    def computed_features(self) -> frozenset[str]:
        """Names of the features that come from the calendar, and from no column."""
        return frozenset(name for cycle in self.calendar for name in calendar_names(cycle))


class FeatureInput(Protocol):
    """An input of a model, as the manifest and the client know it."""

    @property
    def name(self) -> str:
        """Its name in the graph."""

    @property
    def dtype(self) -> DType:
        """Element type."""

    @property
    def step_shape(self) -> tuple[int, ...]:
        """Shape of one step."""

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the elements of the last axis; may be empty."""

    @property
    def accepts_missing(self) -> bool:
        """Whether NaN reaches the graph."""


def feature_names(spec: FeatureInput) -> tuple[str, ...]:
    """What feeds an input: its features or, for a single number without one, its own name.

    Raises:
        ConfigError: The input has more elements than named features.
    """
    width = math.prod(spec.step_shape)
    names = spec.features or (spec.name,)
    if len(names) != width:
        raise ConfigError(f"input {spec.name!r}: {width} elements but {len(spec.features)} named features")
    return names


def check_time_rules(rules: TimeRules, inputs: Sequence[FeatureInput]) -> None:
    """Raise ValueError if the rules ask for what the inputs do not have."""
    named = [(spec, set(spec.features or (spec.name,))) for spec in inputs]
    for cycle in rules.calendar:
        pair = calendar_names(cycle)
        if not any(names & set(pair) for _, names in named):
            raise ValueError(
                f"time.calendar: {cycle!r}: expected an input with the feature {' or '.join(pair)}"
            )
    for spec, names in named:
        computed = rules.computed_features & names
        if computed and not spec.dtype.is_float:
            raise ValueError(
                f"input {spec.name!r} of {spec.dtype}: expected a float type for {min(computed)!r}, "
                "which is computed from the calendar"
            )
    if rules.missing == "mask":
        _check_mask(rules, [spec for spec, names in named if names - rules.computed_features])


def _check_mask(rules: TimeRules, read: Sequence[FeatureInput]) -> None:
    masked = [spec for spec in read if spec.accepts_missing]
    if not masked:
        raise ValueError("time.missing: 'mask' needs an input with accepts_missing")
    if rules.max_gap_steps and len(masked) < len(read):
        other = next(spec for spec in read if not spec.accepts_missing)
        raise ValueError(f"time.max_gap_steps: with 'mask', input {other.name!r} needs accepts_missing")


def _zone(name: str) -> tzinfo:
    """The zone of this name.

    Raises:
        ValueError: There is none.
    """
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ValueError, KeyError, OSError):
        raise ValueError(f"expected the IANA name of a time zone, got {name!r}") from None
