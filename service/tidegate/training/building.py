"""The network that a recipe describes, with random weights and what is measured on the training rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from tidegate.tensor import Array
from tidegate.training.cells import CELLS, RecurrentStack
from tidegate.training.data import Series, Split
from tidegate.training.linear_fit import fit_linear
from tidegate.training.network_recipe import NetworkRecipe
from tidegate.training.networks import (
    AnomalyScore,
    BlendedHead,
    CalendarBins,
    Changes,
    ChangeUnit,
    FixedUnit,
    Forecaster,
    LevelUnit,
    LinearBase,
    Memory,
    Missing,
    Parts,
    QuantileHead,
    Scaling,
    SharedCells,
    Unit,
    WindowChanges,
)
from tidegate.training.recipe import Recipe


def build_network(recipe: Recipe, series: Series, split: Split) -> Forecaster:
    """The network before its training.

    Args:
        recipe: What to build.
        series: The data; only rows of the training split are looked at.
        split: Its parts.
    """
    plan, num_columns = recipe.network, len(recipe.data.columns)
    values = series.values[split.train, :num_columns].astype(np.float64)
    missing = Missing(np.nanmean(values, 0)) if recipe.data.time.missing == "mask" else None
    unit = _unit(plan, values)
    seen = _seen(series.values[split.train, :num_columns], missing, unit)
    scaling = measure_scaling(recipe, series, split.train, seen)
    bins = CalendarBins(recipe.data.time.calendar) if plan.calendar_bins else None
    changes = _changes(plan, scaling)
    num_calendar = series.values.shape[1] - num_columns if bins is None else bins.num_outputs
    num_told = len(scaling.change_std) + plan.sees_level + 2 * (missing is not None)
    cells, num_said = _cells(plan, num_columns, num_told, num_calendar)
    head = _head(recipe, num_said, scaling)
    parts = Parts(
        changes=changes,
        cells=cells,
        head=head,
        missing=missing,
        unit=unit,
        sees_level=plan.sees_level,
        bins=bins,
        base=_linear_base(recipe, series.values[split.train, num_columns:], seen, values, bins),
        anomaly=_anomaly(recipe, scaling),
        error_unit=_error_unit(recipe, series, split.train, seen)
        if recipe.training.error_unit == "column"
        else None,
    )
    return Forecaster(recipe.data.target_positions, parts)


@dataclass(frozen=True)
class Seen:
    """The training rows as a session that begins with the first of them sees them.

    Attributes:
        values: Without NaN, [N, C], float64.
        unit: What changes are measured in, [N, C], float64.
    """

    values: Array
    unit: Array


def measure_scaling(recipe: Recipe, series: Series, rows: slice, seen: Seen) -> Scaling:
    """Means and standard deviations of the changes over the training rows.

    Args:
        recipe: Says which changes.
        series: The data.
        rows: The training split.
        seen: These rows.
    """
    targets = list(recipe.data.target_positions)
    values, unit = seen.values, seen.unit
    changes = [(values[lag:] - values[:-lag]) / unit[lag:] for lag in recipe.network.lags]
    changes += [(values[n - 1 :] - _running_mean(values, n)) / unit[n - 1 :] for n in recipe.network.means]
    future, counts = series.futures(recipe.num_horizons, rows)
    now, scale = values[:, targets], unit[:, targets]
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


def _unit(plan: NetworkRecipe, values: Array) -> Unit | None:
    """For values [N, C], which may have NaN."""
    mean, std = np.nanmean(values, 0), never_zero(np.nanstd(values, 0))
    if plan.normalise == "fixed":
        return FixedUnit(mean, std) if plan.sees_level else None
    memory = Memory(plan.normalise, plan.normalise_steps)
    if plan.normalise_by == "level":
        return LevelUnit(mean, std, memory)
    return ChangeUnit(never_zero(np.sqrt(np.nanmean(np.square(np.diff(values, axis=0)), 0))), memory)


def _seen(values: Array, missing: Missing | None, unit: Unit | None) -> Seen:
    x, is_missing, changes_in = torch.from_numpy(values[None]), None, None
    with torch.no_grad():
        if missing is not None:
            x, is_missing, *_ = missing(x, *(s.start(1) for s in missing.carried))
        if not isinstance(unit, FixedUnit | None):
            given = unit(x, is_missing, *(s.start(1) for s in unit.carried))
            changes_in = given[-1 - len(unit.carried)]
    filled = x[0].numpy().astype(np.float64)
    units = np.ones_like(filled) if changes_in is None else changes_in[0].numpy().astype(np.float64)
    return Seen(filled, units)


def _changes(plan: NetworkRecipe, scaling: Scaling) -> Changes:
    if not plan.means and plan.linear is None:
        return Changes(plan.lags, scaling)
    window = max(plan.lags[-1] + 1, *plan.means, 0 if plan.linear is None else plan.linear.window)
    return WindowChanges(plan.lags, scaling, means=plan.means, window=window)


def _cells(
    plan: NetworkRecipe, num_columns: int, num_told: int, num_calendar: int
) -> tuple[RecurrentStack | SharedCells, int]:
    """The cells, and the width of what they say and saw; they are told `num_told` numbers of each column."""
    if plan.shared:
        num_seen = num_told + num_calendar + num_columns
        cells = CELLS[plan.cell](num_seen, plan.hidden_size, plan.num_layers)
        return SharedCells(cells, num_columns), plan.hidden_size + num_seen
    num_seen = num_told * num_columns + num_calendar
    return CELLS[plan.cell](num_seen, plan.hidden_size, plan.num_layers), plan.hidden_size + num_seen


def _head(recipe: Recipe, num_inputs: int, scaling: Scaling) -> QuantileHead | BlendedHead:
    plan = recipe.network
    num_quantiles = len(recipe.forecast.quantile_levels)
    num_rows = len(recipe.data.targets) if plan.shared else 1
    if plan.linear is None:
        return QuantileHead(num_inputs, num_quantiles, scaling, plan.dropout, num_rows=num_rows)
    share = plan.linear.cell_share
    return BlendedHead(num_inputs, num_quantiles, scaling, plan.dropout, share=share, num_rows=num_rows)


def _linear_base(
    recipe: Recipe, calendar: Array, seen: Seen, values: Array, bins: CalendarBins | None
) -> LinearBase | None:
    plan, targets = recipe.network.linear, recipe.data.target_positions
    if plan is None:
        return None
    with torch.no_grad():
        told = calendar if bins is None else bins(torch.from_numpy(calendar)).numpy()
    weights = fit_linear(
        seen.values,
        told.astype(np.float64),
        std=never_zero(np.nanstd(values, 0)),
        targets=targets,
        lags=recipe.network.lags,
        num_horizons=recipe.num_horizons,
        season_steps=recipe.forecast.season_steps,
        plan=plan,
    )
    return LinearBase(recipe.network.lags, targets, weights)


def _anomaly(recipe: Recipe, scaling: Scaling) -> AnomalyScore | None:
    if recipe.anomaly is None:
        return None
    next_step = scaling.horizon_std.reshape(len(recipe.data.targets), -1)[:, 0]
    return AnomalyScore(recipe.forecast.quantile_levels, next_step * recipe.anomaly.smallest_width)


def _error_unit(recipe: Recipe, series: Series, rows: slice, seen: Seen) -> Array:
    """Standard deviation of each target times the usual change to each horizon in such, [K] or [M, K]."""
    targets = list(recipe.data.target_positions)
    now, std = seen.values[:, targets], never_zero(seen.values[:, targets].std(0))
    future, counts = series.futures(recipe.num_horizons, rows)
    shape = (len(future), len(targets), -1)
    change = (future.reshape(shape) - now[..., None]) / std[:, None]
    usual = np.sqrt(np.nanmean(np.where(counts.reshape(shape), change, np.nan) ** 2, axis=(0, 1)))
    unit: Array = (std[:, None] * never_zero(usual)).reshape(future.shape[1:])
    return unit


def _running_mean(values: Array, length: int) -> Array:
    """Of each `length` rows, [N - length + 1, C]."""
    sums = np.cumsum(np.concatenate([np.zeros_like(values[:1]), values - values[:1]]), 0)
    means: Array = values[:1] + (sums[length:] - sums[:-length]) / length
    return means
