"""The two forecasts that anybody could make, which a model must beat.

Both know what a session knows: the values up to the row that they are made at. Where a value was not
measured, they take the newest one before it that was.
"""

from __future__ import annotations

import numpy as np

from tidegate.tensor import Array, IntArray


def last_known(truth: Array) -> Array:
    """At each row the newest measured value, [N, M]; NaN before the first.

    Args:
        truth: [N, M], NaN where nothing was measured.
    """
    rows = np.arange(len(truth))[:, None]
    newest = np.maximum.accumulate(np.where(np.isnan(truth), 0, rows), axis=0)
    return np.take_along_axis(truth, newest, 0)


def repeat_last(known: Array, origins: IntArray, num_horizons: int) -> Array:
    """The value at the row of the forecast, for every horizon.

    Args:
        known: As `last_known` gives it, [N, M].
        origins: Rows that forecasts are made at, [n].
        num_horizons: K.

    Returns:
        [n, M, K].
    """
    return np.repeat(known[origins][:, :, None], num_horizons, 2)


def same_season(known: Array, origins: IntArray, horizons: IntArray, season_steps: int) -> Array:
    """The value at the same place of the newest season that was seen whole; the last value before there was one.

    Args:
        known: As `last_known` gives it, [N, M].
        origins: Rows that forecasts are made at, [n].
        horizons: Steps ahead, [K], each at least 1.
        season_steps: Length of a season: 24 for hours of a day.

    Returns:
        [n, M, K].
    """
    rows = origins[:, None] - season_steps + 1 + (horizons - 1) % season_steps
    seen = known[np.maximum(rows, 0)].swapaxes(1, 2)
    too_young = (rows < 0)[:, None] | np.isnan(seen)
    return np.where(too_young, repeat_last(known, origins, len(horizons)), seen)
