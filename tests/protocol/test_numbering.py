"""The numbering of steps, held against a scalar model of itself."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.protocol.numbering import StepVerdict, judge_steps, repeated, wrong_step

SMALL = range(9)
LENGTHS = range(1, 6)
BEYOND_FLOAT64 = 2**60
"""Neighbouring numbers of this size are one and the same as a float64."""


def scalar_verdict(first: int, num_steps: int, expected: int) -> StepVerdict:
    """What the steps of a row are to a session that has been given the steps before `expected`."""
    steps, given_before = set(range(first, first + num_steps)), set(range(expected))
    if first == expected:
        return StepVerdict.NEXT
    if steps <= given_before:
        return StepVerdict.DUPLICATE
    return StepVerdict.OVERLAP if steps & given_before else StepVerdict.GAP


@pytest.mark.parametrize("num_steps", LENGTHS)
def test_every_small_row_is_judged_as_the_scalar_model_does(num_steps: int) -> None:
    first, expected = (axis.ravel() for axis in np.meshgrid(SMALL, SMALL))

    verdicts = judge_steps(first, num_steps, expected)

    assert verdicts.tolist() == [
        scalar_verdict(f, num_steps, e) for f, e in zip(first.tolist(), expected.tolist(), strict=True)
    ]


def test_small_rows_reach_every_verdict() -> None:
    reached = {scalar_verdict(f, n, e) for f in SMALL for e in SMALL for n in LENGTHS}

    assert reached == set(StepVerdict)


@pytest.mark.parametrize("offset", [-1, 0, 1])
def test_large_numbers_are_told_apart(offset: int) -> None:
    first = np.array([BEYOND_FLOAT64 + offset])

    verdict = judge_steps(first, 1, np.array([BEYOND_FLOAT64]))

    assert verdict.tolist() == [{-1: StepVerdict.DUPLICATE, 0: StepVerdict.NEXT, 1: StepVerdict.GAP}[offset]]


@pytest.mark.parametrize(
    ("first", "num_steps", "expected", "text"),
    [
        (3, 1, 5, "first_steps: expected 5, got 3: step 3 had been accepted before"),
        (3, 4, 5, "first_steps: expected 5, got 3: steps 3 to 6 begin before the next one"),
        (7, 2, 5, "first_steps: expected 5, got 7: steps 7 to 8 would leave a gap"),
    ],
)
def test_an_error_tells_expected_and_got(first: int, num_steps: int, expected: int, text: str) -> None:
    verdict = judge_steps(np.array([first]), num_steps, np.array([expected]))

    error = wrong_step(int(verdict[0]), first, num_steps, expected)

    assert str(error) == text
    assert error.expected_step == expected


@given(st.lists(st.integers(0, 12), max_size=20))
def test_every_occurrence_of_a_repeated_handle_is_marked(handles: list[int]) -> None:
    counts = Counter(handles)

    marks = repeated(np.array(handles, np.uint32))

    assert marks.tolist() == [counts[h] > 1 for h in handles]
