"""Cells and stamps as people write them, and the values that an input can hold."""

from __future__ import annotations

import math
from datetime import UTC, datetime, tzinfo
from functools import cache

import numpy as np

from tidegate.errors import InvalidRequest
from tidegate.tensor import DType

_MAX_SHOWN = 80

_MISSING = ("", "nan", "na", "null", "none")


def parse_cell(text: str, dtype: DType) -> float | None:
    """A number that an input of this type can hold; None where the cell says that there is none.

    Raises:
        InvalidRequest: It is neither.
    """
    stripped = text.strip()
    return None if stripped.lower() in _MISSING else parse_number(stripped, dtype)


def parse_number(text: str, dtype: DType) -> float:
    """A finite number that an input of this type can hold.

    Raises:
        InvalidRequest: It is none.
    """
    try:
        value = float(text) if dtype.is_float else int(text)
    except ValueError:
        raise _no_number(text, dtype) from None
    if "_" in text:  # Python's digit grouping; in a file it is a slip
        raise _no_number(text, dtype)
    _check_fits(value, dtype, text)
    return value


def check_number(value: object, dtype: DType) -> float | None:
    """A value that a program hands over, as an input of this type holds it; None and NaN mean "missing".

    Raises:
        InvalidRequest: It is no such number.
    """
    if value is None:
        return None
    array = np.asarray(value)
    if array.shape != () or array.dtype.kind not in ("fiub" if dtype.is_float else "iub"):
        raise _no_number(value, dtype)
    number: float = array.item()
    if math.isnan(number):
        return None
    _check_fits(number, dtype, value)
    return number


def parse_time(text: str, zone: tzinfo = UTC) -> datetime:
    """An ISO 8601 date or date and time, in UTC.

    Args:
        text: What is written.
        zone: Where the clock hung that a time without an offset was read from. An hour that it showed
            twice is taken as the first of the two.

    Raises:
        InvalidRequest: It is neither.
    """
    stripped = text.strip()
    try:
        # Of milliseconds since 1970 Python reads a date, any separator, and an hour.
        time = datetime.fromisoformat("" if stripped.isdigit() and len(stripped) > 8 else stripped)
    except ValueError:
        raise InvalidRequest(f"expected an ISO 8601 date or time, got {_shown(text)}") from None
    return to_utc(time, zone)


def to_utc(time: datetime, zone: tzinfo) -> datetime:
    """A time in UTC, where differences are those of a stop watch; one without a zone is in `zone`.

    Raises:
        InvalidRequest: It is no datetime, or its year is the calendar's first or last, where no zone can be
            told.
    """
    if not isinstance(time, datetime):
        raise InvalidRequest(f"time: expected a datetime, got {_shown(time)}")
    if not datetime.min.year < time.year < datetime.max.year:
        raise InvalidRequest(f"expected a year from 2 to 9998, got {time.year}")
    return (time if time.tzinfo else time.replace(tzinfo=zone)).astimezone(UTC)


def _no_number(got: object, dtype: DType) -> InvalidRequest:
    return InvalidRequest(f"expected a {'number' if dtype.is_float else 'whole number'}, got {_shown(got)}")


def _shown(got: object) -> str:
    """A value as an error shows it: a quote that is never closed makes a cell of the rest of a file."""
    text = repr(got)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def _check_fits(value: float, dtype: DType, got: object) -> None:
    if not math.isfinite(value):
        raise InvalidRequest(f"expected a finite number, got {_shown(got)}")
    low, high = _range(dtype)
    if not low <= value <= high:
        raise InvalidRequest(f"expected a number that fits {dtype}, got {_shown(got)}")


@cache
def _range(dtype: DType) -> tuple[float, float]:
    if dtype is DType.BOOL:
        return 0, 1
    if dtype.is_float:
        largest = float(np.finfo(dtype.numpy).max)
        return -largest, largest
    limits = np.iinfo(dtype.numpy)
    return limits.min, limits.max
