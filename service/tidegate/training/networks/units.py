"""What a column's values and changes are measured in: the training rows' scale, or the session's own.

A unit gives the level of each value, in standard deviations from a mean, and what changes are measured
in. That of a session is carried from step to step; a step's own value is the newest that it knows.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from tidegate.model.manifest import BATCH
from tidegate.tensor import Array
from tidegate.training.networks.scaling import MAX_CHANGE, constant
from tidegate.training.states import Carried

RunningKind = Literal["running", "frozen"]

PRIOR_SHARE = 0.1
"""The training rows' mean and scale count for so many of the steps that are remembered: a session does not
believe its first values alone."""

MIN_SCALE = 1e-3
"""A session's scale falls to this share of the training rows' and no further, however still it is."""

MAX_VALUE = 1e30
"""Larger values would overflow on the way to the next mean."""


class FixedUnit(nn.Module):
    """Mean and scale of the training rows, for ever."""

    mean: Tensor
    factor: Tensor
    carried: tuple[Carried, ...] = ()

    def __init__(self, mean: Array, std: Array) -> None:
        super().__init__()
        self.register_buffer("mean", constant(mean))
        self.register_buffer("factor", constant(1 / std))

    def forward(self, x: Tensor, is_missing: Tensor | None) -> tuple[Tensor, None]:
        """The level of x [B, T, C]; changes are measured in the units of the data."""
        return torch.clamp((x - self.mean) * self.factor, -MAX_CHANGE, MAX_CHANGE), None


class RunningUnit(nn.Module):
    """The session's own mean and scale, from the training rows' at first.

    With a_t the weight of step t, x its value, and m and s the mean and scale before it:

        r_t = clip((x_t - m) / s, -10, 10)
        m_t = m + a_t s r_t
        s_t = max(s sqrt((1 - a_t) (1 + a_t r_t^2)), smallest)

    which is the exponentially weighted mean and standard deviation, but for the clip, without which a
    single value of a broken sensor would blind the session for a thousand steps. a_t is 1 / (P + n) with n
    the values seen and P what the training rows count for; "running" never lets it fall below 1 / N,
    "frozen" makes it 0 once N values are seen. A missing value changes nothing.

    Each step needs the one before it, so it is exported one step at a time.
    """

    smallest: Tensor

    def __init__(self, kind: RunningKind, mean: Array, std: Array, num_steps: int) -> None:
        """Set the start and the memory.

        Args:
            kind: What happens once `num_steps` values are seen.
            mean: Of each column over the training rows, [C].
            std: Standard deviation of each, [C], never 0.
            num_steps: The memory, N.
        """
        super().__init__()
        self.kind = kind
        self.mean = mean
        self.std = std
        self.num_steps = float(num_steps)
        self.prior_steps = 1 + PRIOR_SHARE * num_steps
        self.register_buffer("smallest", constant(MIN_SCALE * std))

    @property
    def carried(self) -> tuple[Carried, ...]:
        """Mean, scale and the number of values seen, which is counted up to the memory."""
        shape = (BATCH, len(self.mean))
        return (
            Carried("mean", shape, constant(self.mean).numpy()),
            Carried("scale", shape, constant(self.std).numpy()),
            Carried("count", shape),
        )

    def forward(
        self, x: Tensor, is_missing: Tensor | None, mean: Tensor, scale: Tensor, count: Tensor
    ) -> tuple[Tensor, ...]:
        """Measure each value by what is known with it.

        Args:
            x: Values without NaN, [B, T, C].
            is_missing: 1 where a value is none, [B, T, C]; None: all are.
            mean: Before the first step, [B, C].
            scale: Before the first step, [B, C].
            count: Values seen before the first step, [B, C].

        Returns:
            Level and unit, [B, T, C]; mean, scale and count for the next call.
        """
        x = torch.clamp(x, -MAX_VALUE, MAX_VALUE)
        means, scales = [], []
        for step in range(x.shape[1]):
            weight = self._weight(count)
            seen = torch.ones_like(count) if is_missing is None else 1 - is_missing[:, step]
            weight = weight * seen
            distance = torch.clamp((x[:, step] - mean) / scale, -MAX_CHANGE, MAX_CHANGE)
            mean = mean + weight * (scale * distance)
            spread = torch.sqrt((1 - weight) * (1 + weight * (distance * distance)))
            scale = torch.maximum(scale * spread, self.smallest)
            count = torch.clamp(count + seen, max=self.num_steps)
            means.append(mean)
            scales.append(scale)
        unit = torch.stack(scales, 1)
        level = torch.clamp((x - torch.stack(means, 1)) / unit, -MAX_CHANGE, MAX_CHANGE)
        return level, unit, mean, scale, count

    def _weight(self, count: Tensor) -> Tensor:
        """Of the next value."""
        weight = 1 / (count + self.prior_steps)
        if self.kind == "running":
            return torch.clamp(weight, min=1 / self.num_steps)
        return torch.where(count < self.num_steps, weight, 0.0)
