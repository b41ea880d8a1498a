"""Recipes of every kind of network over one small series of two columns, in memory."""

from __future__ import annotations

import tomllib
from functools import reduce
from typing import Any

import numpy as np

from tidegate.training.data import Series, Split
from tidegate.training.recipe import Recipe

BASIC = """
name = "small"
version = "1"

[data]
file = "small.csv"
columns = [{ name = "level", unit = "m" }, { name = "flow" }]
target = "level"
validation_from = 2020-04-01
test_from = 2020-05-15

[data.time]
column = "day"
cadence_s = 86400
missing = "repeat-last"

[network]
cell = "gru"
hidden_size = 6
lags = [1, 3]

[forecast]
max_horizon_steps = 4
season_steps = 7
"""

BOTH: dict[str, Any] = {"data": {"target": None, "targets": ["flow", "level"]}}
MASK: dict[str, Any] = {"data": {"time": {"missing": "mask", "calendar": ["day-of-week"]}}}
LINEAR: dict[str, Any] = {"network": {"means": [7], "linear": {"window": 12}}}

KINDS: dict[str, dict[str, Any]] = {
    "basic": {},
    "several targets": BOTH,
    "masked": MASK,
    "level": {"network": {"sees_level": True}},
    "running level": {"network": {"normalise": "running", "normalise_steps": 20, "sees_level": True}},
    "frozen level": {"network": {"normalise": "frozen", "normalise_steps": 5}},
    "running change": {"network": {"normalise": "running", "normalise_by": "change", "normalise_steps": 20}},
    "rollout": {**BOTH, "forecast": {"mode": "rollout"}},
    "shared": {**BOTH, "network": {"shared": True}},
    "linear": LINEAR,
    "anomaly": {"anomaly": {}},
    "all at once": {
        "data": {**BOTH["data"], **MASK["data"]},
        "network": {
            **LINEAR["network"],
            "shared": True,
            "calendar_bins": True,
            "sees_level": True,
            "normalise": "running",
            "normalise_steps": 20,
        },
        "forecast": {"calibrate": True, "quantile_levels": [0.05, 0.25, 0.5, 0.75, 0.95]},
        "anomaly": {},
    },
}
"""Changes to `BASIC`, by what they add; None takes a key away."""


def small_recipe(kind: str, **network: object) -> Recipe:
    """The recipe of a kind, with more changes to its network."""
    return changed_recipe(KINDS[kind], {"network": network})


def changed_recipe(*changes: dict[str, Any]) -> Recipe:
    """The basic recipe with changes, each as `KINDS` has them."""
    return Recipe.model_validate(reduce(_merged, changes, tomllib.loads(BASIC)))


def small_series(recipe: Recipe, num_rows: int = 150) -> tuple[Series, Split]:
    """Waves and noise; where the recipe masks, a fifth of the values is missing."""
    random = np.random.default_rng(7)
    t = np.arange(num_rows)
    waves = np.stack([10 + 0.02 * t + np.sin(t / 1.1), 300 + 20 * np.cos(t / 1.1)], 1)
    columns = waves + random.normal(0, [0.2, 4.0], waves.shape)
    if recipe.data.time.missing == "mask":
        columns[random.random(columns.shape) < 0.2] = np.nan
    phase = 2 * np.pi * (t % 7) / 7
    calendar = [np.sin(phase), np.cos(phase)] if recipe.data.time.calendar else []
    values = np.stack([*columns.T, *calendar], 1).astype(np.float32)
    target = np.ascontiguousarray(values[:, list(recipe.data.target_positions)].squeeze())
    days = np.datetime64("2020-01-01") + t
    series = Series(days, values, target, ~np.isnan(target), sha256="")
    return series, Split(slice(0, 100), slice(100, 125), slice(125, num_rows))


def _merged(keys: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(keys)
    for name, value in changes.items():
        if value is None:
            del merged[name]
        elif isinstance(value, dict):
            merged[name] = _merged(merged.get(name, {}), value)
        else:
            merged[name] = value
    return merged
