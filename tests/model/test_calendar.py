"""Features of the calendar, and where they stand in a model's inputs."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import get_args
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from tidegate.errors import ConfigError, InvalidRequest
from tidegate.model.calendar_features import CalendarCycle, calendar_features, calendar_names
from tidegate.model.calendar_inputs import calendar_inputs, coming_times
from tidegate.model.manifest import InputSpec, TimeRules
from tidegate.tensor import DType


def phase(cycle: CalendarCycle, time: datetime) -> float:
    """Where in its cycle a time lies, from 0 to 1, read from the two features."""
    features = calendar_features([cycle])
    sine, cosine = (features[name](time) for name in calendar_names(cycle))
    assert math.hypot(sine, cosine) == pytest.approx(1)
    return math.atan2(sine, cosine) / math.tau % 1


@pytest.mark.parametrize(
    ("cycle", "time", "expected"),
    [
        ("minute-of-hour", datetime(2024, 2, 29, 7, 15), 0.25),
        ("hour-of-day", datetime(2024, 2, 29, 18), 0.75),
        ("day-of-week", datetime(2024, 2, 29, 12), 3.5 / 7),
        ("day-of-month", datetime(2024, 2, 29, 12), 28.5 / 29),
        ("day-of-month", datetime(2023, 2, 28, 12), 27.5 / 28),
        ("day-of-year", datetime(2024, 12, 31), 365 / 366),
        ("day-of-year", datetime(2023, 7, 2, 12), 0.5),
    ],
)
def test_a_phase_is_the_share_of_the_cycle_that_has_passed(
    cycle: CalendarCycle, time: datetime, expected: float
) -> None:
    assert phase(cycle, time) == pytest.approx(expected)


@pytest.mark.parametrize("cycle", get_args(CalendarCycle))
def test_a_feature_never_jumps(cycle: CalendarCycle) -> None:
    start = datetime(2023, 12, 30)

    phases = [phase(cycle, start + timedelta(minutes=5 * k)) for k in range(3 * 288)]

    assert max((after - before) % 1 for before, after in pairwise(phases)) < 0.1


def test_a_name_says_cycle_and_function() -> None:
    assert calendar_names("day-of-week") == ("day_of_week_sin", "day_of_week_cos")


RULES = TimeRules(column="t", cadence_s=3600, calendar=("hour-of-day",), time_zone="Europe/Vienna")


def test_coming_times_are_a_cadence_apart_while_clocks_are_changed() -> None:
    times = coming_times(RULES, datetime(2024, 3, 31, 1), 2)

    assert times == [datetime(2024, 3, 31, 1, tzinfo=UTC), datetime(2024, 3, 31, 2, tzinfo=UTC)]
    assert [t.astimezone(ZoneInfo("Europe/Vienna")).hour for t in times] == [3, 4]


def test_coming_times_need_a_cadence_and_end_with_the_calendar() -> None:
    with pytest.raises(ConfigError, match="cadence_s: the model does not say"):
        coming_times(TimeRules(column="t"), datetime(2024, 1, 1), 1)
    with pytest.raises(InvalidRequest, match="9998"):
        coming_times(RULES, datetime(9998, 12, 31, 23), 5)
    with pytest.raises(InvalidRequest, match="9998"):
        coming_times(TimeRules(cadence_s=1e12), datetime(2024, 1, 1), 5)


def test_the_calendar_of_coming_steps_leaves_everything_else_to_be_predicted() -> None:
    inputs = [
        InputSpec(name="x", dtype=DType.FLOAT32, shape=("batch", 2), features=("a", "hour_of_day_cos")),
        InputSpec(name="plan", dtype=DType.FLOAT32, shape=("batch", 1)),
    ]

    found = calendar_inputs(inputs, RULES, [datetime(2024, 7, 1), datetime(2024, 7, 1, 10, tzinfo=UTC)])

    assert list(found) == ["x"]
    np.testing.assert_allclose(found["x"], [[np.nan, 1], [np.nan, -1]])
