"""Which steps an output file stands for, and which of them are held to be sent again."""

from __future__ import annotations

import numpy as np
import pytest

from support.row_files import reader
from tidegate.cli.kept_answers import KeptAnswers
from tidegate.cli.replaying import BLOCK_ROWS, AnsweredSteps, read_answered
from tidegate.model.manifest import TimeRules
from tidegate.model.rows import RowReader

GAPS_REPEAT = TimeRules(column="t", cadence_s=86400, missing="repeat-last", max_gap_steps=3)


def two_gaps() -> RowReader:
    """Rows of 1, 3, 1 and 2 steps, and one behind them."""
    days = (1, 4, 5, 7, 8)
    return reader("t,a\n" + "".join(f"2024-01-0{day},{day}\n" for day in days), rules=GAPS_REPEAT)


def held(answered: AnsweredSteps) -> list[float]:
    values: list[float] = np.concatenate([block[0][:, 0] for block in answered.held]).tolist()
    return values


def test_rows_are_as_many_steps_as_the_rules_make_of_them() -> None:
    rows = two_gaps()

    answered = read_answered(rows, KeptAnswers(0, b"\1\1\1\1", first_step=10), stored_step=0)

    assert (answered.first_step, answered.next_step) == (10, 17)
    assert held(answered) == [1, 1, 1, 4, 5, 5, 7]
    assert next(rows).values[0] == 8


@pytest.mark.parametrize(
    ("stored", "first", "values"),
    [
        (11, 11, [1, 1, 4, 5, 5, 7]),
        (13, 11, [1, 1, 4, 5, 5, 7]),
        (14, 14, [5, 5, 7]),
        (17, 17, []),
        (99, 17, []),
    ],
)
def test_only_rows_that_the_server_has_not_stored_are_held(
    stored: int, first: int, values: list[float]
) -> None:
    answered = read_answered(two_gaps(), KeptAnswers(0, b"\1\1\1\1", first_step=10), stored_step=stored)

    assert (answered.first_step, answered.next_step) == (first, 17)
    assert (held(answered) if answered.held else []) == values


def test_a_row_that_the_server_had_refused_was_no_step() -> None:
    answered = read_answered(two_gaps(), KeptAnswers(0, b"\1\0\1", first_step=0), stored_step=0)

    assert (answered.next_step, held(answered)) == (2, [1, 5])


def test_many_rows_are_held_in_few_arrays() -> None:
    rows = reader("a\n" + "1\n" * (2 * BLOCK_ROWS + 1))

    answered = read_answered(rows, KeptAnswers(0, b"\1" * (2 * BLOCK_ROWS + 1), 0), stored_step=0)

    assert [len(block[0]) for block in answered.held] == [BLOCK_ROWS, BLOCK_ROWS, 1]
