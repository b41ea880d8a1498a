"""What times make of the rows of a file: order, gaps, the calendar and the clocks that are changed."""

from __future__ import annotations

import numpy as np
import pytest

from support.row_files import reader, refusals, spec
from tidegate.errors import ConfigError, InvalidRequest
from tidegate.model.manifest import TimeRules
from tidegate.model.rows import Row

WEEK_S = 7 * 24 * 3600.0
HOUR_S = 3600.0
MASKED = TimeRules(column="t", cadence_s=HOUR_S, missing="mask", max_gap_steps=3)
REPEATED = TimeRules(column="t", cadence_s=HOUR_S, missing="repeat-last", max_gap_steps=3)


def test_stamps_that_repeat_or_go_back_are_refused() -> None:
    text = "t,a\n2024-01-08,1\n2024-01-08,2\n2024-01-01,3\n2024-01-15,4\n"

    found = refusals(reader(text, rules=TimeRules(column="t", cadence_s=WEEK_S)))

    assert found == [
        "row 2: time 2024-01-08 repeats 2024-01-08",
        "row 3: time 2024-01-01 goes back behind 2024-01-08",
    ]


def test_a_gap_is_refused_once() -> None:
    text = "t,a\n2024-01-01,1\n2024-01-15,2\n2024-01-22,3\n"

    found = refusals(reader(text, rules=TimeRules(column="t", cadence_s=WEEK_S)))

    assert found == [
        "row 2: time 2024-01-15 leaves a gap: expected 604800 s after 2024-01-01, got 1.2096e+06 s"
    ]


def test_months_of_different_length_keep_a_cadence() -> None:
    text = "t,a\n2024-01-31,1\n2024-02-29,2\n2024-03-31,3\n"

    rows = list(reader(text, rules=TimeRules(column="t", cadence_s=30.4 * 24 * 3600)))

    assert len(rows) == 3


def test_order_counts_without_a_cadence_and_gaps_do_not() -> None:
    text = "t,a\n2024-01-01,1\n2025-01-01,2\n2024-06-01,3\n"

    found = refusals(reader(text, rules=TimeRules(column="t")))

    assert found == ["row 3: time 2024-06-01 goes back behind 2025-01-01"]


def test_a_row_with_a_bad_cell_still_counts_as_its_time() -> None:
    text = "t,a\n2024-01-01,1\n2024-01-08,hot\n2024-01-15,3\n"

    found = refusals(reader(text, rules=TimeRules(column="t", cadence_s=WEEK_S)))

    assert found == ["row 2: column 'a': expected a number, got 'hot'"]


def test_a_file_without_the_time_column_is_taken_as_it_comes() -> None:
    rows = list(reader("a\n1\n2\n", rules=TimeRules(column="t", cadence_s=WEEK_S)))

    assert [row.time for row in rows] == [None, None]


QUICK = "t,a\n2024-01-01 00:00,1\n2024-01-01 00:29,2\n2024-01-01 00:31,3\n2024-01-01 01:30,4\n"


def test_a_row_that_comes_within_half_a_cadence_is_no_next_step() -> None:
    found = refusals(reader(QUICK, rules=TimeRules(column="t", cadence_s=HOUR_S)))

    assert found == [
        "row 2: time 2024-01-01 00:29:00 comes too early: expected 3600 s after 2024-01-01, got 1740 s"
    ]


def test_a_row_that_comes_within_half_a_cadence_is_dropped_where_the_rule_says_so() -> None:
    rows = reader(QUICK, rules=TimeRules(column="t", cadence_s=HOUR_S, out_of_order="drop"))

    assert [row.steps.num_steps for row in rows] == [1, 0, 1, 1]
    assert rows.num_dropped == 1


def hours(*rows: tuple[int, str], header: str = "t,a") -> str:
    """A file with rows at hours of a day."""
    return "\n".join([header, *(f"2024-01-01 {hour:02}:00,{cells}" for hour, cells in rows)])


def steps_of(row: Row) -> list[list[float]]:
    found: list[list[float]] = row.steps.values[0].tolist()
    return found


def test_a_gap_is_filled_with_masked_steps_before_the_row() -> None:
    rows = reader(hours((0, "1"), (3, "4")), [spec("a", missing=True)], MASKED)

    first, second = rows

    assert steps_of(first) == [[1]]
    np.testing.assert_array_equal(second.steps.values[0], [[np.nan], [np.nan], [4]])
    assert [time.hour for time in second.steps.times] == [1, 2, 3]
    assert (second.number, second.filled, rows.num_filled) == (2, frozenset(), 2)


def test_a_gap_is_filled_with_the_last_values_where_the_rule_says_so() -> None:
    first, second = reader(hours((0, "1,10"), (2, "4,"), header="t,a,b"), [spec("a", "b")], REPEATED)

    assert steps_of(first) == [[1, 10]]
    assert steps_of(second) == [[1, 10], [4, 10]]
    assert second.filled == {"b"}


def test_the_longest_gap_is_filled_and_a_longer_one_refused_once() -> None:
    text = hours((0, "1"), (4, "2"), (9, "3"), (10, "4"))
    rows = reader(text, rules=REPEATED)

    assert [next(rows).steps.num_steps for _ in range(2)] == [1, 4]
    with pytest.raises(InvalidRequest) as caught:
        next(rows)
    assert str(caught.value) == (
        "row 3: time 2024-01-01 09:00:00 leaves a gap of 4 steps after 2024-01-01 04:00:00: "
        "expected at most 3 (max_gap_steps)"
    )
    assert steps_of(next(rows)) == [[4]]


def test_a_row_that_is_refused_leaves_a_gap_that_is_filled() -> None:
    rows = reader(hours((0, "1"), (1, "hot"), (2, "3")), rules=REPEATED)
    next(rows)

    with pytest.raises(InvalidRequest):
        next(rows)

    assert steps_of(next(rows)) == [[1], [3]]


def test_a_refused_row_is_not_what_a_missing_value_repeats() -> None:
    rules = TimeRules(missing="repeat-last")
    rows = reader("a,b\n1,2\n9,hot\n,3\n", [spec("a", "b")], rules)
    next(rows)

    with pytest.raises(InvalidRequest):
        next(rows)

    assert next(rows).values[0].tolist() == [1, 3]


def test_rows_out_of_order_are_dropped_and_counted_where_the_rule_says_so() -> None:
    rules = TimeRules(column="t", cadence_s=HOUR_S, out_of_order="drop", missing="repeat-last")
    rows = reader(hours((1, "1"), (1, "hot"), (0, "5"), (2, "")), rules=rules)

    found = list(rows)

    assert [row.steps.num_steps for row in found] == [1, 0, 0, 1]
    assert [row.time is None for row in found] == [False, True, True, False]
    assert found[3].values[0] == 1
    assert (rows.num_dropped, rows.num_rows) == (2, 4)


def test_features_of_the_calendar_are_computed_and_not_read() -> None:
    rules = TimeRules(column="t", calendar=("hour-of-day",))
    inputs = [spec("hour_of_day_sin", "a", "hour_of_day_cos")]
    text = hours((0, "1,9"), (6, "2,9"), header="t,a,hour_of_day_sin")

    first, second = reader(text, inputs, rules)

    np.testing.assert_allclose(first.values[0], [0, 1, 1], atol=1e-7)
    np.testing.assert_allclose(second.values[0], [1, 2, 0], atol=1e-7)


def test_a_filled_step_has_the_calendar_of_its_own_time() -> None:
    rules = TimeRules.model_validate(dict(MASKED) | {"calendar": ("hour-of-day",)})
    inputs = [spec("a", "hour_of_day_sin", missing=True)]

    _, row = reader(hours((5, "1"), (7, "2")), inputs, rules)

    np.testing.assert_allclose(row.steps.values[0], [[np.nan, 1], [2, np.sin(2 * np.pi * 7 / 24)]], rtol=1e-6)


def test_a_calendar_needs_the_time_column() -> None:
    rules = TimeRules(column="t", calendar=("hour-of-day",))

    with pytest.raises(ConfigError, match=r"file\.csv: column 't': no such column; got a"):
        reader("a\n1\n", [spec("a", "hour_of_day_sin")], rules)


def test_the_hour_that_a_clock_skips_is_no_gap_and_a_local_time_is_in_the_rules_zone() -> None:
    """In Vienna clocks went from 2 to 3 on 2024-03-31."""
    text = "t,a\n2024-03-31 01:00,1\n2024-03-31 03:00,2\n2024-03-31T04:00+02:00,3\n"
    rules = TimeRules.model_validate(dict(MASKED) | {"time_zone": "Europe/Vienna"})

    found = list(reader(text, [spec("a", missing=True)], rules))

    assert [row.steps.num_steps for row in found] == [1, 1, 1]
    assert [row.time.hour for row in found if row.time] == [0, 1, 2]


def test_of_an_hour_that_a_clock_shows_twice_a_time_without_an_offset_is_the_first() -> None:
    """In Vienna clocks went from 3 back to 2 on 2024-10-27."""
    text = "t,a\n2024-10-27 01:00,1\n2024-10-27 02:00,2\n2024-10-27 02:00,3\n2024-10-27 03:00,4\n"
    rules = TimeRules.model_validate(dict(MASKED) | {"time_zone": "Europe/Vienna"})
    rows = reader(text, [spec("a", missing=True)], rules)
    next(rows), next(rows)

    with pytest.raises(InvalidRequest, match=r"row 3: time 2024-10-27 02:00:00\+02:00 repeats"):
        next(rows)

    assert next(rows).steps.num_steps == 2
