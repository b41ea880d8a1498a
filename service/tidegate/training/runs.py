"""What an epoch of training looks at: long runs side by side, through the training rows from random places.

Some runs start cold, as new sessions do. The others start with what they would remember if they had seen
the rows before, so that windows and scales are as they are in an old session; the cells always begin anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tidegate.training.data import Series
from tidegate.training.networks import Forecaster
from tidegate.training.recipe import Recipe


class Runs:
    """Draws the runs of each epoch from the recipe's seed."""

    def __init__(self, series: Series, rows: slice, recipe: Recipe) -> None:
        """Take the training rows of a series."""
        self._future, self._counts = series.futures(recipe.num_horizons, rows)
        self._values = series.values[rows]
        self._plan = recipe.training
        self._memory_steps = recipe.network.reach_steps
        self._random = np.random.default_rng(recipe.training.seed)

    def draw(self) -> Epoch:
        """The runs of the next epoch."""
        plan = self._plan
        last_start = len(self._values) - plan.run_chunks * plan.chunk_steps
        starts = self._random.integers(0, last_start + 1, plan.batch_size)
        num_cold = math.ceil(plan.cold_share * plan.batch_size)
        starts[num_cold:] = np.maximum(starts[num_cold:], self._memory_steps)
        before = starts[num_cold:, None] + np.arange(-self._memory_steps, 0)
        rows = starts[:, None] + np.arange(plan.run_chunks * plan.chunk_steps)
        return Epoch(
            num_cold=num_cold,
            history=torch.from_numpy(self._values[before]),
            values=torch.from_numpy(self._values[rows]),
            future=torch.from_numpy(self._future[rows]),
            counts=torch.from_numpy(self._counts[rows]),
            chunk_steps=plan.chunk_steps,
        )


@dataclass(frozen=True)
class Epoch:
    """Runs side by side, B of them, the cold ones first.

    Attributes:
        num_cold: Runs that start cold.
        history: The steps before the others, [B - num_cold, R, F].
        values: [B, N, F].
        future: [B, N, K] or, for several targets, [B, N, M, K].
        counts: Which futures count, in the same shape.
        chunk_steps: Length of a chunk.
    """

    num_cold: int
    history: Tensor
    values: Tensor
    future: Tensor
    counts: Tensor
    chunk_steps: int

    def begin(self, network: Forecaster) -> tuple[Tensor, ...]:
        """The states before the first chunk."""
        cold = network.initial_state(self.num_cold)
        if not len(self.history):
            return cold
        warm = network.warm_state(self.history)
        axes = [pair.batch_axis or 0 for pair in network.state_pairs()]
        return tuple(torch.cat(both, axis) for *both, axis in zip(cold, warm, axes, strict=True))

    def chunks(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Values, futures and which of them count, [B, T, ...] each, chunk after chunk."""
        parts = (torch.split(t, self.chunk_steps, 1) for t in (self.values, self.future, self.counts))
        yield from zip(*parts, strict=True)
