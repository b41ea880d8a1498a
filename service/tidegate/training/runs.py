"""The training rows as runs, side by side: where each begins, and what it reads in each epoch.

A run that begins anew is cold, as a new session is: nothing of it is carried. The others go on at the row
where they stopped, and whoever trains carries their states, so that states grow as old as a session's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tidegate.tensor import BoolArray
from tidegate.training.data import Series
from tidegate.training.training_recipe import TrainingRecipe


class Chunk(NamedTuple):
    """The next rows of each run.

    Attributes:
        values: [B, T, F].
        future: What forecasts made there speak of, [B, T, K] or [B, T, M, K].
        counts: Which futures count, in the same shape.
    """

    values: Tensor
    future: Tensor
    counts: Tensor


class Runs:
    """Draws the runs of each epoch. Everything that decides on the next one is in `snapshot`."""

    def __init__(
        self, series: Series, rows: slice, num_horizons: int, plan: TrainingRecipe, device: torch.device
    ) -> None:
        """Place every run behind the end, so that all begin anew.

        Args:
            series: The data.
            rows: The training split; at least `plan.run_steps` rows.
            num_horizons: Steps that each forecast reaches ahead, K.
            plan: Sizes, seed and the share of runs that begin anew.
            device: Takes the rows.
        """
        future, counts = series.futures(num_horizons, rows)
        self._values = torch.from_numpy(series.values[rows]).to(device)
        self._future = torch.from_numpy(future).to(device)
        self._counts = torch.from_numpy(counts).to(device)
        self._plan = plan
        self._num_begun = max(round(plan.cold_share * plan.batch_size), plan.cold_share > 0)
        self._last_start = len(self._values) - plan.run_steps
        self._random = np.random.default_rng(plan.seed)
        self._next_rows = np.full(plan.batch_size, len(self._values))
        self._turn = 0

    def begin_epoch(self) -> BoolArray:
        """Begin some runs anew: those whose turn it is, and those that are at the end of the rows.

        Returns:
            Which are cold now, [B].
        """
        size = self._plan.batch_size
        starts = self._random.integers(0, self._last_start + 1, size)
        is_their_turn = (np.arange(size) - self._turn) % size < self._num_begun
        is_cold: BoolArray = is_their_turn | (self._next_rows > self._last_start)
        self._turn = (self._turn + self._num_begun) % size
        self._next_rows = np.where(is_cold, starts, self._next_rows)
        return is_cold

    def chunks(self) -> Iterator[Chunk]:
        """The rows of an epoch, chunk after chunk."""
        for _ in range(self._plan.run_chunks):
            rows = torch.from_numpy(self._next_rows[:, None] + np.arange(self._plan.chunk_steps))
            self._next_rows = self._next_rows + self._plan.chunk_steps
            rows = rows.to(self._values.device)
            yield Chunk(self._values[rows], self._future[rows], self._counts[rows])

    def snapshot(self) -> dict[str, Any]:
        """Between two epochs: what `restore` needs."""
        return {
            "random": self._random.bit_generator.state,
            "next_rows": self._next_rows.tolist(),
            "turn": self._turn,
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go on from a snapshot of runs through the same rows by the same plan."""
        self._random.bit_generator.state = snapshot["random"]
        self._next_rows = np.array(snapshot["next_rows"])
        self._turn = snapshot["turn"]
