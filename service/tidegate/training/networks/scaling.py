"""The constants of a network that are measured before it is trained."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tidegate.tensor import Array

MAX_CHANGE = 10.0
"""Inputs of the cells are cut off at so many standard deviations: a broken sensor's value must not make the
Exp of the head overflow, nor drive the cells further than training could have seen."""

MAX_VALUE = 1e30
"""Where values are summed or squared they are cut off here, so that no sum overflows."""


@dataclass(frozen=True)
class Scaling:
    """Measured on the training split, in the units of the data or, with a unit of the session's own, in that.

    Attributes:
        change_mean: Mean change over each lag, and mean distance from each window's mean, [lags + means, C].
        change_std: Standard deviations of the same, never 0.
        horizon_mean: Mean change of the target to each horizon, [K], or [M, K] for several targets.
        horizon_std: Standard deviation of the target's change to each horizon, in the same shape, never 0.
    """

    change_mean: Array
    change_std: Array
    horizon_mean: Array
    horizon_std: Array


def constant(values: Array) -> Tensor:
    """Measured values as a graph has them, float32."""
    return torch.as_tensor(values, dtype=torch.float32)
