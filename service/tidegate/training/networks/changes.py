"""How far the current value is from those before it, and the memory that this takes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tidegate.model.manifest import BATCH
from tidegate.training.networks.scaling import MAX_CHANGE, MAX_VALUE, Scaling, constant
from tidegate.training.states import Carried


class Changes(nn.Module):
    """Scaled distances of each value from those some steps ago; 0 where there was none yet.

    Attributes:
        num_columns: Columns that it looks at, C.
        num_remembered: Values of each that are carried, L.
    """

    offset: Tensor
    factor: Tensor

    def __init__(self, lags: Sequence[int], scaling: Scaling) -> None:
        super().__init__()
        self.lags = tuple(lags)
        self.num_remembered = max(lags)
        self.num_columns = scaling.change_mean.shape[1]
        self.register_buffer("offset", constant(scaling.change_mean))
        self.register_buffer("factor", constant(1 / scaling.change_std))

    @property
    def num_outputs(self) -> int:
        """Width of what `forward` returns."""
        return self.offset.numel()

    @property
    def carried(self) -> tuple[Carried, ...]:
        """The newest values, and which of them exist yet."""
        return (
            Carried("recent", (BATCH, self.num_remembered, self.num_columns)),
            Carried("seen", (BATCH, self.num_remembered, 1)),
        )

    def forward(
        self, x: Tensor, recent: Tensor, seen: Tensor, unit: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Distances and the states after the last step.

        Args:
            x: Values, [B, T, C].
            recent: The values before the first step, the newest last, [B, L, C].
            seen: 1 where `recent` holds a value, else 0, [B, L, 1].
            unit: What distances are measured in, [B, T, C]; None: the units of the data.

        Returns:
            Distances [B, T, lags * C], `recent` and `seen` for the next call.
        """
        longest = self.num_remembered
        values = torch.cat([recent, x], 1)
        known = torch.cat([seen, torch.ones_like(x[..., :1])], 1)
        changes = []
        for k, lag in enumerate(self.lags):
            then = slice(longest - lag, -lag)
            distance = self._scaled(x - values[:, then], unit, k)
            changes.append(distance * known[:, then])
        return torch.cat(changes, -1), values[:, -longest:], known[:, -longest:]

    def _scaled(self, distance: Tensor, unit: Tensor | None, k: int) -> Tensor:
        if unit is not None:
            distance = distance / unit
        return torch.clamp((distance - self.offset[k]) * self.factor[k], -MAX_CHANGE, MAX_CHANGE)


class WindowChanges(Changes):
    """Looks at whole windows too: distances from the means over some, and all values of one as they are.

    A session's first value stands for those before it. Windows of every step of a long chunk would take
    much memory, so this is exported one step at a time.
    """

    averaging: Tensor

    def __init__(self, lags: Sequence[int], scaling: Scaling, *, means: Sequence[int], window: int) -> None:
        """Set what is looked at.

        Args:
            lags: Steps back to single values.
            scaling: Of the distances, first from the lags, then from the means.
            means: Lengths of the windows that are averaged, the current value included.
            window: Length of the window that `forward` gives, W; longer than the longest lag, and not shorter than
                the longest of the means.
        """
        super().__init__(lags, scaling)
        self.window = window
        assert window > max(lags), "a window reaches back to the furthest lag"
        self.num_remembered = window - 1
        averaging = torch.zeros(window, len(means))
        for k, length in enumerate(means):
            averaging[window - length :, k] = -1 / length
        self.register_buffer("averaging", averaging)

    def forward(
        self, x: Tensor, recent: Tensor, seen: Tensor, unit: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """As `Changes`, and the windows.

        Returns:
            Distances [B, T, (lags + means) * C]; each window's values less the current one, the oldest first,
            [B, T, C, W]; `recent` and `seen` for the next call.
        """
        x = torch.clamp(x, -MAX_VALUE, MAX_VALUE)
        recent = torch.where(seen[:, -1:] > 0, recent, x[:, :1])
        changes, recent_next, seen_next = super().forward(x, recent, seen, unit)
        values = torch.cat([recent, x], 1)
        windows = _windows(values, self.window, x.shape[1]) - x.unsqueeze(-1)
        averages = windows @ self.averaging
        from_means = [
            self._scaled(averages[..., k], unit, len(self.lags) + k) for k in range(averages.shape[-1])
        ]
        return torch.cat([changes, *from_means], -1), windows, recent_next, seen_next


def _windows(values: Tensor, length: int, num_steps: int) -> Tensor:
    """The `length` values up to each of the last `num_steps`, [B, T, C, length]."""
    if num_steps == 1:  # which the exporter can say without a loop
        return values[:, -length:].transpose(1, 2).unsqueeze(1)
    return values.unfold(1, length, 1)
