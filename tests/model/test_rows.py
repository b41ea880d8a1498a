"""Rows of a file become steps, and a row that cannot is refused with its number."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator

import numpy as np
import pytest

from support.row_files import reader, refusals, spec
from tidegate.errors import ConfigError, InvalidRequest
from tidegate.model.manifest import InputSpec, TimeRules
from tidegate.model.rows import Row, RowReader
from tidegate.model.time_rules import feature_names
from tidegate.tensor import DType

WEEK_S = 7 * 24 * 3600.0


def test_columns_are_found_by_the_names_of_the_features() -> None:
    inputs = [spec("b", "a"), spec("c", name="z", dtype=DType.INT64)]

    rows = list(reader("c,a,note,b\n1,2.5,hello,3\n4,5,,6\n", inputs))

    assert [row.number for row in rows] == [1, 2]
    assert rows[0].values[0].tolist() == [3.0, 2.5]
    assert rows[0].values[0].dtype == np.float32
    assert rows[1].values[1].tolist() == [4]
    assert rows[1].values[1].dtype == np.int64


def test_a_single_number_without_a_feature_has_its_inputs_name() -> None:
    bare = InputSpec(name="x", dtype=DType.FLOAT32, shape=("batch",))

    (row,) = reader("x\n7\n", [bare])

    assert row.values[0].shape == ()
    assert row.values[0] == 7


def test_an_input_of_many_elements_without_names_cannot_come_from_columns() -> None:
    audio = InputSpec(name="audio", dtype=DType.FLOAT32, shape=("batch", 512))

    with pytest.raises(ConfigError, match="input 'audio': 512 elements but 0 named features"):
        feature_names(audio)


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ("b,c", "file.csv: column 'a': no such column; got b, c"),
        ("a,b,a", "file.csv: column 'a': more than once; got a, b, a"),
        ("", "file.csv: expected a header with column names, got an empty file"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(header: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(problem)):
        reader(header)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("2,hot", "row 2: column 'a': expected a number, got 'hot'"),
        ("2,inf", "row 2: column 'a': expected a finite number, got 'inf'"),
        ("2,1e400", "row 2: column 'a': expected a finite number, got '1e400'"),
        ("2,4e38", "row 2: column 'a': expected a number that fits float32, got '4e38'"),
        ("2,", "row 2: column 'a': expected a number, got a missing value"),
        ("2,1_000", "row 2: column 'a': expected a number, got '1_000'"),
        ("2,NaN", "row 2: column 'a': expected a number, got a missing value"),
        ("2", "row 2: expected 2 cells, got 1"),
        ("2,3,4", "row 2: expected 2 cells, got 3"),
    ],
)
def test_a_bad_row_is_refused_by_number_and_column_and_reading_goes_on(row: str, problem: str) -> None:
    rows = reader(f"t,a\n1,10\n{row}\n3,30\n")

    assert next(rows).values[0] == 10
    with pytest.raises(InvalidRequest, match=re.escape(problem)):
        next(rows)
    last = next(rows)
    assert (last.number, last.values[0]) == (3, 30)


@pytest.mark.parametrize("cell", ["2.5", "1e3", "two"])
def test_a_whole_number_is_needed_for_an_integer_input(cell: str) -> None:
    rows = reader(f"a\n{cell}\n", [spec("a", dtype=DType.INT32)])

    with pytest.raises(InvalidRequest, match=f"row 1: column 'a': expected a whole number, got '{cell}'"):
        next(rows)


def test_a_whole_number_must_fit_its_type() -> None:
    rows = reader("a\n300\n", [spec("a", dtype=DType.UINT8)])

    with pytest.raises(
        InvalidRequest, match="row 1: column 'a': expected a number that fits uint8, got '300'"
    ):
        next(rows)


def test_a_missing_value_repeats_the_last_one_where_the_rule_says_so() -> None:
    rows = list(reader("a,b\n1,10\n,20\nnan,\n4,40\n", [spec("a", "b")], TimeRules(missing="repeat-last")))

    assert [row.values[0].tolist() for row in rows] == [[1, 10], [1, 20], [1, 20], [4, 40]]
    assert [sorted(row.filled) for row in rows] == [[], ["a"], ["a", "b"], []]


def test_there_is_nothing_to_repeat_before_the_first_value() -> None:
    rows = reader("a,b\n,1\n5,2\n", [spec("a", "b")], TimeRules(missing="repeat-last"))

    with pytest.raises(
        InvalidRequest, match="row 1: column 'a': missing value, and none before it to repeat"
    ):
        next(rows)
    assert next(rows).number == 2


def test_a_missing_value_is_sent_as_nan_where_the_rule_is_to_mask() -> None:
    (row,) = reader("a,b\n,2\n", [spec("a", "b", missing=True)], TimeRules(missing="mask"))

    assert math.isnan(row.values[0][0])
    assert row.values[0][1] == 2
    assert row.filled == {"a"}


def test_an_input_that_takes_no_nan_is_sent_none() -> None:
    inputs = [spec("a", missing=True), spec("b", name="z")]
    rows = reader("a,b\n,1\n2,\n", inputs, TimeRules(missing="mask"))

    assert math.isnan(next(rows).values[0][0])
    with pytest.raises(InvalidRequest, match="row 2: column 'b': expected a number, got a missing value"):
        next(rows)


def test_an_input_that_takes_nan_is_sent_none_that_the_rule_refuses() -> None:
    rows = reader('a\n""\n', [spec("a", missing=True)])

    with pytest.raises(InvalidRequest, match="row 1: column 'a': expected a number, got a missing value"):
        next(rows)


def test_a_time_that_is_none_is_refused_by_row() -> None:
    rows = reader("t,a\n08/01/2024,1\n", rules=TimeRules(column="t"))

    with pytest.raises(InvalidRequest, match="row 1: expected an ISO 8601 date or time, got '08/01/2024'"):
        next(rows)


def test_the_stamp_of_the_newest_row_is_there_as_written_even_if_the_row_is_refused() -> None:
    rows = reader("a,t\n1,2024-01-01\nx, soon\n3\n", rules=TimeRules(column="t"))
    seen = []

    for _ in range(3):
        with contextlib.suppress(InvalidRequest):
            next(rows)
        seen.append(rows.time_text)

    assert seen == ["2024-01-01", " soon", ""]


def test_rows_are_read_one_at_a_time() -> None:
    def endless() -> Iterator[str]:
        yield "a\n"
        k = 0
        while True:
            k += 1
            yield f"{k}\n"

    rows = RowReader(endless(), [spec("a")], TimeRules(), source="pipe")

    taken: list[Row] = [next(rows) for _ in range(1000)]

    assert taken[-1].number == 1000


def test_quotes_blank_lines_and_a_byte_order_mark_are_read() -> None:
    rows = list(reader('\ufeff"a"\n"1"\n\n2\n'))

    assert [row.values[0][0] for row in rows] == [1, 2]
    assert [row.number for row in rows] == [1, 2]


def test_a_column_without_a_name_is_no_time_of_a_model_that_names_none() -> None:
    """Tables with an index are written so."""
    rows = reader(",a\n0,1\n1,2\n")

    assert [row.values[0].item() for row in rows] == [1, 2]
    assert (rows.time_column, rows.time_text) == (None, "")


def test_a_header_that_is_no_csv_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"file\.csv: expected a header with column names: field larger"):
        reader("a" * 200_000)


def test_a_cell_that_is_too_long_is_refused_by_row_and_reading_goes_on() -> None:
    rows = reader(f"a\n1\n{'2' * 200_000}\n3\n")

    assert refusals(rows) == ["row 2: field larger than field limit (131072)"]
    assert rows.num_rows == 3
