"""Widths scaled so that each level holds, and anomaly scores so that they are spread evenly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from support.small_recipes import small_recipe, small_series
from tidegate.training.building import build_network
from tidegate.training.calibrating import calibrate_anomaly, calibrate_widths, width_factors
from tidegate.training.forecasting import forecast_rows

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)


def test_each_level_holds_after_its_factor() -> None:
    random = np.random.default_rng(1)
    middle = random.normal(0, 100, (5000, 1, 2))
    widths = random.uniform(0.5, 2, (5000, 1, 2, 4))
    future = middle + random.gumbel(0, 1, middle.shape) * [1.0, 7.0]
    quantiles = np.stack(
        [middle - widths[..., 1] - widths[..., 0], middle - widths[..., 1], middle, middle + widths[..., 2],
         middle + widths[..., 2] + widths[..., 3]], -1,
    )  # fmt: skip

    factors = width_factors(quantiles, future, np.ones(future.shape, np.bool_), LEVELS)

    scaled = widths * factors.T
    low, high = middle - scaled[..., 1], middle + scaled[..., 2]
    for level, bound in (
        (0.05, low - scaled[..., 0]),
        (0.25, low),
        (0.75, high),
        (0.95, high + scaled[..., 3]),
    ):
        assert (future <= bound).mean((0, 1)) == pytest.approx(level, abs=0.003)


def test_futures_that_do_not_count_are_not_looked_at() -> None:
    random = np.random.default_rng(1)
    future = random.normal(size=(1000, 1, 1))
    quantiles = np.tile([-1.0, 0.0, 1.0], (1000, 1, 1, 1))
    counts = np.arange(1000)[:, None, None] < 600

    found = width_factors(quantiles, np.where(counts, future, 1e9), counts, (0.1, 0.5, 0.9))

    assert (
        found.tolist() == width_factors(quantiles[:600], future[:600], counts[:600], (0.1, 0.5, 0.9)).tolist()
    )


@pytest.mark.parametrize("kind", ["basic", "several targets", "linear", "all at once"])
def test_a_calibrated_network_covers_what_it_says(kind: str) -> None:
    recipe = small_recipe(kind)
    series, split = small_series(recipe, 600)
    network = build_network(recipe, series, split).eval()
    rows = slice(20, 600)
    levels = recipe.forecast.quantile_levels

    calibrate_widths(network, recipe, forecast_rows(network, series, rows), series, rows)

    future, counts = series.futures(recipe.num_horizons, rows)
    below = (future[..., None] <= forecast_rows(network, series, rows))[counts].mean(0)
    middle = len(levels) // 2
    outer = [k for k in range(len(levels)) if k != middle]
    assert below[outer] == pytest.approx(np.array(levels)[outer], abs=0.03)


def test_anomaly_scores_are_even_over_the_rows_that_they_were_calibrated_on() -> None:
    recipe = small_recipe("anomaly")
    series, split = small_series(recipe, 600)
    network = build_network(recipe, series, split).eval()

    calibrate_anomaly(network, forecast_rows(network, series, slice(0, 600)), series, slice(0, 600))

    with torch.no_grad():
        x = torch.from_numpy(series.values[None])
        scores = network.make(x, *network.initial_state(1)).outputs[1][0, 1:]
    for level in (0.5, 0.9):
        assert (scores > level).float().mean().item() == pytest.approx(1 - level, abs=0.01)


def test_values_that_were_not_measured_do_not_count_for_the_score() -> None:
    recipe = small_recipe("anomaly")
    series, split = small_series(recipe, 600)
    broken = np.arange(600) % 3 == 0
    spoilt = replace(series, target=np.where(broken, 1e6, series.target).astype(np.float32), observed=~broken)
    network = build_network(recipe, series, split).eval()

    forecasts = forecast_rows(network, series, slice(0, 600))
    calibrate_anomaly(network, forecasts, spoilt, slice(0, 600))

    assert network.anomaly is not None
    assert network.anomaly.knots.max() < 100
