"""How unlikely each new value was under the forecast that was made one step before it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from tidegate.model.manifest import BATCH, Dim
from tidegate.tensor import Array, BoolArray
from tidegate.training.networks.scaling import constant
from tidegate.training.states import Carried

KNOTS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)
"""Scores at which the map from surprise to score is fixed; straight lines lie between them."""

MIN_BEYOND = 5
"""A knot needs so many values that are more surprising; higher ones are left to the curve behind the last."""

TINY = 1e-6
"""Distances are at least this, so that nothing is divided by 0."""


class AnomalyScore(nn.Module):
    """Scores in [0, 1]: 0.99 for a value as unlikely as the most unlikely hundredth of those calibrated on.

    The surprise of a value is |2 F - 1|, F being where it lies in the forecast: the level of a quantile at
    that quantile, on a straight line between two of them, and beyond the outer ones on the line through the
    outer two. Knots measured by `calibrate` turn surprise into a score; beyond the last of them the score
    goes to 1 as 1 - exp. A missing value scores 0, and so does a session's first.
    """

    smallest: Tensor
    knots: Tensor
    scores: Tensor
    tail: Tensor

    def __init__(self, levels: Sequence[float], smallest: Array) -> None:
        """Score without calibration.

        Args:
            levels: Of the quantiles, Q of them, at least 3.
            smallest: Least distance of neighbouring quantiles that is believed, in the units of each target,
                [M].
        """
        super().__init__()
        self.levels = tuple(levels)
        num_targets = len(smallest)
        self.register_buffer("smallest", constant(smallest))
        self.register_buffer("knots", torch.tensor(KNOTS)[:, None].repeat(1, num_targets))
        self.register_buffer("scores", torch.tensor(KNOTS)[:, None].repeat(1, num_targets))
        self.register_buffer("tail", torch.ones(num_targets))

    @property
    def carried(self) -> tuple[Carried, ...]:
        """The quantiles that the newest value is held against, and whether there are any."""
        shape: tuple[Dim, ...] = (BATCH, len(self.smallest), len(self.levels))
        return (Carried("expected", shape), Carried("expects", (BATCH, 1)))

    def forward(
        self, x: Tensor, quantiles: Tensor, is_missing: Tensor | None, expected: Tensor, expects: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Score each step by the forecast of the one before.

        Args:
            x: The targets' values, [B, T, M].
            quantiles: Of the step after each, [B, T, M, Q].
            is_missing: 1 where a value is none, [B, T, M]; None: all are.
            expected: Quantiles of the first step, [B, M, Q].
            expects: 1 where there are any, else 0, [B, 1].

        Returns:
            Scores [B, T, M], `expected` and `expects` for the next call.
        """
        before = torch.cat([expected.unsqueeze(1), quantiles], 1)
        known = torch.cat([expects.unsqueeze(1), torch.ones_like(x[..., :1])], 1)
        score = self._calibrated(self.surprise(x, before[:, :-1])) * known[:, :-1]
        if is_missing is not None:
            score = score * (1 - is_missing)
        return score, before[:, -1], known[:, -1]

    def surprise(self, x: Tensor, quantiles: Tensor) -> Tensor:
        """|2 F - 1| of values [..., M] under quantiles [..., M, Q]."""
        last = len(self.levels) - 2
        position = torch.full_like(x, self.levels[0])
        for k in range(last + 1):
            low, high = quantiles[..., k], quantiles[..., k + 1]
            share = (x - low) / torch.maximum(high - low, self.smallest)
            if k > 0:
                share = torch.relu(share)
            if k < last:
                share = torch.clamp(share, max=1.0)
            position = position + (self.levels[k + 1] - self.levels[k]) * share
        return torch.abs(2 * position - 1)

    def calibrate(self, surprise: Array, counts: BoolArray) -> None:
        """Fix the map so that scores are spread evenly over [0, 1] here.

        Args:
            surprise: Of past values, [N, M].
            counts: Which of them to look at, [N, M]; for each target at least two.
        """
        for k, (values, looked_at) in enumerate(zip(surprise.T, counts.T, strict=True)):
            found = np.sort(values[looked_at].astype(np.float64))
            scores = np.minimum(KNOTS, max(0.0, 1 - MIN_BEYOND / len(found)))
            knots = np.quantile(found, scores)
            beyond = found[found > knots[-1]] - knots[-1]
            self.knots[:, k], self.scores[:, k] = constant(knots), constant(scores)
            self.tail[k] = max(float(beyond.mean()) if len(beyond) else 0.0, TINY)

    def _calibrated(self, surprise: Tensor) -> Tensor:
        score = torch.zeros_like(surprise)
        for k in range(len(KNOTS) - 1):
            width = torch.clamp(self.knots[k + 1] - self.knots[k], min=TINY)
            share = torch.clamp((surprise - self.knots[k]) / width, 0.0, 1.0)
            score = score + (self.scores[k + 1] - self.scores[k]) * share
        beyond = torch.relu(surprise - self.knots[-1]) / self.tail
        return score + (1 - self.scores[-1]) * (1 - torch.exp(-beyond))
