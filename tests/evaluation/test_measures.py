"""Measures by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tidegate.evaluation.measures import (
    absolute_error,
    interval_width,
    is_at_most,
    is_covered,
    pinball_loss,
    squared_error,
)


def test_errors_are_those_of_each_element() -> None:
    point, truth = np.array([1.0, 4.0]), np.array([3.0, 3.5])

    assert squared_error(point, truth).tolist() == [4.0, 0.25]
    assert absolute_error(point, truth).tolist() == [2.0, 0.5]


def test_float32_forecasts_are_scored_in_float64() -> None:
    point, truth = np.array([16777217.0], np.float32), np.array([16777217.0])

    assert squared_error(point, truth).tolist() == [1.0]


def test_the_pinball_loss_weighs_both_sides_by_the_level() -> None:
    quantiles = np.array([[10.0, 20.0], [10.0, 20.0]])

    loss = pinball_loss(quantiles, (0.1, 0.9), np.array([14.0, 22.0]))

    # 14: 4 above the first (0.1 · 4), 6 below the second (0.1 · 6). 22: 0.1 · 12 and 0.9 · 2.
    assert loss.tolist() == pytest.approx([(0.4 + 0.6) / 2, (1.2 + 1.8) / 2])


def test_the_pinball_loss_of_the_median_is_half_the_absolute_error(rng: np.random.Generator) -> None:
    median, truth = rng.normal(size=(50, 1)), rng.normal(size=50)

    assert pinball_loss(median, (0.5,), truth) == pytest.approx(absolute_error(median[:, 0], truth) / 2)


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
def test_the_pinball_loss_is_least_at_the_quantile(level: float) -> None:
    truth = np.arange(101.0)

    def loss(quantile: float) -> float:
        return float(pinball_loss(np.full((101, 1), quantile), (level,), truth).mean())

    assert min(range(101), key=loss) == round(100 * level)


def test_the_interval_includes_its_ends() -> None:
    quantiles = np.array([[1.0, 2.0, 3.0]] * 5)

    covered = is_covered(quantiles, np.array([0.9, 1.0, 2.5, 3.0, 3.1]))

    assert covered.tolist() == [False, True, True, True, False]
    assert interval_width(quantiles).tolist() == [2.0] * 5


def test_a_value_is_at_most_the_quantiles_that_it_does_not_exceed() -> None:
    assert is_at_most(np.array([[1.0, 2.0, 3.0]]), np.array([2.0])).tolist() == [[False, True, True]]


def test_what_was_not_measured_is_neither_in_nor_out() -> None:
    quantiles, truth = np.array([[1.0, 2.0]]), np.array([np.nan])

    assert np.isnan(pinball_loss(quantiles, (0.1, 0.9), truth)).all()
    assert not is_covered(quantiles, truth).any()
    assert not is_at_most(quantiles, truth).any()
