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
from tidegate.training.networks.scaling import MAX_CHANGE, MAX_VALUE, constant
from tidegate.training.states import Carried

RunningKind = Literal["running", "frozen"]

PRIOR_SHARE = 0.1
"""The training rows' mean and scale count for so many of the steps that are remembered: a session does not
believe its first values alone."""

MIN_SCALE = 1e-2
"""A session's scale falls to this share of the training rows' and no further, however still it is."""


class FixedUnit(nn.Module):
    """Mean and scale of the training rows, for ever."""

    mean: Tensor
    factor: Tensor

    def __init__(self, mean: Array, std: Array) -> None:
        super().__init__()
        self.register_buffer("mean", constant(mean))
        self.register_buffer("factor", constant(1 / std))

    def forward(self, x: Tensor) -> Tensor:
        """The level of x [B, T, C]; changes are measured in the units of the data."""
        return torch.clamp((x - self.mean) * self.factor, -MAX_CHANGE, MAX_CHANGE)


class Memory(nn.Module):
    """How much the next value weighs: 1 / (P + n), with n the values seen and P what the training rows count.

    "running" never lets the weight fall below 1 / N; "frozen" makes it 0 once N values are seen.
    """

    def __init__(self, kind: RunningKind, num_steps: int) -> None:
        super().__init__()
        self.kind = kind
        self.num_steps = float(num_steps)
        self.prior_steps = 1 + PRIOR_SHARE * num_steps

    def weight(self, count: Tensor) -> Tensor:
        """Of the next value, for the number of those before it; never above 1, whatever a state claims."""
        weight = 1 / (torch.relu(count) + self.prior_steps)
        if self.kind == "running":
            return torch.clamp(weight, min=1 / self.num_steps)
        return torch.where(count < self.num_steps, weight, 0.0)

    def counted(self, count: Tensor, seen: Tensor) -> Tensor:
        """The number behind a step; it stops at N."""
        return torch.clamp(count + seen, max=self.num_steps)


class LevelUnit(nn.Module):
    """The session's own mean and scale, from the training rows' at first.

    With a_t the weight of step t (`Memory`), x its value, m and s the mean and scale before it, x and m
    both less the training rows' mean, so that float32 adds small corrections to small numbers:

        r_t = clip((x_t - m) / s, -10, 10)
        m_t = m + a_t s r_t
        s_t = max(s sqrt((1 - a_t) (1 + a_t r_t^2)), smallest)

    which is the exponentially weighted mean and standard deviation, but for the clip, without which a
    single value of a broken sensor would blind the session for a thousand steps. A missing value changes
    nothing. Each step needs the one before it, so it is exported one step at a time.
    """

    centre: Tensor
    smallest: Tensor

    def __init__(self, mean: Array, std: Array, memory: Memory) -> None:
        """Set the start.

        Args:
            mean: Of each column over the training rows, [C].
            std: Standard deviation of each, [C], never 0.
            memory: How fast they are forgotten.
        """
        super().__init__()
        self.std = std
        self.memory = memory
        self.register_buffer("centre", constant(mean))
        self.register_buffer("smallest", constant(MIN_SCALE * std))

    @property
    def carried(self) -> tuple[Carried, ...]:
        """Mean, scale and the number of values seen, which is counted up to the memory."""
        width = len(self.std)
        return (
            Carried("mean", (BATCH, width)),
            Carried("scale", (BATCH, width), constant(self.std).numpy()),
            Carried("count", (BATCH, width)),
        )

    def forward(
        self, x: Tensor, is_missing: Tensor | None, mean: Tensor, scale: Tensor, count: Tensor
    ) -> tuple[Tensor, ...]:
        """Measure each value by what is known with it.

        Args:
            x: Values without NaN, [B, T, C].
            is_missing: 1 where a value is none, [B, T, C]; None: all are.
            mean: Before the first step, less the training rows' mean, [B, C].
            scale: Before the first step, [B, C].
            count: Values seen before the first step, [B, C].

        Returns:
            Level and unit, [B, T, C]; mean, scale and count for the next call.
        """
        x = torch.clamp(x, -MAX_VALUE, MAX_VALUE) - self.centre
        means, scales = [], []
        for step in range(x.shape[1]):
            seen = torch.ones_like(count) if is_missing is None else 1 - is_missing[:, step]
            weight = self.memory.weight(count) * seen
            distance = torch.clamp((x[:, step] - mean) / scale, -MAX_CHANGE, MAX_CHANGE)
            mean = mean + weight * (scale * distance)
            spread = torch.sqrt((1 - weight) * (1 + weight * (distance * distance)))
            scale = torch.maximum(scale * spread, self.smallest)
            count = self.memory.counted(count, seen)
            means.append(mean)
            scales.append(scale)
        unit = torch.stack(scales, 1)
        level = torch.clamp((x - torch.stack(means, 1)) / unit, -MAX_CHANGE, MAX_CHANGE)
        return level, unit, mean, scale, count


class ChangeUnit(nn.Module):
    """The usual size of the session's changes from step to step, as a multiple of that in the training rows.

    With a_t the weight of step t (`Memory`), x_t - x_{t-1} its change, d the usual change of the training
    rows and s the size before it:

        r_t = clip((x_t - x_{t-1}) / (d s), -10, 10)
        s_t = max(s sqrt(1 + a_t (r_t^2 - 1)), smallest)

    A missing value changes nothing, and neither does the first.
    """

    usual: Tensor

    def __init__(self, usual: Array, memory: Memory) -> None:
        """Set the start.

        Args:
            usual: Root mean square of the changes over the training rows, [C], never 0.
            memory: How fast it is forgotten.
        """
        super().__init__()
        self.memory = memory
        self.register_buffer("usual", constant(usual))

    @property
    def carried(self) -> tuple[Carried, ...]:
        """The value before, the size of changes and the number of values seen."""
        width = len(self.usual)
        return (
            Carried("before", (BATCH, width)),
            Carried("size", (BATCH, width), 1.0),
            Carried("count", (BATCH, width)),
        )

    def forward(
        self, x: Tensor, is_missing: Tensor | None, before: Tensor, size: Tensor, count: Tensor
    ) -> tuple[Tensor, ...]:
        """Measure each step by what is known with it.

        Args:
            x: Values without NaN, [B, T, C].
            is_missing: 1 where a value is none, [B, T, C]; None: all are.
            before: The value before the first step, [B, C].
            size: Before the first step, [B, C].
            count: Values seen before the first step, [B, C].

        Returns:
            Unit [B, T, C]; before, size and count for the next call.
        """
        x = torch.clamp(x, -MAX_VALUE, MAX_VALUE)
        sizes = []
        for step in range(x.shape[1]):
            seen = torch.ones_like(count) if is_missing is None else 1 - is_missing[:, step]
            weight = torch.where(count > 0, self.memory.weight(count) * seen, 0.0)
            change = torch.clamp((x[:, step] - before) / (self.usual * size), -MAX_CHANGE, MAX_CHANGE)
            spread = torch.sqrt(1 + weight * (change * change - 1))
            size = torch.clamp(size * spread, min=MIN_SCALE)
            before, count = x[:, step], self.memory.counted(count, seen)
            sizes.append(size)
        return torch.stack(sizes, 1), before, size, count


Unit = FixedUnit | LevelUnit | ChangeUnit
