"""What is measured once the weights are found: how wide intervals must be, and how rare a surprise is."""

from __future__ import annotations

import numpy as np
import torch

from tidegate.tensor import Array, BoolArray
from tidegate.training.data import Series
from tidegate.training.networks import Forecaster
from tidegate.training.recipe import Recipe

_LEAST, _MOST = 0.05, 20.0
"""Widths are not scaled by less or more than this, however few rows there are."""


def calibrate_widths(
    network: Forecaster, recipe: Recipe, forecasts: Array, series: Series, rows: slice
) -> None:
    """Scale the distances between quantiles so that each level holds over some rows, horizon by horizon.

    Args:
        network: Whose head is changed.
        recipe: Says the levels.
        forecasts: What the network made at the rows, [rows, K, Q] or [rows, M, K, Q].
        series: What happened.
        rows: Which rows.
    """
    future, counts = series.futures(recipe.num_horizons, rows)
    num_rows = network.head.num_rows
    # Targets with an axis of their own share their factors, and those without one do not.
    shape = (len(forecasts), num_rows, network.head.row_width)
    made = forecasts.reshape(*shape, -1)
    factors = width_factors(
        made, future.reshape(shape), counts.reshape(shape), recipe.forecast.quantile_levels
    )
    network.head.widen(torch.as_tensor(factors, dtype=torch.float32))


def width_factors(forecasts: Array, future: Array, counts: BoolArray, levels: tuple[float, ...]) -> Array:
    """What the distances between neighbouring quantiles must be multiplied with, [Q - 1, K].

    From the middle outwards, so that each level holds given the factors inside of it.

    Args:
        forecasts: Quantiles, [N, M, K, Q].
        future: What happened, [N, M, K].
        counts: Which futures count, [N, M, K].
        levels: Quantile levels, [Q].
    """
    middle = len(levels) // 2
    factors = np.ones((len(levels) - 1, forecasts.shape[2]))
    for sign, others in ((1, range(middle + 1, len(levels))), (-1, range(middle - 1, -1, -1))):
        left = sign * (future.astype(np.float64) - forecasts[..., middle])
        for q in others:
            width = np.maximum(np.abs(forecasts[..., q] - forecasts[..., q - sign].astype(np.float64)), 1e-30)
            level = levels[q] if sign > 0 else 1 - levels[q]
            ratio = np.where(counts, left / width, np.nan).swapaxes(0, 2).reshape(width.shape[2], -1)
            factor = np.clip(np.nanquantile(ratio, level, axis=1), _LEAST, _MOST)
            factors[min(q, q - sign)] = factor
            left = left - width * factor
    return factors


def calibrate_anomaly(network: Forecaster, forecasts: Array, series: Series, rows: slice) -> None:
    """Fix the anomaly score so that it is spread evenly over some rows.

    Args:
        network: Has an anomaly score.
        forecasts: What the network made at the rows, [rows, K, Q] or [rows, M, K, Q].
        series: What happened.
        rows: Which rows.
    """
    assert network.anomaly is not None, "asked for by the recipe"
    num_targets = len(network.targets)
    made = forecasts.reshape(len(forecasts), num_targets, -1, forecasts.shape[-1])[:-1, :, 0]
    values = series.target[rows].reshape(-1, num_targets)[1:]
    counts = series.observed[rows].reshape(-1, num_targets)[1:]
    with torch.no_grad():
        surprise = network.anomaly.surprise(torch.from_numpy(values), torch.from_numpy(made))
    network.anomaly.calibrate(surprise.numpy(), counts)
