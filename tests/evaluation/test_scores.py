"""Averages over windows, horizons and targets, against loops that anybody can read."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from tidegate.evaluation.forecasts import Block
from tidegate.evaluation.predicted import Predicted
from tidegate.evaluation.scores import Tally
from tidegate.evaluation.split import Split

LEVELS = (0.1, 0.5, 0.9)
HORIZONS = (1, 2, 3, 4, 5)


def look(targets: int, levels: tuple[float, ...] = LEVELS) -> Predicted:
    names = tuple(f"t{i}" for i in range(targets))
    return Predicted(0, names, ("",) * targets, HORIZONS, levels, is_rolled=False)


def blocks(forecasts: np.ndarray, split: Split, sizes: tuple[int, ...]) -> list[Block]:
    """Forecasts made at the rows of a split, and at its last one, in pieces."""
    edges = np.cumsum([0, *sizes])
    rows = np.arange(split.origins.start, split.stop)
    return [Block(rows[a:b], forecasts[a:b], []) for a, b in pairwise(edges.tolist())]


def by_hand(
    truth: np.ndarray, forecasts: np.ndarray, split: Split, longest: int, std: np.ndarray
) -> dict[str, float]:
    """The average up to a horizon, value by value."""
    errors: dict[str, list[float]] = {"mse": [], "mae": [], "interval_coverage": [], "mae_repeat_last": []}
    for i, origin in enumerate(split.origins):
        if origin + longest >= split.stop:
            continue
        for m in range(truth.shape[1]):
            for k in range(longest):
                came = truth[origin + k + 1, m]
                if math.isnan(came):
                    continue
                low, middle, high = forecasts[i, m, k]
                seen = truth[: origin + 1, m]
                last = seen[~np.isnan(seen)][-1]
                errors["mse"].append(((middle - came) / std[m]) ** 2)
                errors["mae"].append(abs(middle - came) / std[m])
                errors["interval_coverage"].append(float(low <= came <= high))
                errors["mae_repeat_last"].append(abs(last - came) / std[m])
    return {name: float(np.mean(values)) for name, values in errors.items()}


@pytest.mark.parametrize("split", [Split(10, 30), Split(0, 40)], ids=["inside", "whole"])
def test_averages_are_those_of_a_plain_loop(split: Split, rng: np.random.Generator) -> None:
    truth = rng.normal(size=(40, 3)) * [1, 10, 100]
    truth[rng.random(truth.shape) < 0.2] = np.nan
    truth[0] = 0
    num_rows = split.stop - split.origins.start
    forecasts = np.sort(rng.normal(size=(num_rows, 3, 5, 3)) * 10)
    std = np.array([1.0, 10.0, 100.0])

    tally = Tally(truth, split, look(3), HORIZONS, (1, 4), season_steps=0)
    for block in blocks(forecasts, split, (7, 1, num_rows - 8)):
        tally.add(block)

    found = tally.up_to.overall(std)
    for column, longest in enumerate((1, 4)):
        for name, expected in by_hand(truth, forecasts, split, longest, std).items():
            assert found[name][column] == pytest.approx(expected), (name, longest)


def test_a_longer_horizon_has_fewer_windows() -> None:
    truth = np.zeros((20, 1))
    truth[19] = 1  # the last row, which only short windows near the end see
    split = Split(10, 20)
    tally = Tally(truth, split, look(1), HORIZONS, (1, 5), season_steps=0)

    for block in blocks(np.zeros((11, 1, 5, 3)), split, (11,)):
        tally.add(block)

    # Ten windows of one value; six of five values, one of which ends with the row that differs.
    assert tally.up_to.count.tolist() == [[10, 30]]
    assert tally.up_to.of_target(0)["mae"].tolist() == [1 / 10, 1 / 30]


def test_steps_ahead_are_also_told_one_by_one() -> None:
    split = Split(3, 8)
    truth = np.arange(8.0)[:, None]
    tally = Tally(truth, split, look(1, ()), HORIZONS, (5,), season_steps=2)

    for block in blocks(np.zeros((6, 1, 5, 1)) + truth[2:8, :, None, None], split, (6,)):
        tally.add(block)

    assert tally.at.count.tolist() == [[5, 4, 3, 2, 1]]
    assert tally.at.of_target(0)["mae"].tolist() == [1, 2, 3, 4, 5]
    assert tally.at.of_target(0)["mae_same_season"].tolist() == [2, 2, 4, 4, 6]
    assert "pinball" not in tally.at.of_target(0)


def test_rows_before_anything_was_measured_do_not_count() -> None:
    truth = np.array([[np.nan], [np.nan], [1.0], [2.0]])
    split = Split(0, 4)
    tally = Tally(truth, split, look(1), HORIZONS, (1,), season_steps=0)

    for block in blocks(np.zeros((4, 1, 5, 3)), split, (4,)):
        tally.add(block)

    assert tally.up_to.count.tolist() == [[1]]
    assert tally.up_to.of_target(0)["mae"].tolist() == [2]


def test_shares_below_each_quantile_are_counted() -> None:
    split = Split(1, 5)
    forecasts = np.broadcast_to([1.5, 2.5, 3.5], (5, 1, 5, 3))
    tally = Tally(np.arange(5.0)[:, None], split, look(1), HORIZONS, (1,), season_steps=0)

    tally.add(Block(np.arange(0, 5), forecasts, []))

    assert tally.at_most[0].tolist() == [1, 2, 3]  # of 1, 2, 3 and 4
