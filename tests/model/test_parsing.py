"""Stamps and numbers as people and programs write them."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from tidegate.errors import InvalidRequest
from tidegate.model.parsing import check_number, parse_cell, parse_time
from tidegate.tensor import DType


def test_times_with_and_without_a_zone_compare() -> None:
    assert parse_time("2024-01-01T12:00:00+02:00") == parse_time("2024-01-01 10:00")
    assert parse_time("2024-01-01") == parse_time("2024-01-01T00:00:00Z")


def test_a_time_without_a_zone_is_in_the_one_that_is_given() -> None:
    vienna = ZoneInfo("Europe/Vienna")

    assert parse_time("2024-07-01 12:00", vienna) == parse_time("2024-07-01 10:00")
    assert parse_time("2024-01-01 12:00", vienna) == parse_time("2024-01-01 11:00")
    assert parse_time("2024-07-01 12:00Z", vienna) == parse_time("2024-07-01 12:00")


@pytest.mark.parametrize("text", ["0001-01-01T00:00+02:00", "9999-12-31T23:00-02:00"])
def test_a_time_at_the_end_of_the_calendar_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="expected a year from 2 to 9998"):
        parse_time(text)


@pytest.mark.parametrize(
    "text", ["1704067200", "1704062912000", "1704067200.0", "20240101120000", "soon", ""]
)
def test_what_counts_from_1970_or_is_no_time_at_all_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="expected an ISO 8601 date or time"):
        parse_time(text)


def test_a_long_cell_is_not_repeated_in_full() -> None:
    for parse in (parse_time, lambda text: parse_cell(text, DType.FLOAT32)):
        with pytest.raises(InvalidRequest) as caught:
            parse("x" * 100_000)

        assert len(str(caught.value)) < 150


@pytest.mark.parametrize("value", [None, np.nan, np.float32("nan")])
def test_no_number_from_a_program_is_missing(value: object) -> None:
    assert check_number(value, DType.FLOAT32) is None


@pytest.mark.parametrize(
    ("value", "dtype", "problem"),
    [
        ("2", DType.FLOAT32, "expected a number, got '2'"),
        ([1, 2], DType.FLOAT32, r"expected a number, got \[1, 2\]"),
        (datetime(2024, 1, 1), DType.FLOAT32, "expected a number, got datetime"),
        (np.inf, DType.FLOAT32, "expected a finite number, got inf"),
        (1e39, DType.FLOAT32, "expected a number that fits float32, got 1e\\+39"),
        (2.5, DType.INT8, "expected a whole number, got 2.5"),
        (300, DType.INT8, "expected a number that fits int8, got 300"),
        (10**30, DType.INT64, "expected a"),
    ],
)
def test_what_an_input_cannot_hold_is_refused(value: object, dtype: DType, problem: str) -> None:
    with pytest.raises(InvalidRequest, match=problem):
        check_number(value, dtype)


@pytest.mark.parametrize("value", [3, np.int16(3), True + 2, np.array(3)])
def test_numbers_of_python_and_numpy_will_do(value: object) -> None:
    assert check_number(value, DType.INT8) == 3
    assert check_number(value, DType.FLOAT32) == 3
