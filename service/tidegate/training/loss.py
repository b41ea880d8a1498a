"""What training makes small."""

from __future__ import annotations

import torch
from torch import Tensor


def quantile_loss(forecasts: Tensor, future: Tensor, counts: Tensor, levels: Tensor, unit: Tensor) -> Tensor:
    """Mean pinball loss over the futures that count.

    Args:
        forecasts: Quantiles, [..., K, Q].
        future: What happened, [..., K].
        counts: Which futures count, [..., K], bool.
        levels: Quantile levels, [Q].
        unit: What an error is measured in; broadcasts to the futures.
    """
    error = (future[..., None] - forecasts) / unit[..., None]
    loss = torch.maximum(levels * error, (levels - 1) * error).sum(-1)
    return (loss * counts).sum() / counts.sum().clamp(min=1)
