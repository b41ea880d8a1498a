"""How good forecasts are, in the units of the data, beside the two naive forecasts anybody could make.

* repeat last: the value at the row of the forecast.
* same season: the newest value that lies whole seasons before the row that is forecast (for weekly data,
  the same week last year).

All errors are mean absolute errors over the same rows: those where the future was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tidegate.tensor import Array
from tidegate.training.data import Series


@dataclass(frozen=True)
class Scores:
    """Mean absolute errors per horizon, in the target's units, and how often the interval held.

    Attributes:
        model: Of the middle quantile, [K].
        repeat_last: Of repeating the last value, [K].
        same_season: Of repeating the newest value whole seasons before, [K].
        coverage: Share of futures between the lowest and the highest quantile, [K].
        num_forecasts: Futures that were measured, over all horizons.
    """

    model: Array
    repeat_last: Array
    same_season: Array
    coverage: Array
    num_forecasts: int

    def summary(self, horizons: Sequence[int]) -> dict[str, dict[str, float]]:
        """For the manifest: by measure and horizon in steps, rounded to four places."""
        measures = {
            "mae_model": self.model,
            "mae_repeat_last": self.repeat_last,
            "mae_same_season": self.same_season,
            "interval_coverage": self.coverage,
        }
        shown = [k for k in horizons if k <= len(self.model)]
        return {
            name: {str(k): round(float(values[k - 1]), 4) for k in shown} for name, values in measures.items()
        }


def score(forecasts: Array, series: Series, rows: slice, *, season_steps: int) -> Scores:
    """Score the forecasts made at the rows of one split.

    Args:
        forecasts: Quantiles made at every row of `rows`, [rows, K, Q] or, for several targets,
            [rows, M, K, Q], ascending over the last axis.
        series: What happened.
        rows: The split; only futures inside it count.
        season_steps: Length of a season.
    """
    num_horizons, num_quantiles = forecasts.shape[-2:]
    future, counts = series.futures(num_horizons, rows)
    made_at = np.arange(rows.start, rows.stop)[:, None]
    ahead = np.arange(1, num_horizons + 1)
    season_before = np.maximum(made_at + ahead - season_steps * (-(-ahead // season_steps)), 0)
    known = _last_known(series.target)
    inside = (forecasts[..., 0] <= future) & (future <= forecasts[..., -1])

    def target_at(found: Array) -> Array:
        """[rows, K], or [rows, M, K] for several targets."""
        values: Array = known[found]
        return values if values.ndim == 2 else values.swapaxes(1, 2)

    def mean(values: Array) -> Array:
        by_target = np.where(counts, values, 0).sum(0, dtype=np.float64) / counts.sum(0)
        averaged: Array = by_target.reshape(-1, num_horizons).mean(0)
        return averaged

    return Scores(
        model=mean(np.abs(forecasts[..., num_quantiles // 2] - future)),
        repeat_last=mean(np.abs(target_at(made_at) - future)),
        same_season=mean(np.abs(target_at(season_before) - future)),
        coverage=mean(inside),
        num_forecasts=int(counts.sum()),
    )


def _last_known(target: Array) -> Array:
    """The target with its last measured value where it is masked; 0 before the first."""
    rows = np.arange(len(target)).reshape(-1, *[1] * (target.ndim - 1))
    newest = np.maximum.accumulate(np.where(np.isnan(target), 0, rows), 0)
    known: Array = np.nan_to_num(np.take_along_axis(target, newest, 0))
    return known
