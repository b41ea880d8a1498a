"""Which rules about time can be, by themselves and for a model's inputs."""

from __future__ import annotations

import re

import pytest
from pydantic import ValidationError

from tidegate.config import first_problem
from tidegate.model.manifest import InputSpec, TimeRules
from tidegate.model.time_rules import check_time_rules
from tidegate.tensor import DType

HOURLY = {"column": "t", "cadence_s": 3600.0}


def spec(*features: str, dtype: DType = DType.FLOAT32, missing: bool = False) -> InputSpec:
    return InputSpec(
        name="x",
        dtype=dtype,
        shape=("batch", "time", len(features)),
        features=features,
        accepts_missing=missing,
    )


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"max_gap_steps": 3, "missing": "mask", "cadence_s": 60}, "max_gap_steps: needs a column"),
        ({"max_gap_steps": 3, "missing": "mask", "column": "t"}, "max_gap_steps: needs cadence_s"),
        ({"max_gap_steps": 3, **HOURLY}, "max_gap_steps: needs missing = 'repeat-last' or 'mask'"),
        ({"max_gap_steps": -1}, "max_gap_steps: Input should be greater than or equal to 0, got -1"),
        ({"max_gap_steps": 10_001}, "max_gap_steps: Input should be less than or equal to 10000, got 10001"),
        ({"out_of_order": "drop"}, "out_of_order: needs a column"),
        ({"out_of_order": "sort"}, "out_of_order: Input should be 'refuse' or 'drop', got 'sort'"),
        ({"calendar": ("hour-of-day",)}, "calendar: needs a column"),
        ({"calendar": ("month",), "column": "t"}, "calendar.0: Input should be 'minute-of-hour'"),
        ({"calendar": ("hour-of-day",) * 2, "column": "t"}, "calendar: expected each cycle once"),
        ({"time_zone": "Vienna"}, "time_zone: expected the IANA name of a time zone, got 'Vienna'"),
        ({"time_zone": "../UTC"}, "time_zone: expected the IANA name of a time zone, got '../UTC'"),
        ({"time_zone": "Europe"}, "time_zone: expected the IANA name of a time zone, got 'Europe'"),
        ({"time_zone": ""}, "time_zone: expected the IANA name of a time zone, got ''"),
        ({"cadence_s": float("inf")}, "cadence_s: Input should be a finite number"),
        ({"cadence_s": 1e-300}, "cadence_s: expected 0 or at least 1e-06, got 1e-300"),
        ({"missing": "guess"}, "missing: Input should be 'refuse', 'repeat-last' or 'mask', got 'guess'"),
    ],
)
def test_rules_that_cannot_be_are_refused_by_name(keys: dict[str, object], problem: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TimeRules.model_validate(keys)

    assert first_problem(caught.value).startswith(problem)


@pytest.mark.parametrize(
    ("keys", "inputs", "problem"),
    [
        ({"missing": "mask"}, [spec("a")], "time.missing: 'mask' needs an input with accepts_missing"),
        (
            {"missing": "mask", "calendar": ("hour-of-day",), "column": "t"},
            [spec("hour_of_day_sin", missing=True), spec("a")],
            "time.missing: 'mask' needs an input with accepts_missing",
        ),
        (
            {"missing": "mask", "max_gap_steps": 3, **HOURLY},
            [spec("a", missing=True), spec("b")],
            "time.max_gap_steps: with 'mask', input 'x' needs accepts_missing",
        ),
        (
            {"calendar": ("hour-of-day", "day-of-week"), "column": "t"},
            [spec("a", "hour_of_day_sin")],
            "time.calendar: 'day-of-week': expected an input with the feature day_of_week_sin or day_of_week_cos",
        ),
        (
            {"calendar": ("hour-of-day",), "column": "t"},
            [spec("hour_of_day_sin", dtype=DType.INT64)],
            "input 'x' of int64: expected a float type for 'hour_of_day_sin', which is computed",
        ),
    ],
)
def test_rules_that_the_inputs_do_not_fit_are_refused(
    keys: dict[str, object], inputs: list[InputSpec], problem: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        check_time_rules(TimeRules.model_validate(keys), inputs)


def test_rules_that_fit_are_taken() -> None:
    rules = TimeRules(column="t", cadence_s=60, missing="mask", max_gap_steps=5, calendar=("hour-of-day",))

    check_time_rules(rules, [spec("a", missing=True), spec("hour_of_day_cos")])


def test_whole_numbers_cannot_be_missing() -> None:
    with pytest.raises(
        ValidationError, match="accepts_missing: expected a float type, which has NaN, got int64"
    ):
        spec("a", dtype=DType.INT64, missing=True)
