"""Which steps may follow which, as one function over arrays.

A session's steps are numbered from 0 without gaps. A row that brings T steps from `first` on is
accepted only if `first` is the number that the session waits for; everything else changes nothing.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from tidegate.errors import WrongStep
from tidegate.tensor import BoolArray, IntArray


class StepVerdict(IntEnum):
    """What the numbers of a row's steps are to its session."""

    NEXT = 0
    """Exactly the steps that come next."""

    DUPLICATE = 1
    """All of them have been accepted before."""

    OVERLAP = 2
    """The first ones have been accepted before, the later ones not."""

    GAP = 3
    """Steps before them are missing."""


def judge_steps(first: IntArray, num_steps: int, expected: IntArray) -> NDArray[np.int8]:
    """Judge the rows of a frame.

    Args:
        first: Number of the first step of each row, shape (n,).
        num_steps: Steps of every row, at least 1.
        expected: Number that each row's session waits for, shape (n,).

    Returns:
        One `StepVerdict` per row, shape (n,).
    """
    known = first < expected
    verdict = np.where(first > expected, StepVerdict.GAP, StepVerdict.NEXT)
    verdict[known] = np.where(
        first[known] + num_steps > expected[known], StepVerdict.OVERLAP, StepVerdict.DUPLICATE
    )
    return verdict.astype(np.int8)


def wrong_step(verdict: int, first: int, num_steps: int, expected: int) -> WrongStep:
    """The error for a row whose verdict is not NEXT."""
    steps = f"step {first}" if num_steps == 1 else f"steps {first} to {first + num_steps - 1}"
    what = {
        StepVerdict.DUPLICATE: f"{steps} had been accepted before",
        StepVerdict.OVERLAP: f"{steps} begin before the next one",
        StepVerdict.GAP: f"{steps} would leave a gap",
    }[StepVerdict(verdict)]
    return WrongStep(f"first_steps: expected {expected}, got {first}: {what}", expected_step=expected)


def repeated(handles: NDArray[np.uint32]) -> BoolArray:
    """Mark every element that occurs more than once, all of its occurrences, shape (n,)."""
    if len(handles) == 1:
        return np.zeros(1, np.bool_)
    order = np.argsort(handles, kind="stable")
    twin = handles[order][1:] == handles[order][:-1]
    mark = np.zeros(len(handles), np.bool_)
    mark[order[1:][twin]] = True
    mark[order[:-1][twin]] = True
    return mark
