"""A linear forecast from a window of past values, with weights that are solved for and not trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tidegate.tensor import Array
from tidegate.training.networks.scaling import constant


@dataclass(frozen=True)
class LinearWeights:
    """What `training/linear_fit.py` solves for.

    Attributes:
        own: Of a target's own window less its current value, the oldest first, [M, W, K].
        cross: Of what all targets share, [N, M * K].
        cross_mean: Of what they share, over the training rows, [N].
    """

    own: Array
    cross: Array
    cross_mean: Array


class LinearBase(nn.Module):
    """The current value, plus weights times the window less that value, plus weights times what all share."""

    cross: Tensor
    cross_mean: Tensor

    def __init__(self, lags: Sequence[int], targets: Sequence[int], weights: LinearWeights) -> None:
        """Take the weights.

        Args:
            lags: Steps back to the values whose distances from the current ones all targets share.
            targets: Positions of the columns that are forecast, M.
            weights: In the units of the data.
        """
        super().__init__()
        self.lags = tuple(lags)
        self.targets = tuple(targets)
        for k, own in enumerate(weights.own):
            self.register_buffer(f"own_{k}", constant(own))
        self.register_buffer("cross", constant(weights.cross))
        self.register_buffer("cross_mean", constant(weights.cross_mean))

    def forward(self, values: Tensor, windows: Tensor, calendar: Sequence[Tensor]) -> Tensor:
        """Forecasts in the units of the data.

        Args:
            values: Current ones, [B, T, C].
            windows: Those before them less the current ones, the oldest first, [B, T, C, W].
            calendar: Bins, [B, T, bins], where there are any.

        Returns:
            [B, T, M * K].
        """
        own = [self._from_own(k, column, values, windows) for k, column in enumerate(self.targets)]
        shared = torch.cat([*(-windows[..., -1 - lag] for lag in self.lags), *calendar], -1)
        return torch.cat(own, -1) + (shared - self.cross_mean) @ self.cross

    def _from_own(self, k: int, column: int, values: Tensor, windows: Tensor) -> Tensor:
        weights = self.get_buffer(f"own_{k}")
        return values[..., column : column + 1] + windows[..., column, -len(weights) :] @ weights
