"""Features computed from a step's time: where in the hour, the day, the week, the month or the year it lies.

Each cycle gives two features, the sine and the cosine of the phase, so that its end lies beside its
beginning. The phase goes by the clock on the wall: from 0 at the begin of the cycle to 1 at its end,
without jumps in between.
"""

from __future__ import annotations

import math
from calendar import isleap, monthrange
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Final, Literal

CalendarCycle = Literal["minute-of-hour", "hour-of-day", "day-of-week", "day-of-month", "day-of-year"]
"""A week begins with Monday; months and years have the length that they have."""

HOUR_S: Final = 3600
DAY_S: Final = 24 * HOUR_S

LocalFeature = Callable[[datetime], float]
"""A feature of a time in the zone whose clocks count, in [-1, 1]."""


def calendar_names(cycle: CalendarCycle) -> tuple[str, str]:
    """What the two features of a cycle are called: `hour_of_day_sin` and `hour_of_day_cos`."""
    stem = cycle.replace("-", "_")
    return f"{stem}_sin", f"{stem}_cos"


def calendar_features(cycles: Iterable[CalendarCycle]) -> Mapping[str, LocalFeature]:
    """The features of some cycles by name."""
    features: dict[str, LocalFeature] = {}
    for cycle in cycles:
        sine, cosine = calendar_names(cycle)
        features[sine] = _wave(math.sin, _PHASES[cycle])
        features[cosine] = _wave(math.cos, _PHASES[cycle])
    return features


def _wave(function: Callable[[float], float], phase: LocalFeature) -> LocalFeature:
    return lambda local: function(math.tau * phase(local))


def _hour(local: datetime) -> float:
    return _seconds(local) % HOUR_S / HOUR_S


def _day(local: datetime) -> float:
    return _seconds(local) / DAY_S


def _week(local: datetime) -> float:
    return (local.weekday() + _day(local)) / 7


def _month(local: datetime) -> float:
    return (local.day - 1 + _day(local)) / monthrange(local.year, local.month)[1]


def _year(local: datetime) -> float:
    return (local.timetuple().tm_yday - 1 + _day(local)) / (366 if isleap(local.year) else 365)


def _seconds(local: datetime) -> float:
    """Since midnight, as the clock on the wall shows them."""
    return local.hour * HOUR_S + local.minute * 60 + local.second + local.microsecond / 1e6


_PHASES: Mapping[CalendarCycle, LocalFeature] = {
    "minute-of-hour": _hour,
    "hour-of-day": _day,
    "day-of-week": _week,
    "day-of-month": _month,
    "day-of-year": _year,
}
