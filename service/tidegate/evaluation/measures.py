"""What is said of a forecast and the value that came: errors, losses, intervals.

Pure functions on float64, element by element: whoever calls them averages. Quantiles ascend along the last axis,
one for each level; a truth of NaN gives NaN or False, and does not count.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tidegate.tensor import Array, BoolArray


def squared_error(point: Array, truth: Array) -> Array:
    """`(point - truth)²`, in the square of the unit; its mean is the MSE."""
    error: Array = np.square(_float64(point) - truth)
    return error


def absolute_error(point: Array, truth: Array) -> Array:
    """`|point - truth|`, in the unit of the data; its mean is the MAE."""
    error: Array = np.abs(_float64(point) - truth)
    return error


def pinball_loss(quantiles: Array, levels: Sequence[float], truth: Array) -> Array:
    """Mean over the levels of the pinball loss, which is least for the true quantile.

    At level q it is `q (truth - quantile)` where the truth lies above, and `(1 - q) (quantile - truth)` where it
    lies below; for the median it is half the absolute error.
    (Koenker and Bassett, Regression Quantiles, Econometrica 46, 1978.)

    Args:
        quantiles: [..., Q].
        levels: Q numbers in (0, 1).
        truth: [...].

    Returns:
        In the unit of the data, [...].
    """
    above = truth[..., None] - _float64(quantiles)
    level = np.asarray(levels, np.float64)
    loss: Array = np.maximum(level * above, (level - 1) * above).mean(-1)
    return loss


def is_covered(quantiles: Array, truth: Array) -> BoolArray:
    """Whether the truth lies between the lowest and the highest quantile, both included, [...]."""
    values = _float64(quantiles)
    covered: BoolArray = (values[..., 0] <= truth) & (truth <= values[..., -1])
    return covered


def interval_width(quantiles: Array) -> Array:
    """From the lowest quantile to the highest, in the unit of the data, [...].

    Of two forecasts that cover as often as they say, the narrower one is sharper.
    (Gneiting, Balabdaoui and Raftery, Probabilistic forecasts, calibration and sharpness, JRSS B 69, 2007.)
    """
    values = _float64(quantiles)
    width: Array = values[..., -1] - values[..., 0]
    return width


def is_at_most(quantiles: Array, truth: Array) -> BoolArray:
    """Whether the truth is at most each quantile, [..., Q]; its mean should be the level."""
    at_most: BoolArray = truth[..., None] <= _float64(quantiles)
    return at_most


def _float64(values: Array) -> Array:
    return np.asarray(values, np.float64)
