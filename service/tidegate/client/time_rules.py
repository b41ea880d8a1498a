"""A model's rules about time, from what a server says of it; `rpc/time_rules.py` writes them.

A rule that this release does not know is an error: a series read by other rules than the model's would
give answers that are wrong without a word.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from tidegate.config import first_problem
from tidegate.errors import InternalError
from tidegate.model.time_rules import TimeRules
from tidegate.v1 import model_pb2 as pb

_MISSING: Final[Mapping[int, str]] = {
    pb.MISSING_VALUES_UNSPECIFIED: "refuse",
    pb.MISSING_VALUES_REFUSE: "refuse",
    pb.MISSING_VALUES_REPEAT_LAST: "repeat-last",
    pb.MISSING_VALUES_MASK: "mask",
}
_OUT_OF_ORDER: Final[Mapping[int, str]] = {
    pb.OUT_OF_ORDER_UNSPECIFIED: "refuse",
    pb.OUT_OF_ORDER_REFUSE: "refuse",
    pb.OUT_OF_ORDER_DROP: "drop",
}
_CALENDAR: Final[Mapping[int, str]] = {
    pb.CALENDAR_CYCLE_MINUTE_OF_HOUR: "minute-of-hour",
    pb.CALENDAR_CYCLE_HOUR_OF_DAY: "hour-of-day",
    pb.CALENDAR_CYCLE_DAY_OF_WEEK: "day-of-week",
    pb.CALENDAR_CYCLE_DAY_OF_MONTH: "day-of-month",
    pb.CALENDAR_CYCLE_DAY_OF_YEAR: "day-of-year",
}


def read_time_rules(model: pb.Model) -> TimeRules:
    """The rules that a message tells.

    Raises:
        InternalError: One of them this release does not know, or cannot be kept.
    """
    rules: dict[str, Any] = {
        "cadence_s": model.cadence_s,
        "column": model.time_column,
        "missing": _known("missing_values", _MISSING, model.missing_values),
        "max_gap_steps": model.max_gap_steps,
        "out_of_order": _known("out_of_order", _OUT_OF_ORDER, model.out_of_order),
        "calendar": tuple(_known("calendar", _CALENDAR, cycle) for cycle in model.calendar),
        "time_zone": model.time_zone or "UTC",
    }
    try:
        return TimeRules.model_validate(rules)
    except ValidationError as error:
        raise InternalError(f"rules about time: {first_problem(error)}") from error


def _known(field: str, names: Mapping[int, str], number: int) -> str:
    if number not in names:
        raise InternalError(f"{field}: expected one this release knows, got {number}")
    return names[number]
