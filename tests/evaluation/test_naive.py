"""The naive forecasts know what a session knows, and no more."""

from __future__ import annotations

import numpy as np

from tidegate.evaluation.naive import last_known, repeat_last, same_season

NAN = np.nan


def column(*values: float) -> np.ndarray:
    return np.array(values)[:, None]


def test_the_last_known_value_stands_in_for_what_was_not_measured() -> None:
    known = last_known(np.array([[NAN, 1.0], [5.0, NAN], [NAN, 3.0]]))

    np.testing.assert_array_equal(known, [[NAN, 1.0], [5.0, 1.0], [5.0, 3.0]])


def test_repeat_last_says_the_same_for_every_horizon() -> None:
    made = repeat_last(last_known(column(1, 2, NAN, 4)), np.array([1, 2]), 3)

    assert made.tolist() == [[[2, 2, 2]], [[2, 2, 2]]]


def test_same_season_takes_the_newest_season_that_was_seen_whole() -> None:
    known = column(*range(10))

    made = same_season(known, np.array([5]), np.arange(1, 8), season_steps=3)

    # Rows 3, 4, 5 are the last season at row 5; rows 6, 7, 8 repeat them, and so do all that follow.
    assert made.tolist() == [[[3, 4, 5, 3, 4, 5, 3]]]


def test_before_there_was_a_season_the_last_value_stands_in() -> None:
    known = last_known(column(NAN, 1, 2, 3))

    made = same_season(known, np.array([1, 2]), np.array([1, 2]), season_steps=3)

    # At row 1 the season begins before the file; at row 2 its first value was not measured.
    assert made.tolist() == [[[1, 1]], [[2, 1]]]


def test_no_naive_forecast_looks_ahead(rng: np.random.Generator) -> None:
    truth = rng.normal(size=(40, 2))
    changed = truth.copy()
    changed[21:] = 99
    origins, horizons = np.arange(21), np.arange(1, 13)

    for season_steps in (1, 5, 24):
        before = same_season(last_known(truth), origins, horizons, season_steps)
        after = same_season(last_known(changed), origins, horizons, season_steps)
        assert before.tolist() == after.tolist()
