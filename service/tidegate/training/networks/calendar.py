"""The calendar as the cells see it: for each cycle a few bins, each 1 at its place and 0 at its neighbours'."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tidegate.model.calendar_features import CalendarCycle

NUM_BINS: dict[CalendarCycle, int] = {
    "minute-of-hour": 12,
    "hour-of-day": 24,
    "day-of-week": 7,
    "day-of-month": 31,
    "day-of-year": 12,
}


class CalendarBins(nn.Module):
    """Bins from the sine and cosine of each cycle's phase.

    With the phase p, the k-th bin of n is

        relu(1 - (1 - cos(p - 2 pi k / n)) / (1 - cos(2 pi / n)))

    so a phase between two places is in both of their bins.
    """

    directions: Tensor
    height: Tensor

    def __init__(self, cycles: Sequence[CalendarCycle]) -> None:
        """Lay out the bins of some cycles, in the order in which their features come."""
        super().__init__()
        counts = [NUM_BINS[cycle] for cycle in cycles]
        directions = torch.zeros(2 * len(counts), sum(counts), dtype=torch.float64)
        height = torch.zeros(sum(counts), dtype=torch.float64)
        first = 0
        for k, count in enumerate(counts):
            own = slice(first, first + count)
            places = 2 * math.pi * torch.arange(count, dtype=torch.float64) / count
            rise = 1 / (1 - math.cos(2 * math.pi / count))
            directions[2 * k, own] = torch.sin(places) * rise
            directions[2 * k + 1, own] = torch.cos(places) * rise
            height[own] = 1 - rise
            first += count
        self.register_buffer("directions", directions.float())
        self.register_buffer("height", height.float())

    @property
    def num_outputs(self) -> int:
        """Bins of all cycles."""
        return len(self.height)

    def forward(self, calendar: Tensor) -> Tensor:
        """Bins [B, T, bins] from sines and cosines [B, T, 2 * cycles]."""
        return torch.relu(calendar @ self.directions + self.height)
