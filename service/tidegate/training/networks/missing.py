"""What the network sees where a value is missing: the last one, that it is missing, and for how long."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tidegate.model.manifest import BATCH, Dim
from tidegate.tensor import Array
from tidegate.training.networks.scaling import constant
from tidegate.training.states import Carried

MAX_AGE_STEPS = 1e6
"""Ages stop here; a column that was never seen is this old from the start. Exact in float32."""

HALF_AGE_STEPS = 12.0
"""An age of so many steps is told to the cells as 1/2, an endless one as 1."""


class Missing(nn.Module):
    """Fills each NaN with the column's last value, at first the mean of the training rows.

    A step looks at the one before it, so it is exported one step at a time.
    """

    def __init__(self, mean: Array) -> None:
        """Fix what stands for a column that was never seen.

        Args:
            mean: Of each column over the training rows, [C].
        """
        super().__init__()
        self.mean = mean

    @property
    def carried(self) -> tuple[Carried, ...]:
        """The last values and how many steps old they are."""
        shape: tuple[Dim, ...] = (BATCH, len(self.mean))
        start: Array = constant(self.mean).numpy()
        return (Carried("last", shape, start), Carried("age", shape, MAX_AGE_STEPS))

    def forward(self, x: Tensor, last: Tensor, age: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Fill what is missing.

        Args:
            x: Values, NaN where they are missing, [B, T, C].
            last: The last values before the first step, [B, C].
            age: Steps since they were seen, [B, C].

        Returns:
            Values without NaN [B, T, C]; 1 where one is missing, else 0 [B, T, C]; how old each value is, from
            0 for a new one towards 1 [B, T, C]; `last` and `age` for the next call.
        """
        is_missing = torch.isnan(x)
        values, ages = [], []
        for step in range(x.shape[1]):
            last = torch.where(is_missing[:, step], last, x[:, step])
            age = torch.where(is_missing[:, step], torch.clamp(age + 1, max=MAX_AGE_STEPS), 0.0)
            values.append(last)
            ages.append(age)
        old = torch.stack(ages, 1)
        return torch.stack(values, 1), is_missing.float(), old / (old + HALF_AGE_STEPS), last, age
