"""The network that a recipe describes, with random weights and what is measured on the training rows."""

from __future__ import annotations

import numpy as np
import torch

from tidegate.tensor import Array
from tidegate.training.cells import CELLS
from tidegate.training.data import Series, Split
from tidegate.training.networks import (
    Changes,
    FixedUnit,
    Forecaster,
    Missing,
    QuantileHead,
    RunningUnit,
    Scaling,
)
from tidegate.training.recipe import NetworkRecipe, Recipe


def build_network(recipe: Recipe, series: Series, split: Split) -> Forecaster:
    """The network before its training.

    Args:
        recipe: What to build.
        series: The data; only rows of the training split are looked at.
        split: Its parts.
    """
    plan, num_columns = recipe.network, len(recipe.data.columns)
    values = series.values[split.train, :num_columns].astype(np.float64)
    mean, std = np.nanmean(values, 0), never_zero(np.nanstd(values, 0))
    missing = Missing(mean) if recipe.data.time.missing == "mask" else None
    unit = _unit(plan, mean, std)
    scaling = measure_scaling(recipe, series, split.train, missing, unit)
    changes = Changes(plan.lags, scaling)
    num_others = num_columns * (plan.sees_level + 2 * (missing is not None))
    num_seen = changes.num_outputs + num_others + series.values.shape[1] - num_columns
    return Forecaster(
        changes,
        CELLS[plan.cell](num_seen, plan.hidden_size, plan.num_layers),
        QuantileHead(
            plan.hidden_size + num_seen, len(recipe.forecast.quantile_levels), scaling, plan.dropout
        ),
        recipe.data.target_positions,
        missing=missing,
        unit=unit,
        sees_level=plan.sees_level,
    )


def measure_scaling(
    recipe: Recipe,
    series: Series,
    rows: slice,
    missing: Missing | None = None,
    unit: FixedUnit | RunningUnit | None = None,
) -> Scaling:
    """Means and standard deviations of the changes over the training rows.

    Args:
        recipe: Says which changes.
        series: The data.
        rows: The training split.
        missing: What fills missing values.
        unit: What changes are measured in.
    """
    targets = list(recipe.data.target_positions)
    values, units = _measured(series.values[rows, : len(recipe.data.columns)], missing, unit)
    changes = [(values[lag:] - values[:-lag]) / units[lag:] for lag in recipe.network.lags]
    future, counts = series.futures(recipe.num_horizons, rows)
    now, scale = values[:, targets], units[:, targets]
    if len(targets) > 1:
        now, scale = now[..., None], scale[..., None]
    ahead = np.where(counts, (future - now) / scale, np.nan)
    return Scaling(
        change_mean=np.stack([c.mean(0) for c in changes]),
        change_std=never_zero(np.stack([c.std(0) for c in changes])),
        horizon_mean=np.nanmean(ahead, 0),
        horizon_std=never_zero(np.nanstd(ahead, 0)),
    )


def never_zero(std: Array) -> Array:
    """Standard deviations with 1 for what never varies."""
    return np.where(std > 0, std, 1.0)


def _unit(plan: NetworkRecipe, mean: Array, std: Array) -> FixedUnit | RunningUnit | None:
    if plan.normalise != "fixed":
        return RunningUnit(plan.normalise, mean, std, plan.normalise_steps)
    return FixedUnit(mean, std) if plan.sees_level else None


def _measured(
    values: Array, missing: Missing | None, unit: FixedUnit | RunningUnit | None
) -> tuple[Array, Array]:
    """Values as a session that begins with the first row sees them, and their unit, [N, C], float64."""
    x, is_missing, changes_in = torch.from_numpy(values[None]), None, None
    with torch.no_grad():
        if missing is not None:
            x, is_missing, *_ = missing(x, *(s.start(1) for s in missing.carried))
        if unit is not None:
            _, changes_in, *_ = unit(x, is_missing, *(s.start(1) for s in unit.carried))
    filled = x[0].numpy().astype(np.float64)
    units = np.ones_like(filled) if changes_in is None else changes_in[0].numpy().astype(np.float64)
    return filled, units
