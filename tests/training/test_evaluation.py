"""Scores on a series small enough to score by hand."""

from __future__ import annotations

import numpy as np

from tidegate.training.data import Series
from tidegate.training.evaluation import score


def make_series(target: list[float], missing: tuple[int, ...] = ()) -> Series:
    values = np.array(target, np.float32)
    days = np.datetime64("2020-01-01") + np.arange(len(target))
    observed = np.array([k not in missing for k in range(len(target))])
    return Series(days, values[:, None], values, observed, sha256="")


def test_errors_are_means_over_the_futures_inside_the_split() -> None:
    series = make_series([0, 1, 0, 1, 10, 20, 30])
    forecasts = np.full((3, 2, 3), [5, 11, 15], np.float32)

    scores = score(forecasts, series, slice(4, 7), season_steps=2)

    # One step ahead: 20 and 30 are forecast at rows 4 and 5. Two ahead: 30, at row 4. Row 6 sees none.
    assert scores.model.tolist() == [(9 + 19) / 2, 19]
    assert scores.repeat_last.tolist() == [10, 20]
    assert scores.same_season.tolist() == [(19 + 20) / 2, 20]
    assert scores.coverage.tolist() == [0, 0]
    assert scores.num_forecasts == 3


def test_futures_that_were_not_measured_do_not_count() -> None:
    series = make_series([0, 1, 2, 3, 4], missing=(3,))
    forecasts = np.full((3, 1, 3), [0, 3, 4], np.float32)

    scores = score(forecasts, series, slice(2, 5), season_steps=2)

    assert scores.num_forecasts == 1
    assert scores.model.tolist() == [1]
    assert scores.coverage.tolist() == [1]


def test_a_future_beyond_its_split_does_not_count() -> None:
    series = make_series([0, 1, 2, 3, 4, 5], missing=(1,))

    future, counts = series.futures(2, slice(0, 4))

    assert counts.tolist() == [[False, True], [True, True], [True, False], [False, False]]
    assert future[counts].tolist() == [2, 2, 3, 3]


def test_only_horizons_that_exist_are_reported() -> None:
    series = make_series([0, 1, 2, 3, 4])
    scores = score(np.zeros((3, 1, 3), np.float32), series, slice(2, 5), season_steps=2)

    assert scores.summary((1, 4)) == {
        "mae_model": {"1": 3.5},
        "mae_repeat_last": {"1": 1.0},
        "mae_same_season": {"1": 2.0},
        "interval_coverage": {"1": 0.0},
    }
