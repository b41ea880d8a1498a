"""The file of answers that `tidegate stream` writes."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from tidegate.cli.answers import AnswerFile, AnswerLayout, answer_columns
from tidegate.client import TensorSpec
from tidegate.tensor import DType


def spec(shape: tuple[int, ...], **labels: object) -> TensorSpec:
    return TensorSpec("forecast", DType.FLOAT32, shape, **labels)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("output", "columns"),
    [
        (spec(()), ["forecast"]),
        (spec((1,), features=("co2_ppm",)), ["forecast"]),
        (spec((2,), features=("load", "price")), ["forecast_load", "forecast_price"]),
        (spec((2,)), ["forecast_0", "forecast_1"]),
        (spec((2,), horizon_steps=(1, 4)), ["forecast_h1", "forecast_h4"]),
        (
            spec((2, 2), horizon_steps=(1, 4), quantile_levels=(0.1, 0.9), features=("co2_ppm",)),
            ["forecast_h1_q0.1", "forecast_h1_q0.9", "forecast_h4_q0.1", "forecast_h4_q0.9"],
        ),
        (spec((2, 2)), ["forecast_0_0", "forecast_0_1", "forecast_1_0", "forecast_1_1"]),
        (spec((1, 2), horizon_steps=(1,), quantile_levels=(0.1, 0.9)), ["forecast_q0.1", "forecast_q0.9"]),
    ],
)
def test_columns_are_named_from_the_manifest(output: TensorSpec, columns: list[str]) -> None:
    assert answer_columns(output) == columns


def test_values_keep_every_bit_of_a_float32_and_no_digit_more() -> None:
    file = io.StringIO()
    answers = AnswerFile(file, AnswerLayout([spec((1,))], "week"))
    values = np.array([[0.1], [315.7], [1e-12], [np.nan]], np.float32)

    answers.write(["a", "b", "c", "d"], {"forecast": values})

    assert file.getvalue() == "week,forecast\na,0.1\nb,315.7\nc,1e-12\nd,nan\n"


def test_a_skipped_row_is_empty_behind_its_time() -> None:
    file = io.StringIO()
    answers = AnswerFile(file, AnswerLayout([spec((2,))], "week"))

    answers.write_skipped("1958-03-29")

    assert file.getvalue().splitlines()[1] == "1958-03-29,,"


def test_a_skipped_row_is_there_at_once(tmp_path: Path) -> None:
    """Who feeds a pipe row by row waits for a line before the next row."""
    path = tmp_path / "answers.csv"
    with path.open("w", newline="") as file:
        AnswerFile(file, AnswerLayout([spec((2,))], "week")).write_skipped("1958-03-29")

        assert path.read_text().splitlines()[1] == "1958-03-29,,"


def test_an_input_without_a_time_column_gives_an_output_without_one() -> None:
    file = io.StringIO()
    answers = AnswerFile(file, AnswerLayout([spec((1,))], None))

    answers.write(["", ""], {"forecast": np.zeros((2, 1), np.float32)})

    assert file.getvalue() == "forecast\n0.0\n0.0\n"
