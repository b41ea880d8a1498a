"""A model's rules about time, as `Model` messages tell them; `client/time_rules.py` reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tidegate.model.calendar_features import CalendarCycle
from tidegate.model.time_rules import MissingValues, OutOfOrder, TimeRules
from tidegate.v1 import model_pb2 as pb

_MISSING: Final[Mapping[MissingValues, pb.MissingValues.ValueType]] = {
    "refuse": pb.MISSING_VALUES_REFUSE,
    "repeat-last": pb.MISSING_VALUES_REPEAT_LAST,
    "mask": pb.MISSING_VALUES_MASK,
}
_OUT_OF_ORDER: Final[Mapping[OutOfOrder, pb.OutOfOrder.ValueType]] = {
    "refuse": pb.OUT_OF_ORDER_REFUSE,
    "drop": pb.OUT_OF_ORDER_DROP,
}
_CALENDAR: Final[Mapping[CalendarCycle, pb.CalendarCycle.ValueType]] = {
    "minute-of-hour": pb.CALENDAR_CYCLE_MINUTE_OF_HOUR,
    "hour-of-day": pb.CALENDAR_CYCLE_HOUR_OF_DAY,
    "day-of-week": pb.CALENDAR_CYCLE_DAY_OF_WEEK,
    "day-of-month": pb.CALENDAR_CYCLE_DAY_OF_MONTH,
    "day-of-year": pb.CALENDAR_CYCLE_DAY_OF_YEAR,
}


def write_time_rules(model: pb.Model, rules: TimeRules) -> None:
    """Set the fields that tell the rules."""
    model.cadence_s = rules.cadence_s
    model.time_column = rules.column
    model.missing_values = _MISSING[rules.missing]
    model.max_gap_steps = rules.max_gap_steps
    model.out_of_order = _OUT_OF_ORDER[rules.out_of_order]
    model.calendar.extend(_CALENDAR[cycle] for cycle in rules.calendar)
    model.time_zone = rules.time_zone
