"""A program's own series becomes steps by a model's rules."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from tidegate.errors import InvalidRequest
from tidegate.model.manifest import InputSpec, TimeRules
from tidegate.model.steps import StepMaker
from tidegate.tensor import DType

MIDNIGHT = datetime(2024, 1, 1)
RULES = TimeRules(
    column="t",
    cadence_s=3600,
    missing="mask",
    max_gap_steps=4,
    out_of_order="drop",
    calendar=("hour-of-day",),
)
INPUTS = [
    InputSpec(
        name="x",
        dtype=DType.FLOAT32,
        shape=("batch", "time", 2),
        features=("load", "hour_of_day_cos"),
        accepts_missing=True,
    )
]


def test_a_row_is_an_input_of_the_session_with_the_gap_before_it() -> None:
    maker = StepMaker(INPUTS, RULES)

    first = maker.steps(MIDNIGHT, {"load": 3.5, "note": 7})
    later = maker.steps(MIDNIGHT + timedelta(hours=2), {"load": None})

    np.testing.assert_allclose(first["x"], [[3.5, 1]])
    np.testing.assert_allclose(
        later["x"], [[np.nan, np.cos(np.pi / 12)], [np.nan, np.cos(np.pi / 6)]], rtol=1e-6
    )
    assert later["x"].dtype == np.float32
    assert maker.num_filled == 1


def test_a_row_that_is_dropped_is_no_input_at_all() -> None:
    maker = StepMaker(INPUTS, RULES)
    maker.steps(MIDNIGHT, {"load": 1})

    assert maker.steps(MIDNIGHT.replace(tzinfo=UTC), {"load": 2}) == {}
    assert maker.num_dropped == 1


def test_what_is_wrong_with_a_row_names_the_feature_and_changes_nothing() -> None:
    maker = StepMaker(INPUTS, RULES)
    maker.steps(MIDNIGHT, {"load": 1})

    with pytest.raises(InvalidRequest, match="column 'load': expected a finite number, got inf"):
        maker.steps(MIDNIGHT + timedelta(hours=1), {"load": np.inf})
    with pytest.raises(InvalidRequest, match=r"column 'load': .* there is no such key"):
        maker.steps(MIDNIGHT + timedelta(hours=1), {"lode": 1})
    for stamp in ("2024-01-01T01:00", MIDNIGHT.date(), np.datetime64("2024-01-01T01")):
        with pytest.raises(InvalidRequest, match="time: expected a datetime, got"):
            maker.steps(stamp, {"load": 1})  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match="time: required"):
        maker.steps(None, {"load": 1})

    assert maker.steps(MIDNIGHT + timedelta(hours=1), {"load": 2})["x"].shape == (1, 2)


def test_a_series_without_times_is_taken_as_it_comes() -> None:
    plain = [InputSpec(name="x", dtype=DType.INT16, shape=("batch",))]
    maker = StepMaker(plain, TimeRules(column="t", cadence_s=60, missing="repeat-last"))

    rows = [maker.steps(None, {"x": value}) for value in (4, None, 6)]

    assert [row["x"].tolist() for row in rows] == [[4], [4], [6]]
