"""The solved weights against the ridge regressions that they solve, each written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tidegate.tensor import Array
from tidegate.training.linear_fit import fit_linear
from tidegate.training.network_recipe import LinearRecipe
from tidegate.training.networks import LinearBase, LinearWeights

WINDOW, HORIZONS, LAGS, SEASON = 8, 3, (1, 4), 6
TARGETS = (1, 0)


def make_values(num_rows: int = 400) -> Array:
    random = np.random.default_rng(2)
    t = np.arange(num_rows)
    noise = random.normal(0, 1, (num_rows, 3)).cumsum(0) * 0.1
    return np.stack([np.sin(t / 3), 40 * np.cos(t / 5), t * 0.0 + 7], 1) + noise * [1, 40, 1]


def solve(values: Array, calendar: Array, **changes: float) -> LinearWeights:
    return fit_linear(
        values,
        calendar,
        std=values.std(0),
        targets=TARGETS,
        lags=LAGS,
        num_horizons=HORIZONS,
        season_steps=SEASON,
        plan=LinearRecipe(window=WINDOW, **changes),
    )


def ridge(x: Array, y: Array, penalty: Array, prior: Array) -> Array:
    """The minimum of mean (y - x w)^2 + sum penalty (w - prior)^2, as an augmented least squares problem."""
    rows = np.sqrt(len(x))
    stacked = np.concatenate([x / rows, np.diag(np.sqrt(penalty))])
    aims = np.concatenate([y / rows, np.sqrt(penalty) * prior])
    found: Array = np.linalg.lstsq(stacked, aims, rcond=None)[0]
    return found


def test_weights_are_those_of_two_ridges_after_one_another() -> None:
    values, calendar = make_values(), np.eye(6)[np.arange(400) % 6]
    plan = LinearRecipe(window=WINDOW, ridge=0.02, far_ridge=0.5)
    found = solve(values, calendar, ridge=0.02, far_ridge=0.5)

    scaled, std = values / values.std(0), values.std(0)
    rows = range(WINDOW - 1, len(values) - HORIZONS)
    windows = {c: np.stack([scaled[r - WINDOW + 1 : r + 1, c] - scaled[r, c] for r in rows]) for c in TARGETS}
    penalty = 1 + np.arange(WINDOW)[::-1] / (2 * SEASON)
    for k, strength in enumerate((0.02, 0.02 * 25 ** (np.log(2) / np.log(3)), 0.5)):
        changes = {c: np.array([scaled[r + 1 + k, c] - scaled[r, c] for r in rows]) for c in TARGETS}
        both = np.concatenate([windows[c] for c in TARGETS]), np.concatenate([changes[c] for c in TARGETS])
        shared = ridge(*both, strength * penalty, np.zeros(WINDOW))
        for m, c in enumerate(TARGETS):
            own = ridge(windows[c], changes[c], strength * plan.own_ridge * penalty, shared)
            np.testing.assert_allclose(found.own[m][:, k], own, rtol=1e-6, atol=1e-9)
            seen = np.array([[*(scaled[r] - scaled[r - g] for g in LAGS)] for r in rows if r >= LAGS[-1]])
            seen = np.concatenate([seen.reshape(len(seen), -1), 0.5 * calendar[list(rows)]], 1)
            left = changes[c] - windows[c] @ own
            cross = ridge(
                seen - seen.mean(0), left, np.full(seen.shape[1], plan.shared_ridge), np.zeros(seen.shape[1])
            )
            size = np.concatenate([1 / std, 1 / std, np.full(6, 0.5)])
            np.testing.assert_allclose(
                found.cross[:, m * HORIZONS + k], size * cross * std[c], rtol=1e-6, atol=1e-9
            )


def test_a_periodic_series_is_forecast_by_its_weights() -> None:
    t = np.arange(400)
    values = 5 + np.stack([np.sin(2 * np.pi * t / 8)] * 3, 1) * [1, 30, 1]
    weights = solve(values, np.zeros((400, 0)), ridge=1e-9, far_ridge=1e-9)

    x = torch.from_numpy(values[None, 100 - WINDOW + 1 : 101].astype(np.float32))
    windows = (x - x[:, -1:]).transpose(1, 2)[:, None]
    found = LinearBase(LAGS, TARGETS, weights)(x[:, -1:], windows, [])

    expected = values[101 : 101 + HORIZONS][:, list(TARGETS)].T.flatten()
    assert found.flatten().tolist() == pytest.approx(expected.tolist(), abs=1e-2)


def test_the_network_computes_the_written_formula() -> None:
    random = np.random.default_rng(6)
    weights = LinearWeights(
        own=random.normal(size=(2, WINDOW, HORIZONS)),
        cross=random.normal(size=(3 * len(LAGS) + 5, 2 * HORIZONS)),
        cross_mean=random.normal(size=3 * len(LAGS) + 5),
    )
    past, calendar = random.normal(size=(WINDOW + 2, 3)), random.normal(size=5)
    windows = (past - past[-1]).T

    found = LinearBase(LAGS, TARGETS, weights)(
        torch.from_numpy(past[None, None, -1]).float(),
        torch.from_numpy(windows[None, None]).float(),
        [torch.from_numpy(calendar[None, None]).float()],
    )

    shared = np.concatenate([*(past[-1] - past[-1 - lag] for lag in LAGS), calendar]) - weights.cross_mean
    own = [past[-1, c] + windows[c, -WINDOW:] @ w for c, w in zip(TARGETS, weights.own, strict=True)]
    expected = np.concatenate(own) + shared @ weights.cross
    np.testing.assert_allclose(found.flatten().numpy(), expected, rtol=1e-5, atol=1e-5)


def test_what_other_columns_and_the_calendar_tell_is_used() -> None:
    random = np.random.default_rng(4)
    leader = random.normal(size=400).cumsum()
    values = np.stack([np.roll(leader, 1), random.normal(size=400), leader], 1)[2:]
    weights = solve(values, np.zeros((398, 0)), shared_ridge=1e-6)

    by_leader = weights.cross[2, HORIZONS]  # the leader's last change, for the second target's next step

    assert by_leader > 0.7
    assert np.abs(weights.cross[1, HORIZONS]) < 0.1
