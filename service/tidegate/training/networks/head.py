"""From what the cells say to quantiles that cannot cross."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tidegate.training.networks.scaling import Scaling, constant


class QuantileHead(nn.Module):
    """A middle quantile, and positive distances up and down from it."""

    offset: Tensor
    factor: Tensor

    def __init__(self, num_inputs: int, num_quantiles: int, scaling: Scaling, dropout: float = 0.0) -> None:
        super().__init__()
        self.answer_shape = scaling.horizon_std.shape
        self.num_forecasts = scaling.horizon_std.size
        self.num_quantiles = num_quantiles
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(num_inputs, self.num_forecasts * num_quantiles)
        self.register_buffer("offset", constant(scaling.horizon_mean.reshape(-1)))
        self.register_buffer("factor", constant(scaling.horizon_std.reshape(-1)))

    def forward(self, hidden: Tensor, anchor: Tensor, unit: Tensor | None = None) -> Tensor:
        """Quantiles in the targets' units.

        They cannot cross even after rounding: each sum and product below keeps the order of its terms.

        Args:
            hidden: What the cells say, [B, T, N].
            anchor: What distances are measured from, [B, T, M * K] or what broadcasts to it.
            unit: What they are measured in, in the same shape, above 0; None: the units of the data.

        Returns:
            [B, T, K, Q] or, for several targets, [B, T, M, K, Q].
        """
        parts = torch.split(self.linear(self.dropout(hidden)), self.num_forecasts, -1)
        middle = self.num_quantiles // 2
        quantiles = [parts[middle]]
        for part in parts[middle + 1 :]:
            quantiles.append(quantiles[-1] + torch.exp(part))
        for part in reversed(parts[:middle]):
            quantiles.insert(0, quantiles[0] - torch.exp(part))
        found = torch.stack([anchor + self._distance(q, unit) for q in quantiles], -1)
        return found if len(self.answer_shape) == 1 else found.unflatten(2, self.answer_shape)

    def _distance(self, quantile: Tensor, unit: Tensor | None) -> Tensor:
        """Of a quantile from the anchor, in the targets' units."""
        distance = quantile * self.factor + self.offset
        return distance if unit is None else distance * unit
