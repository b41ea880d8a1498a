"""How far the current value is from those some steps ago, and the memory that this takes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tidegate.model.manifest import BATCH
from tidegate.training.networks.scaling import MAX_CHANGE, Scaling, constant
from tidegate.training.states import Carried


class Changes(nn.Module):
    """Scaled distances of each value from those some steps ago; 0 where there was none yet."""

    offset: Tensor
    factor: Tensor

    def __init__(self, lags: Sequence[int], scaling: Scaling) -> None:
        super().__init__()
        self.lags = tuple(lags)
        self.register_buffer("offset", constant(scaling.change_mean))
        self.register_buffer("factor", constant(1 / scaling.change_std))

    @property
    def num_outputs(self) -> int:
        """Width of what `forward` returns."""
        return self.offset.numel()

    @property
    def num_columns(self) -> int:
        """Columns that it looks at."""
        return self.offset.shape[1]

    @property
    def carried(self) -> tuple[Carried, ...]:
        """The newest values, and which of them exist yet."""
        longest = max(self.lags)
        return (
            Carried("recent", (BATCH, longest, self.num_columns)),
            Carried("seen", (BATCH, longest, 1)),
        )

    def forward(
        self, x: Tensor, recent: Tensor, seen: Tensor, unit: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Distances and the states after the last step.

        Args:
            x: Values, [B, T, C].
            recent: The values before the first step, the newest last, [B, L, C].
            seen: 1 where `recent` holds a value, else 0, [B, L, 1].
            unit: What distances are measured in, [B, T, C]; None: the units of the data.

        Returns:
            Distances [B, T, lags * C], `recent` and `seen` for the next call.
        """
        longest = max(self.lags)
        values = torch.cat([recent, x], 1)
        known = torch.cat([seen, torch.ones_like(x[..., :1])], 1)
        changes = []
        for k, lag in enumerate(self.lags):
            then = slice(longest - lag, -lag)
            distance = x - values[:, then]
            if unit is not None:
                distance = distance / unit
            distance = (distance - self.offset[k]) * self.factor[k]
            changes.append(torch.clamp(distance, -MAX_CHANGE, MAX_CHANGE) * known[:, then])
        return torch.cat(changes, -1), values[:, -longest:], known[:, -longest:]
