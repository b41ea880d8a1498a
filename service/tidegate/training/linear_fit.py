"""The weights of a linear forecast, solved in closed form on the training rows.

Two ridge regressions after one another, in standard deviations of the columns:

1. The change of each target to each horizon from its own window less the current value. All targets
   share one solution; each then has its own, which a second ridge holds near the shared one. The ridge
   grows with the age of a value and with the horizon.
2. What is left, from what all targets share: the changes of all columns over the recipe's lags, and the
   calendar's bins.

Rows are weighted alike. A missing value counts as the last one before it.
"""

from __future__ import annotations

import numpy as np

from tidegate.tensor import Array
from tidegate.training.network_recipe import LinearRecipe
from tidegate.training.networks import LinearWeights

BIN_WEIGHT = 0.5
"""Size of a calendar bin beside a standard deviation of a change."""


def fit_linear(
    values: Array,
    calendar: Array,
    *,
    std: Array,
    targets: tuple[int, ...],
    lags: tuple[int, ...],
    num_horizons: int,
    season_steps: int,
    plan: LinearRecipe,
) -> LinearWeights:
    """Solve for the weights.

    Args:
        values: Of the training rows without NaN, [N, C].
        calendar: Their calendar as the network sees it, [N, bins].
        std: Of the columns, [C], never 0.
        targets: Positions of the columns that are forecast.
        lags: Steps back to the values that the shared changes come from.
        num_horizons: Steps ahead, K.
        season_steps: The ridge doubles over two seasons of age.
        plan: Sizes and ridges.
    """
    rows = np.arange(plan.window - 1, len(values) - num_horizons)
    scaled = values / std
    own, left = _own(scaled, rows, targets, num_horizons, season_steps, plan)
    seen = [values[rows] - values[np.maximum(rows - lag, 0)] for lag in lags]
    shared = np.concatenate([*seen, calendar[rows]], 1)
    size = np.concatenate([*(1 / std for _ in lags), np.full(calendar.shape[1], BIN_WEIGHT)])
    centred = (shared - shared.mean(0)) * size
    gram = centred.T @ centred / len(rows) + plan.shared_ridge * np.eye(len(size))
    cross = np.linalg.solve(gram, centred.T @ left / len(rows))
    in_units = np.repeat(std[list(targets)], num_horizons)
    return LinearWeights(own=own, cross=size[:, None] * cross * in_units, cross_mean=shared.mean(0))


def _own(
    scaled: Array,
    rows: Array,
    targets: tuple[int, ...],
    num_horizons: int,
    season_steps: int,
    plan: LinearRecipe,
) -> tuple[Array, Array]:
    """The weights of each target's own window, [M, W, K], and what they leave over, [rows, M * K]."""
    penalty = 1 + np.arange(plan.window)[::-1] / (2 * season_steps)
    ridges = _between(plan.ridge, plan.far_ridge, num_horizons)
    ahead = rows[:, None] + np.arange(1, num_horizons + 1)
    grams, moments = [], []
    for column in targets:
        window = _windows(scaled[:, column], plan.window, rows)
        change = scaled[ahead, column] - scaled[rows, column, None]
        grams.append(window.T @ window / len(rows))
        moments.append(window.T @ change / len(rows))
    shared = _ridge(np.mean(grams, 0), np.mean(moments, 0), penalty, ridges)
    own, left = [], []
    for column, gram, moment in zip(targets, grams, moments, strict=True):
        own.append(shared + _ridge(gram, moment - gram @ shared, plan.own_ridge * penalty, ridges))
        change = scaled[ahead, column] - scaled[rows, column, None]
        left.append(change - _windows(scaled[:, column], plan.window, rows) @ own[-1])
    return np.stack(own), np.concatenate(left, 1)


def _windows(column: Array, length: int, rows: Array) -> Array:
    """The `length` values up to each row less its own, the oldest first, [rows, length]."""
    windows = np.lib.stride_tricks.sliding_window_view(column, length)[rows - length + 1]
    less: Array = windows - windows[:, -1:]
    return less


def _ridge(gram: Array, moment: Array, penalty: Array, ridges: Array) -> Array:
    """Weights [W, K]; the k-th column solves (gram + ridges[k] diag(penalty)) w = moment[:, k].

    One decomposition serves all horizons.
    """
    root = 1 / np.sqrt(penalty)
    roots, basis = np.linalg.eigh(root[:, None] * gram * root)
    weights: Array = root[:, None] * (
        basis @ ((basis.T @ (root[:, None] * moment)) / (roots[:, None] + ridges))
    )
    return weights


def _between(first: float, last: float, count: int) -> Array:
    """From the first to the last, even steps in both logarithms."""
    share = np.log(np.arange(1, count + 1)) / np.log(max(count, 2))
    return np.asarray(first * (last / first) ** share)
