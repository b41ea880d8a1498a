"""Where a resumed session goes on, held against a scalar statement of the rule."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.errors import Displaced, SessionLost
from tidegate.protocol.resume import (
    NO_EPOCH,
    NO_STATE,
    UNSET,
    EpochVerdict,
    choose_steps,
    epoch_error,
    judge_epochs,
    no_state_error,
)

SMALL = range(-1, 5)
TRUE = np.array([True])
BEYOND_FLOAT64 = 2**60
"""Neighbouring numbers of this size are one and the same as a float64."""


def scalar_choice(states: list[int], have: int, held_from: int, can_begin: bool) -> int:
    """The rule for one session: of the states that there are, those that the client can go on from."""
    exist = {step for step in states if step >= 0}
    if have == UNSET:
        return max((p for p in exist if p >= held_from), default=NO_STATE)
    possible = range(have if held_from == UNSET else held_from, have + 1)
    return max((p for p in exist | ({0} if can_begin else set()) if p in possible), default=NO_STATE)


@pytest.mark.parametrize("can_begin", [False, True])
def test_every_small_resume_goes_on_where_the_scalar_rule_says(can_begin: bool) -> None:
    cases = np.array(list(product(SMALL, repeat=5)))

    chosen = choose_steps(cases[:, :3].T, cases[:, 3], cases[:, 4], np.full(len(cases), can_begin))

    assert chosen.tolist() == [scalar_choice(c[:3], c[3], c[4], can_begin) for c in cases.tolist()]
    assert chosen.dtype == np.int64


def test_small_resumes_reach_every_answer() -> None:
    reached = {scalar_choice([a], have, held, True) for a, have, held in product(SMALL, repeat=3)}

    assert reached == set(SMALL)


@pytest.mark.parametrize("offset", [-1, 0, 1])
def test_large_steps_are_told_apart(offset: int) -> None:
    have = np.array([BEYOND_FLOAT64])

    chosen = choose_steps(np.array([[BEYOND_FLOAT64 + offset]]), have, have, TRUE)

    assert chosen.tolist() == [BEYOND_FLOAT64 if offset == 0 else NO_STATE]


def test_a_session_without_any_candidate_is_not_found() -> None:
    none = np.zeros((0, 1), np.int64)

    assert choose_steps(none, np.array([3]), np.array([2]), TRUE).tolist() == [NO_STATE]


def scalar_verdict(stored: int, told: int, is_opener: bool) -> EpochVerdict:
    """What a client that was told this epoch has missed."""
    if told in (NO_EPOCH, stored):
        return EpochVerdict.CURRENT
    if told > stored:
        return EpochVerdict.STORE_BEHIND
    return EpochVerdict.CURRENT if is_opener else EpochVerdict.TAKEN_OVER


def test_every_small_epoch_is_judged_as_the_scalar_rule_does() -> None:
    cases = list(product(range(1, 5), range(5), (False, True)))
    stored, told, is_opener = zip(*cases, strict=True)

    verdicts = judge_epochs(np.array(stored), np.array(told), np.array(is_opener))

    assert verdicts.tolist() == [scalar_verdict(*case) for case in cases]
    assert set(verdicts.tolist()) == set(EpochVerdict)


@pytest.mark.parametrize(
    ("have", "held_from", "steps", "text"),
    [
        (9, 5, [12, -1, 3], "a state at a step in [5, 9], got states at steps 3, 12; durable is step 3"),
        (9, -1, [12, 3, 3], "a state at step 9, got states at steps 3, 12; durable is step 3"),
        (9, 9, [12, -1, -1], "a state at step 9, got states at steps 12; durable is step 3"),
        (-1, -1, [-1, -1, -1], "a state at any step, got none; durable is step 3"),
        (-1, 4, [3, -1, -1], "a state at step 4 or later, got states at steps 3; durable is step 3"),
    ],
)
def test_a_loss_tells_what_was_asked_for_and_what_exists(
    have: int, held_from: int, steps: list[int], text: str
) -> None:
    error = no_state_error("a", have, held_from, steps, 3)

    assert str(error) == f"session 'a': have, held_from: expected {text}"
    assert (error.next_step, error.durable_step) == (max(*steps, 0), 3)


def test_a_loss_with_an_unknown_base_reports_the_initial_state_as_durable() -> None:
    assert no_state_error("a", 1, 1, [NO_STATE], NO_STATE).durable_step == 0


def test_a_store_that_fell_behind_is_a_loss_with_the_last_steps() -> None:
    error = epoch_error(EpochVerdict.STORE_BEHIND, "a", 4, 7, 12, 10)

    assert isinstance(error, SessionLost)
    assert "session 'a': epoch: expected at most 4, got 7" in str(error)
    assert (error.next_step, error.durable_step) == (12, 10)


def test_a_session_that_was_taken_over_is_no_loss() -> None:
    error = epoch_error(EpochVerdict.TAKEN_OVER, "a", 7, 4, 12, 10)

    assert isinstance(error, Displaced)
    assert "session 'a': epoch: expected 7, got 4" in str(error)
    assert error.next_step == 12


STEPS = st.integers(-1, 2**62)


@given(st.lists(st.tuples(STEPS, STEPS, STEPS, STEPS, STEPS), min_size=1, max_size=8))
def test_sessions_of_any_length_are_chosen_for_as_the_scalar_rule_says(rows: list[tuple[int, ...]]) -> None:
    cases = np.array(rows, np.int64)

    chosen = choose_steps(cases[:, :3].T, cases[:, 3], cases[:, 4], np.ones(len(cases), np.bool_))

    assert chosen.tolist() == [scalar_choice(list(row[:3]), row[3], row[4], True) for row in rows]
