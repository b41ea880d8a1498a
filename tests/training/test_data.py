"""A recipe's series has the steps that a session will have."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pytest

from tidegate.errors import ConfigError
from tidegate.training.data import Series, input_spec, read_series, split_series
from tidegate.training.data_recipe import DataRecipe
from tidegate.training.recipe import read_recipe

RULES = {"column": "day", "cadence_s": 86400, "missing": "repeat-last", "max_gap_steps": 3}
FILE = "day,level\n2020-01-06,1\n2020-01-07,\n2020-01-10,4\n2020-01-10,5\n2020-01-11,6\n"


def data_recipe(**rules: object) -> DataRecipe:
    return DataRecipe.model_validate(
        {
            "file": "tiny.csv",
            "columns": ({"name": "level", "unit": "m"},),
            "target": "level",
            "time": RULES | rules,
            "validation_from": "2020-04-01",
            "test_from": "2020-05-01",
        }
    )


def series(tmp_path: Path, data: DataRecipe) -> Series:
    path = tmp_path / "tiny.csv"
    path.write_text(FILE)
    return read_series(path, data)


def test_gaps_are_filled_and_their_steps_were_not_observed(tmp_path: Path) -> None:
    found = series(tmp_path, data_recipe(out_of_order="drop"))

    assert found.times.astype("datetime64[D]").astype(str).tolist() == [
        f"2020-01-{day:02}" for day in (6, 7, 8, 9, 10, 11)
    ]
    assert found.target.tolist() == [1, 1, 1, 1, 4, 6]
    assert found.observed.tolist() == [True, False, False, False, True, True]
    assert (found.num_filled, found.num_dropped) == (2, 1)


def test_what_is_masked_arrives_as_nan_in_an_input_that_takes_it(tmp_path: Path) -> None:
    data = data_recipe(missing="mask", out_of_order="drop")

    found = series(tmp_path, data)

    np.testing.assert_array_equal(found.target, np.array([1, np.nan, np.nan, np.nan, 4, 6], np.float32))
    assert input_spec(data).accepts_missing


def test_the_calendar_stands_behind_the_columns(tmp_path: Path) -> None:
    data = data_recipe(calendar=("day-of-week",), out_of_order="drop")

    found, spec = series(tmp_path, data), input_spec(data)

    assert spec.features == ("level", "day_of_week_sin", "day_of_week_cos")
    assert (spec.units, spec.step_shape) == (("m", "", ""), (3,))
    angle = 2 * np.pi * np.arange(6) / 7  # the first day is a Monday
    np.testing.assert_allclose(found.values[:, 1:], np.stack([np.sin(angle), np.cos(angle)], 1), atol=1e-6)


@pytest.mark.parametrize(
    ("zone", "moment", "rows_before"),
    [
        ("UTC", "2020-04-01", 48),
        ("Asia/Tokyo", "2020-04-01", 39),
        ("UTC", "2020-04-01T05:00:00", 53),
        ("Asia/Tokyo", "2020-04-01T05:00:00", 44),
        ("Asia/Tokyo", "2020-04-01T05:00:00Z", 53),
        ("America/Havana", "2020-03-29", 0),
    ],
)
def test_a_part_begins_at_a_day_or_a_time_in_the_rules_zone(
    tmp_path: Path, zone: str, moment: str, rows_before: int
) -> None:
    path = tmp_path / "tiny.csv"
    first = dt.datetime(2020, 3, 30)
    path.write_text("day,level\n" + "".join(f"{first + dt.timedelta(hours=h)}Z,1\n" for h in range(60)))
    data = DataRecipe.model_validate(
        data_recipe().model_dump() | {"time": {"column": "day", "time_zone": zone}, "validation_from": moment}
    )

    found = read_series(path, data)

    assert found.rows_before(data.validation_begin) == rows_before


def test_a_duplicate_is_refused_by_row_where_it_is_not_dropped(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tiny\.csv: row 4: time 2020-01-10 repeats 2020-01-10"):
        series(tmp_path, data_recipe())


def test_a_computed_feature_is_no_column(recipe_path: Path) -> None:
    text = recipe_path.read_text().replace('name = "level"', 'name = "day_of_week_sin"')
    text = text.replace('target = "level"', 'target = "day_of_week_sin"')
    recipe_path.write_text(text.replace('column = "day"', 'column = "day"\ncalendar = ["day-of-week"]'))

    with pytest.raises(ConfigError, match="columns: 'day_of_week_sin' is computed from the calendar"):
        read_recipe(recipe_path)


def test_rows_behind_the_end_are_in_no_part(recipe_path: Path) -> None:
    text = recipe_path.read_text().replace("[data.time]", "test_until = 2020-06-01T00:00:00Z\n\n[data.time]")
    recipe_path.write_text(text)
    recipe = read_recipe(recipe_path).recipe

    split = split_series(read_series(recipe_path.with_name("tiny.csv"), recipe.data), recipe)

    assert (split.train, split.validation, split.test) == (slice(0, 91), slice(91, 135), slice(135, 152))
