"""The constants of a network that are measured before it is trained."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tidegate.tensor import Array

MAX_CHANGE = 10.0
"""Inputs of the cells are cut off at so many standard deviations: a broken sensor's value must not make the
Exp of the head overflow, nor drive the cells further than training could have seen."""


@dataclass(frozen=True)
class Scaling:
    """Measured on the training split, in the units of the data or, with a `RunningUnit`, in those.

    Attributes:
        change_mean: Mean change over each lag, [lags, C].
        change_std: Standard deviation of the change over each lag, [lags, C], never 0.
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
